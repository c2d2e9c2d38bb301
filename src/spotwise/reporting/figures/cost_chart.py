"""What training each method cost."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from spotwise.evaluation.training_costs import EMBEDDING, FIT, cost_table
from spotwise.reporting.figures import style
from spotwise.reporting.tables.layout import plural

ROW_HEIGHT = 4 * style.MM
FOOT_HEIGHT = 24 * style.MM
TIMES = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h", 360000: "100 h"}
ENCODER_COLOUR = "#4D4D4D"
EXPLANATION = (
    "A point per job; bar: median. At the right: number of jobs, their hours in all, and what they ran on. The time of "
    "a training that was interrupted is not known."
)


def draw_training_costs(
    costs: pd.DataFrame, looks: Mapping[str, style.Look], pdf: str | os.PathLike, png: str | os.PathLike
) -> None:
    """Draw the wall time of every training, fit and embedding: a row per method and encoder, a point per job.

    Parameters
    ----------
    costs
        As from `costs.read_costs`; rows appear in its order.
    looks
        Method -> look (`style.method_looks`); encoders are dark grey.
    pdf, png
        Files to write.
    """
    table = cost_table(costs)
    with style.page():
        fig = Figure(figsize=(style.PAGE_WIDTH, len(table) * ROW_HEIGHT + FOOT_HEIGHT), layout="constrained")
        ax = fig.subplots()
        for place, row in enumerate(table.itertuples()):
            seconds = costs.loc[costs["name"].eq(row.name) & costs["step"].eq(row.step), "seconds"].dropna()
            colour = ENCODER_COLOUR if row.step == EMBEDDING else looks[row.name].colour
            _draw_jobs(ax, place, seconds, colour)
            ax.text(1.01, place, _remark(row), transform=ax.get_yaxis_transform(), va="center", size=6)
        ax.set_yticks(range(len(table)), [_label(row) for row in table.itertuples()])
        ax.set_ylim(len(table) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        _time_axis(ax, costs["seconds"])
        style.foot(fig, EXPLANATION)
        style.save(fig, pdf, png)


def _draw_jobs(ax: Axes, place: int, seconds: pd.Series, colour: str) -> None:
    jitter = np.linspace(-0.22, 0.22, len(seconds)) if len(seconds) > 1 else np.zeros(len(seconds))
    ax.plot(seconds, place + jitter, linestyle="none", marker="o", markersize=2, markeredgewidth=0, color=colour)
    if len(seconds):
        ax.plot([seconds.median()] * 2, [place - 0.38, place + 0.38], color="black", linewidth=1)


def _label(row) -> str:
    kinds = {EMBEDDING: f"{row.name}, a slide embedded", FIT: f"{row.name}, fit"}
    return kinds.get(row.step, row.name)


def _remark(row) -> str:
    jobs = plural(row.runs, "job") + (f" ({row.timed} timed)" if row.timed < row.runs else "")
    hours = "–" if np.isnan(row.hours) else f"{row.hours:.2g} h"
    return ", ".join(filter(None, (jobs, hours, row.device)))


def _time_axis(ax: Axes, seconds: pd.Series) -> None:
    ax.set(xscale="log", xlabel="wall time of a job")
    known = seconds.dropna()
    if len(known):  # to the next labelled time on either side
        first = max((time for time in TIMES if time <= known.min()), default=known.min())
        last = min((time for time in TIMES if time >= known.max()), default=known.max())
        ax.set_xlim(first / 1.2, last * 1.2)
    ax.xaxis.set_major_locator(FixedLocator(list(TIMES)))
    ax.xaxis.set_major_formatter(lambda time, _: TIMES[time])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(axis="x", color="0.88", linewidth=0.4)
    ax.set_axisbelow(True)
