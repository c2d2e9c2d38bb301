"""Wall time of trainings, fits and embeddings."""

from __future__ import annotations

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
    "Points: jobs; bar: median. Right: number of jobs, total hours and device. The time of an interrupted training is "
    "unknown."
)


@style.page()
def draw_training_costs(costs: pd.DataFrame, looks: Mapping[str, style.Look]) -> Figure:
    """Draw the wall time of each training, fit and embedding as a point.

    ``costs`` has the jobs of `training_costs.collect_job_costs`, whose order gives the rows, one per method or encoder.
    ``looks`` maps methods to looks (`style.method_looks`). Encoders are dark grey.
    """
    table = cost_table(costs)
    fig, axes = style.panels((style.PAGE_WIDTH, len(table) * ROW_HEIGHT + FOOT_HEIGHT), (1, 1))
    ax = axes.item()
    for place, row in enumerate(table.itertuples()):
        seconds = costs.loc[costs["name"].eq(row.name) & costs["step"].eq(row.step), "seconds"].dropna()
        colour = ENCODER_COLOUR if row.step == EMBEDDING else looks[row.name].colour
        _draw_jobs(ax, place, seconds, colour)
        ax.text(1.01, place, _remark(row), transform=ax.get_yaxis_transform(), va="center", size=6)
    style.name_rows(ax, (_label(row) for row in table.itertuples()))
    _draw_time_axis(ax, costs["seconds"])
    style.foot(fig, EXPLANATION)
    return fig


def _draw_jobs(ax: Axes, place: int, seconds: pd.Series, colour: str) -> None:
    # the jitter of seaborn's stripplot is random, and would change the file
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


def _draw_time_axis(ax: Axes, seconds: pd.Series) -> None:
    """Label a logarithmic axis in seconds, minutes and hours."""
    ax.set(xscale="log", xlabel="wall time of a job")
    known = seconds.dropna()
    if len(known):  # extend to the next labelled time on either side
        first = max((time for time in TIMES if time <= known.min()), default=known.min())
        last = min((time for time in TIMES if time >= known.max()), default=known.max())
        ax.set_xlim(first / 1.2, last * 1.2)
    ax.xaxis.set_major_locator(FixedLocator(list(TIMES)))
    ax.xaxis.set_major_formatter(lambda time, _: TIMES[time])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(axis="x", color="0.88", linewidth=0.4)
    ax.set_axisbelow(True)
