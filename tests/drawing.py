"""What can be read back from a figure."""

from matplotlib.text import Text


def extents(fig):
    """Every text that the figure shows with its place in pixels of a print."""
    fig.set_dpi(300)
    fig.draw_without_rendering()
    hidden = set()
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            places = axis.get_majorticklocs()
            shown = [low <= place <= high for place in places]
            for tick, inside in zip(axis.get_major_ticks(), shown, strict=True):
                hidden |= set() if inside and ax.get_visible() else {tick.label1, tick.label2}
    visible = (text for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip())
    return [
        (text.get_text(), text.get_window_extent())
        for text in visible
        if text not in hidden and (text.axes is None or text.axes.get_visible())
    ]


def misplaced(fig):
    """Texts that leave the figure, and pairs of them that run into each other."""
    texts = extents(fig)
    page = fig.bbox.padded(1)
    faults = [text for text, box in texts if not (page.contains(*box.min) and page.contains(*box.max))]
    for place, (text, box) in enumerate(texts):
        for other, beside in texts[:place]:
            width = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            height = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            if width > 2 and height > 3:  # a hair is no fault
                faults.append((text, other))
    return faults
