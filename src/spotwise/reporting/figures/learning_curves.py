"""Learning curves with the epoch of the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spotwise.errors import InputError
from spotwise.reporting.figures import style
from spotwise.reporting.tables.layout import plural

MAX_COLUMNS = 4
PANEL_HEIGHT = 42 * style.MM
LEGEND_HEIGHT = 8 * style.MM
TRAIN, VALIDATION = "train_total", "val_total"
DASHES = {TRAIN: (3, 1.5), VALIDATION: ""}
BEST = {"marker": "o", "markersize": 3, "markeredgecolor": "black", "markeredgewidth": 0.5, "linestyle": "none"}


@style.page()
def draw_learning_curves(histories: Mapping[str, str | os.PathLike], looks: Mapping[str, style.Look]) -> Figure:
    """Draw the training and validation loss of every run per epoch.

    Each method has a panel. Circles mark the epoch of the lowest validation loss.

    ``histories`` maps the method and run, such as ``CMRCNet/fold0/seed1``, to history.tsv (epoch, train_total,
    val_total, ...), with methods in display order. ``looks`` maps methods to looks (`style.method_looks`).

    Raises
    ------
    InputError
        If a history lacks a column or has no epochs.
    """
    runs: dict[str, list[pd.DataFrame]] = {}
    for label, path in histories.items():
        runs.setdefault(label.split("/")[0], []).append(_read_history(path))
    rows, columns = style.wrap(len(runs), MAX_COLUMNS)
    width = style.COLUMN_WIDTH if columns == 1 else style.PAGE_WIDTH
    fig, axes = style.panels((width, rows * PANEL_HEIGHT + LEGEND_HEIGHT), (rows, columns))
    for ax, (method, histories_of_method) in zip(axes.flat, runs.items(), strict=False):
        _draw_curves(ax, histories_of_method, looks[method].colour)
        ax.set_title(f"{method}, {plural(len(histories_of_method), 'run')}")
    style.hide_empty(axes)
    for ax in axes[:, 0]:
        ax.set_ylabel("total loss")
    legend = [
        Line2D([], [], color="0.55", linestyle=(0, DASHES[TRAIN]), label="training"),
        Line2D([], [], color="0.2", label="validation"),
        Line2D([], [], color="0.2", label="best epoch", **BEST),
    ]
    fig.legend(handles=legend, loc="outside lower center", ncols=3)
    return fig


def _read_history(path: str | os.PathLike) -> pd.DataFrame:
    history = pd.read_csv(path, sep="\t")
    if missing := [column for column in ("epoch", TRAIN, VALIDATION) if column not in history]:
        raise InputError(path, "columns", list(history.columns), "also " + ", ".join(missing))
    if history.empty:
        raise InputError(path, "rows", "no epochs", "a row per epoch")
    return history


def _draw_curves(ax: Axes, histories: list[pd.DataFrame], colour: str) -> None:
    curves = pd.concat(histories, keys=range(len(histories)), names=["run"]).reset_index("run")
    sns.lineplot(
        curves.melt(["run", "epoch"], [TRAIN, VALIDATION], "part", "loss"),
        x="epoch",
        y="loss",
        hue="part",
        style="part",
        units="run",
        estimator=None,
        palette={TRAIN: style.lighten(colour, 0.35), VALIDATION: colour},
        dashes=DASHES,
        legend=False,
        ax=ax,
    )
    for history in histories:
        best = history.loc[history[VALIDATION].idxmin()]
        ax.plot(best["epoch"], best[VALIDATION], color=colour, zorder=3, **BEST)
    ax.set_ylabel("")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
