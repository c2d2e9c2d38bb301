"""Learning curves: whether training converged, and where the checkpoint was taken."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pandas as pd
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


def learning_curves(
    histories: Mapping[str, str | os.PathLike],
    looks: Mapping[str, style.Look],
    pdf: str | os.PathLike,
    png: str | os.PathLike,
) -> None:
    """Draw training and validation loss per epoch: a panel per method, a pair of lines per run, best epochs marked.

    Parameters
    ----------
    histories
        Label -> history.tsv (epoch, train_total, val_total, ...). The label's part before the first ``/`` is the
        method, the rest names the run: ``CMRCNet/fold0/seed1``. Methods appear in this order.
    looks
        Method -> look (`style.method_looks`).
    pdf, png
        Files to write.

    Raises
    ------
    InputError
        A history lacks a column or has no epoch.
    """
    runs: dict[str, list[pd.DataFrame]] = {}
    for label, path in histories.items():
        runs.setdefault(label.split("/")[0], []).append(_read_history(path))
    rows, columns = style.wrap(len(runs), MAX_COLUMNS)
    with style.page():
        width = style.COLUMN_WIDTH if columns == 1 else style.PAGE_WIDTH
        fig = Figure(figsize=(width, rows * PANEL_HEIGHT + LEGEND_HEIGHT), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False)
        for ax, (method, curves) in zip(axes.flat, runs.items(), strict=False):
            _draw_curves(ax, curves, looks[method].colour)
            ax.set_title(f"{method}, {plural(len(curves), 'run')}")
        for ax in axes.flat[len(runs) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel("total loss")
        fig.legend(handles=_legend(), loc="outside lower center", ncols=3)
        style.save(fig, pdf, png)


def _read_history(path: str | os.PathLike) -> pd.DataFrame:
    history = pd.read_csv(path, sep="\t")
    if missing := [column for column in ("epoch", TRAIN, VALIDATION) if column not in history]:
        raise InputError(path, "columns", list(history.columns), "also " + ", ".join(missing))
    if history.empty:
        raise InputError(path, "rows", "no epoch", "a row per epoch")
    return history


def _draw_curves(ax: Axes, curves: list[pd.DataFrame], colour: str) -> None:
    for history in curves:
        ax.plot(history["epoch"], history[TRAIN], color=style.lighten(colour, 0.35), linestyle=(0, (3, 1.5)))
        ax.plot(history["epoch"], history[VALIDATION], color=colour)
        best = history.loc[history[VALIDATION].idxmin()]
        ax.plot(best["epoch"], best[VALIDATION], **_best_marker(colour))
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _best_marker(colour: str) -> dict:
    return {"marker": "o", "markersize": 3, "markerfacecolor": colour, "markeredgecolor": "black"} | {
        "markeredgewidth": 0.5,
        "linestyle": "none",
        "zorder": 3,
    }


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color="0.55", linestyle=(0, (3, 1.5)), label="training"),
        Line2D([], [], color="0.2", label="validation"),
        Line2D([], [], label="best epoch", **_best_marker("0.2")),
    ]
