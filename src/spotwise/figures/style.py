"""One look for every figure: sizes, type, colours that stay with their method, files of stable bytes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import cycle
from math import ceil

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from spotwise.files import atomic
from spotwise.metrics import CONTROL

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
}
SPARE_COLOURS = ("#5879FD", "#8E8B2B", "#A3E0B8", "#F0645A", "#F7C9DD")
LIGHTEST_CONTROL, DARKEST_CONTROL = 0.82, 0.45

# predictors of one method, in order: share of white mixed in, and hatch
VARIANTS = ((0.0, ""), (0.35, "/////"), (0.6, "....."), (0.75, "xxxxx"))

UNDEFINED = "#BDBDBD"  # where a correlation does not exist
EXPRESSION_UNIT = "log-normalised\nexpression"  # two lines fit a low colour bar


@dataclass(frozen=True)
class Look:
    """How a predictor is drawn wherever it appears."""

    colour: str
    hatch: str


def page() -> AbstractContextManager:
    """Context in which every figure is drawn and saved."""
    return matplotlib.rc_context(RC)


def method_colours(methods: Sequence[str], controls: Sequence[str] = ()) -> dict[str, str]:
    """Fix a colour for every method, and a grey for every control.

    Parameters
    ----------
    methods
        In the config's order. Published methods keep their colour whatever stands beside them; others take the spare
        ones in this order, from the first again when there are more of them than spare colours.
    controls
        In the config's order, light to dark.
    """
    spare = cycle(SPARE_COLOURS)
    colours = {name: METHOD_COLOURS.get(name) or next(spare) for name in dict.fromkeys(methods)}
    greys = np.linspace(LIGHTEST_CONTROL, DARKEST_CONTROL, max(len(controls), 2))
    return colours | {name: to_hex((grey,) * 3) for name, grey in zip(controls, greys, strict=False)}


def predictor_looks(scores: pd.DataFrame, order: Sequence[str], methods: Sequence[str] = ()) -> dict[str, Look]:
    """Give every predictor its method's colour, told apart from the method's other predictors by lightness and hatch.

    Parameters
    ----------
    scores
        Rows with predictor, method and kind.
    order
        Predictors to draw, in display order; those without scores are left out.
    methods
        All methods of the config, in its order, so that colours are those of the run's other figures.
    """
    runs = scores[["predictor", "method", "kind"]].drop_duplicates("predictor").set_index("predictor")
    runs = runs.reindex([name for name in order if name in runs.index])
    control = runs["kind"].eq(CONTROL)
    drawn, controls = runs.loc[~control, "method"].unique(), runs.loc[control, "method"].unique()
    colours = method_colours([*(name for name in methods if name not in controls), *drawn], controls)
    looks, seen = {}, Counter()
    for predictor, method in runs["method"].items():
        colour = colours[method]  # methods that share a spare colour differ by hatch, too
        white, hatch = VARIANTS[seen[colour] % len(VARIANTS)]
        looks[predictor] = Look(lighten(colour, white), hatch)
        seen[colour] += 1
    return looks


def lighten(colour: str, white: float) -> str:
    """Mix a share of white (0 to 1) into a colour."""
    return to_hex([white + (1 - white) * channel for channel in to_rgb(colour)])


def wrap(n_panels: int, max_columns: int) -> tuple[int, int]:
    """Rows and columns of a grid for ``n_panels``, as even as ``max_columns`` allows."""
    rows = ceil(n_panels / max_columns)
    return rows, ceil(n_panels / rows)


def number(value: float) -> str:
    """A correlation as text: two decimals, a true minus sign, a dash where there is none."""
    rounded = round(float(value), 2) + 0.0  # no minus at a rounded zero
    return "–" if np.isnan(value) else f"{rounded:.2f}".replace("-", "−")


def run_title(run: Mapping[str, object]) -> str:
    """Write the slide and protocol of a prediction (its `metrics.RUN_FIELDS`) for a figure's heading."""
    return f"{run['sample']} ({run['cohort']}, {run['protocol']} protocol)"


def save(fig: Figure, pdf: str | os.PathLike, png: str | os.PathLike) -> None:
    """Write a figure as vector PDF and as PNG of 300 dpi, atomically.

    Dates and versions are kept out of the files: the same figure gives the same bytes.
    """
    with page():
        for path, options in (
            (pdf, {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}}),
            (png, {"metadata": {"Software": None}}),
        ):
            with atomic(path) as temporary:
                fig.savefig(temporary, dpi=PNG_DPI, **options)
