"""One look for every figure: sizes, type, colours that stay with their method, files of stable bytes."""

from __future__ import annotations

import logging
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import cycle
from math import ceil

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from spotwise.constants import CONTROL
from spotwise.runtime.files import atomic

MM = 1 / 25.4  # inch
COLUMN_WIDTH, PAGE_WIDTH, PAGE_HEIGHT = 85 * MM, 180 * MM, 240 * MM

RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine sets the same text
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "figure.titlesize": 8,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 0.8,
    "hatch.linewidth": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text for whoever edits the figure
    "figure.dpi": 100,
}
PNG_DPI = 300
TICK_WIDTH = 6 * MM  # of a tick label and the gap beside it
TITLE_SHARE = 0.94  # of the place of a panel, which the titles beside it must not touch
FOOT_CHARACTER = 3.5  # mean width of a character of 6 pt, points

# The paper's Fig. 2 has CMRCNet green, BLEEP orange, HisToGene blue and STNet pink; kept, in tones that stay apart
# under deuteranopia (at least 15 CIELAB units between any two).
METHOD_COLOURS = {
    "CMRCNet": "#009E73",
    "CMRCNet-paper": "#1E5A2A",
    "BLEEP": "#E69F00",
    "BLEEP-ViT": "#8C3B00",
    "HisToGene": "#0072B2",
    "STNet": "#CC79A7",
    "CTransPath": "#5FC3F5",
    "NH2ST": "#332288",
    "EGN": "#8A1453",
    "Ridge": "#C9D65B",
    "KNNImage": "#8E8B2B",
}
SPARE_COLOURS = ("#5879FD", "#F0645A", "#A3E0B8", "#F7C9DD")
LIGHTEST_CONTROL, DARKEST_CONTROL = 0.82, 0.45

# Methods that share a colour, in order. The first is plain; numbers of hatches and of shades have no common divisor, so
# that no two of the next 36 agree in both.
METHOD_HATCHES = ("\\\\\\\\\\", "-----", "ooo", "|||||", "+++++", "OO", "\\\\\\---", "---...", "\\\\\\ooo")
METHOD_SHADES = (0.35, -0.3, 0.6, -0.5)  # share of white mixed in, or of black where negative
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h", "d")

# predictors of one method, in order: share of white mixed in, and hatch
VARIANTS = ((0.0, ""), (0.35, "/////"), (0.6, "....."), (0.75, "xxxxx"))

UNDEFINED = "#BDBDBD"  # where a correlation does not exist


@dataclass(frozen=True)
class Look:
    """How a method or predictor is drawn wherever it appears: the fill of boxes and bars, the marker of points."""

    colour: str
    hatch: str
    marker: str


def page() -> AbstractContextManager:
    """Context in which every figure is drawn and saved."""
    return matplotlib.rc_context(RC)


def method_looks(methods: Sequence[str], controls: Sequence[str] = ()) -> dict[str, Look]:
    """Fix a look for every method, and a grey for every control.

    Parameters
    ----------
    methods
        All methods of the run, in the config's order. Published methods keep their colour whatever stands beside them.
        A method named after one of them (``CMRCNet-mask30``) takes its colour in another shade, with a hatch and a
        marker of its own. Others take the spare colours in this order; from the first again, told apart in the same
        way, when there are more of them than spare colours.
    controls
        All controls of the run, in the config's order, light to dark.
    """
    spare, holders = cycle(SPARE_COLOURS), Counter()
    looks = {}
    for name in dict.fromkeys(methods):
        family = _family(name)
        colour = METHOD_COLOURS[family] if family else next(spare)
        # the plain look of a published method stays its own, whether it is among the methods or not
        place = 0 if family == name else holders[colour] + bool(family)
        holders[colour] += family != name
        looks[name] = _look_of_holder(colour, place)
    greys = np.linspace(LIGHTEST_CONTROL, DARKEST_CONTROL, max(len(controls), 2))
    for name, grey, marker in zip(controls, greys, cycle(MARKERS), strict=False):
        looks[name] = Look(to_hex((grey,) * 3), "", marker)
    return looks


def _family(method: str) -> str | None:
    """The published method that ``method`` is, or is a variant of by its name."""
    published = [name for name in METHOD_COLOURS if method == name or method.startswith(f"{name}-")]
    return max(published, key=len, default=None)


def _look_of_holder(colour: str, place: int) -> Look:
    """Look of the method at a ``place`` among those that share a colour; the first, 0, has it plain."""
    if place == 0:
        return Look(colour, "", MARKERS[0])
    shade = METHOD_SHADES[(place - 1) % len(METHOD_SHADES)]
    shaded = lighten(colour, shade) if shade > 0 else darken(colour, -shade)
    return Look(shaded, METHOD_HATCHES[(place - 1) % len(METHOD_HATCHES)], MARKERS[place % len(MARKERS)])


def predictor_looks(predictors: Mapping[str, Sequence[str]], drawn: Sequence[str] | None = None) -> dict[str, Look]:
    """Give every predictor its method's look, told apart from the method's other predictors by lightness and hatch.

    Parameters
    ----------
    predictors
        Every predictor of the run -> its method and kind (`METHOD` or `CONTROL`), in display order. All
        of them, whatever is drawn, so that a look is the same in every figure.
    drawn
        Which of them to return, in this order; default: all.
    """
    kinds = dict(predictors.values())
    controls = [method for method, kind in kinds.items() if kind == CONTROL]
    methods = method_looks([method for method in kinds if method not in controls], controls)
    looks, seen = {}, Counter()
    for predictor, (method, _) in predictors.items():
        look = methods[method]
        white, hatch = VARIANTS[seen[method] % len(VARIANTS)]
        looks[predictor] = replace(look, colour=lighten(look.colour, white), hatch=look.hatch + hatch)
        seen[method] += 1
    return {name: looks[name] for name in (predictors if drawn is None else drawn)}


def lighten(colour: str, white: float) -> str:
    """Mix a share of white (0 to 1) into a colour."""
    return to_hex([white + (1 - white) * channel for channel in to_rgb(colour)])


def darken(colour: str, black: float) -> str:
    """Mix a share of black (0 to 1) into a colour."""
    return to_hex([(1 - black) * channel for channel in to_rgb(colour)])


def wrap(n_panels: int, max_columns: int) -> tuple[int, int]:
    """Rows and columns of a grid for ``n_panels``, as even as ``max_columns`` allows."""
    rows = ceil(n_panels / max_columns)
    return rows, ceil(n_panels / rows)


def title(name: str, width: float) -> str:
    """Break a predictor's name after hyphens, so that it fits over a panel that has ``width`` inches with its gap."""
    lines = [""]
    for part in re.split("(?<=-)(?=[A-Za-z])", name):  # a number stays with its word
        if lines[-1] and text_width(lines[-1] + part, RC["axes.titlesize"]) > TITLE_SHARE * width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def text_width(text: str, size: float) -> float:
    """Width in inches of a line set in ``size`` points."""
    return TextPath((0, 0), text, size=size, prop=FontProperties(family=RC["font.family"])).get_extents().width / 72


def plain(name: str) -> str:
    """A name from data as text: between two dollar signs matplotlib would read mathematics."""
    return name.replace("$", r"\$")


def gene_set_title(name: str) -> str:
    """Write a gene set (`gene_sets.gene_set_columns`) for a heading: ``top 50 HEG``, ``marker genes``."""
    kind, _, size = name.partition("_top")
    return f"top {size} {kind}" if size else f"{kind} genes"


def panel_grid(n_panels: int) -> tuple[int, int]:
    """Rows and columns of a grid of small panels over the page: 6 beside each other, 8 where there are many."""
    return wrap(n_panels, 6 if n_panels <= 18 else 8)


def number(value: float) -> str:
    """A correlation as text: two decimals, a true minus sign, a dash where there is none."""
    rounded = round(float(value), 2) + 0.0  # no minus at a rounded zero
    return "–" if np.isnan(value) else f"{rounded:.2f}".replace("-", "−")


def run_title(run: Mapping[str, object]) -> str:
    """Write the slide and protocol of a prediction (its `constants.RUN_FIELDS`) for a figure's heading."""
    return f"{run['sample']} ({run['cohort']}, {run['protocol']} protocol)"


def require_one(scores: pd.DataFrame, *columns: str) -> None:
    """Raise `ValueError` unless each of these columns holds one value: a figure of one slide must not mix two."""
    for column in columns:
        if (n := scores[column].nunique()) != 1:
            raise ValueError(f"a figure of one {column} was given scores of {n}")


def looks_of(looks: Mapping[str, Look], drawn: Iterable[str]) -> dict[str, Look]:
    """The looks of the predictors that there is something to draw of, in their order."""
    present = set(drawn)
    return {name: look for name, look in looks.items() if name in present}


def write_at_edge(ax: Axes, place: float, text: str, width: float, colour: str = "black") -> None:
    """Write beside row ``place`` of a panel, in a column of ``width`` inches at its right edge."""
    column = ax.get_yaxis_transform() + ScaledTranslation(-width, 0, ax.figure.dpi_scale_trans)
    ax.text(1, place, text, transform=column, va="center_baseline", size=6, color=colour)


def leave_room(ax: Axes, width: float) -> None:
    """Widen an axis to the right by a column of ``width`` inches, for `write_at_edge`; shared axes follow."""
    ax.figure.draw_without_rendering()  # the layout decides how wide panels are
    panel_width = ax.get_window_extent().width / ax.figure.dpi
    left, right = ax.get_xlim()
    share = width / panel_width
    ax.set_xlim(left, right + (right - left) * share / (1 - share))
    ax.xaxis.set_major_locator(MaxNLocator(min(8, int(panel_width / TICK_WIDTH)), steps=[1, 2, 5, 10]))


def label_edges(axes: np.ndarray, n_panels: int, x: str, y: str) -> None:
    """Name the axes of a grid with shared axes at its left and under the lowest panel of each column.

    The last row may not be full: panels over its empty places then carry the tick labels.
    """
    columns = axes.shape[1]
    for ax in axes.flat[max(0, n_panels - columns) : n_panels]:
        ax.set_xlabel(x)
        ax.tick_params(axis="x", labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)


def foot(fig: Figure, text: str) -> None:
    """Write what a reader must know under a figure of constrained layout, in lines as long as the figure is wide."""
    fig.supxlabel(textwrap.fill(text, int(fig.get_figwidth() * 72 / FOOT_CHARACTER)), size=6)


def save(fig: Figure, pdf: str | os.PathLike, png: str | os.PathLike) -> None:
    """Write a figure as vector PDF and as PNG of 300 dpi, atomically.

    Dates and versions are kept out of the files: the same figure gives the same bytes.
    """
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of each table of a font that it drops
    with page():
        for path, options in (
            (pdf, {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}}),
            (png, {"metadata": {"Software": None}}),
        ):
            with atomic(path) as temporary:
                fig.savefig(temporary, dpi=PNG_DPI, **options)
