"""Shared style of all figures: sizes, fonts, one colour per method, reproducible files.

Panels are drawn with seaborn's axes-level functions on matplotlib figures. Figure-level functions such as `relplot`
open their figures through pyplot, which keeps them in memory, and cannot lay out a title, legends and a footnote
together.
"""

from __future__ import annotations

import logging
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ContextDecorator
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
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same text on every machine
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
    "pdf.fonttype": 42,  # text stays editable
    "figure.dpi": 100,
}
PNG_DPI = 300
TICK_WIDTH = 6 * MM  # of a tick label and its gap
TITLE_SHARE = 0.94  # of a panel's width with its gap: neighbouring titles must not touch
FOOT_CHARACTER = 3.5  # mean width of a character of 6 pt, points

# As in the paper's Fig. 2, CMRCNet is green, BLEEP orange, HisToGene blue and STNet pink. Any two colours differ by at
# least 15 CIELAB units, also under deuteranopia.
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

# For methods that share a colour, in order; the first is plain. The numbers of hatches and shades have no common
# divisor, so no two of the next 36 methods agree in both.
METHOD_HATCHES = ("\\\\\\\\\\", "-----", "ooo", "|||||", "+++++", "OO", "\\\\\\---", "---...", "\\\\\\ooo")
METHOD_SHADES = (0.35, -0.3, 0.6, -0.5)  # share of white mixed in, or of black where negative
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h", "d")

# Predictors of one method, in order: share of white mixed in, and hatch
VARIANTS = ((0.0, ""), (0.35, "/////"), (0.6, "....."), (0.75, "xxxxx"))

UNDEFINED = "#BDBDBD"  # where a correlation is not defined


@dataclass(frozen=True)
class Look:
    """Colour, hatch and marker of a method or predictor in every figure."""

    colour: str
    hatch: str
    marker: str


def page() -> ContextDecorator:
    """Return the context, or decorator, in which every figure is drawn and saved."""
    return matplotlib.rc_context(RC)


def method_looks(methods: Sequence[str], controls: Sequence[str] = ()) -> dict[str, Look]:
    """Assign a look to every method and a grey to every control.

    Both lists name all of the run, in the order of the configuration. Published methods always keep their colour. A
    method named after one of them (``CMRCNet-mask30``) takes a shade of that colour, with its own hatch and marker. All
    others take the spare colours in turn, in shades once these are used up. Controls go from light to dark.
    """
    spare, holders = cycle(SPARE_COLOURS), Counter()
    looks = {}
    for name in dict.fromkeys(methods):
        family = _family(name)
        colour = METHOD_COLOURS[family] if family else next(spare)
        # the plain look is reserved for the published method, even if the run lacks it
        place = 0 if family == name else holders[colour] + bool(family)
        holders[colour] += family != name
        looks[name] = _look_of_holder(colour, place)
    greys = np.linspace(LIGHTEST_CONTROL, DARKEST_CONTROL, max(len(controls), 2))
    for name, grey, marker in zip(controls, greys, cycle(MARKERS), strict=False):
        looks[name] = Look(to_hex((grey,) * 3), "", marker)
    return looks


def _family(method: str) -> str | None:
    """Return the published method that a name stands for or is derived from."""
    published = [name for name in METHOD_COLOURS if method == name or method.startswith(f"{name}-")]
    return max(published, key=len, default=None)


def _look_of_holder(colour: str, place: int) -> Look:
    if place == 0:
        return Look(colour, "", MARKERS[0])
    shade = METHOD_SHADES[(place - 1) % len(METHOD_SHADES)]
    return Look(
        lighten(colour, shade), METHOD_HATCHES[(place - 1) % len(METHOD_HATCHES)], MARKERS[place % len(MARKERS)]
    )


def predictor_looks(predictors: Mapping[str, Sequence[str]], drawn: Sequence[str] | None = None) -> dict[str, Look]:
    """Assign each predictor its method's look, varied by lightness and hatch.

    ``predictors`` maps all predictors of the run, so that a look is the same in every figure, to method and kind, in
    display order. ``drawn`` are the predictors to return, in this order; all by default.
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


def lighten(colour: str, share: float) -> str:
    """Mix a share of white into a colour, or of black where negative."""
    return to_hex([max(share, 0) + (1 - abs(share)) * channel for channel in to_rgb(colour)])


def wrap(n_panels: int, max_columns: int) -> tuple[int, int]:
    """Return rows and columns of an even grid of at most ``max_columns``."""
    rows = ceil(n_panels / max_columns)
    return rows, ceil(n_panels / rows)


def title(name: str, width: float) -> str:
    """Break a predictor's name at hyphens to fit a panel of ``width`` inches."""
    lines = [""]
    for part in re.split("(?<=-)(?=[A-Za-z])", name):  # a number stays with its word
        if lines[-1] and text_width(lines[-1] + part, RC["axes.titlesize"]) > TITLE_SHARE * width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def text_width(text: str, size: float) -> float:
    """Return the width in inches of a line of text set in ``size`` points."""
    return TextPath((0, 0), text, size=size, prop=FontProperties(family=RC["font.family"])).get_extents().width / 72


def plain(name: str) -> str:
    """Escape dollar signs, which matplotlib would read as mathematics."""
    return name.replace("$", r"\$")


def gene_set_title(name: str) -> str:
    """Format a gene set for a heading, such as ``top 50 HEG`` or ``marker genes``."""
    kind, _, size = name.partition("_top")
    return f"top {size} {kind}" if size else f"{kind} genes"


def panel_grid(n_panels: int) -> tuple[int, int]:
    """Return rows and columns of a grid of small panels across the page."""
    return wrap(n_panels, 6 if n_panels <= 18 else 8)


def run_title(run: Mapping[str, object]) -> str:
    """Format the slide, cohort and protocol of a prediction for a heading."""
    return f"{run['sample']} ({run['cohort']}, {run['protocol']} protocol)"


def cohort_title(scores: pd.DataFrame) -> str:
    """Format the cohort and protocol of some scores for a heading."""
    return f"{scores['cohort'].iloc[0]}, {scores['protocol'].iloc[0]} protocol"


def require_one(scores: pd.DataFrame, *columns: str) -> None:
    """Raise `ValueError` unless each of these columns holds a single value."""
    for column in columns:
        if (n := scores[column].nunique()) != 1:
            raise ValueError(f"the figure shows one {column}, but the scores hold {n}")


def looks_of(looks: Mapping[str, Look], drawn: Iterable[str]) -> dict[str, Look]:
    """Return the looks of the predictors that occur in ``drawn``, in order."""
    present = set(drawn)
    return {name: look for name, look in looks.items() if name in present}


def in_order(present: Iterable[str], order: Sequence[str]) -> list[str]:
    """Return the distinct names in the given order, unlisted ones last."""
    present = dict.fromkeys(present)
    return [name for name in dict.fromkeys([*order, *present]) if name in present]


def panels(
    size: tuple[float, float], shape: tuple[int, int], heading: str = "", **shared: bool
) -> tuple[Figure, np.ndarray]:
    """Create a figure of constrained layout with a grid of panels.

    ``size`` is width and height in inches, ``shape`` rows and columns; ``shared`` holds ``sharex`` and ``sharey``.
    """
    fig = Figure(figsize=size, layout="constrained")
    if heading:
        fig.suptitle(heading)
    return fig, fig.subplots(*shape, squeeze=False, **shared)


def hide_empty(axes: np.ndarray) -> None:
    """Hide the panels of a grid in which nothing is drawn."""
    for ax in axes.flat:
        ax.set_visible(ax.has_data())


def name_rows(ax: Axes, names: Iterable[str]) -> None:
    """Label the rows of a panel from top to bottom."""
    names = list(names)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def write_at_edge(ax: Axes, place: float, text: str, width: float, colour: str = "black") -> None:
    """Write a text beside row ``place``, in a column of ``width`` inches at the right edge."""
    column = ax.get_yaxis_transform() + ScaledTranslation(-width, 0, ax.figure.dpi_scale_trans)
    ax.text(1, place, text, transform=column, va="center_baseline", size=6, color=colour)


def leave_room(ax: Axes, width: float) -> None:
    """Extend an x axis by a column of ``width`` inches for `write_at_edge`."""
    ax.figure.draw_without_rendering()  # the layout sets the width of the panels
    panel_width = ax.get_window_extent().width / ax.figure.dpi
    left, right = ax.get_xlim()
    share = width / panel_width
    ax.set_xlim(left, right + (right - left) * share / (1 - share))
    ax.xaxis.set_major_locator(MaxNLocator(min(8, int(panel_width / TICK_WIDTH)), steps=[1, 2, 5, 10]))


def foot(fig: Figure, text: str) -> None:
    """Write a footnote under a figure, wrapped to its width."""
    fig.supxlabel(textwrap.fill(text, int(fig.get_figwidth() * 72 / FOOT_CHARACTER)), size=6)


def save(fig: Figure, pdf: str | os.PathLike, png: str | os.PathLike) -> None:
    """Write a figure as PDF and as PNG of 300 dpi, atomically.

    The files hold no dates or versions, so the same figure gives the same bytes.
    """
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every font table that it drops
    with page():
        for path, options in (
            (pdf, {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}}),
            (png, {"metadata": {"Software": None}}),
        ):
            with atomic(path) as temporary:
                fig.savefig(temporary, dpi=PNG_DPI, **options)
