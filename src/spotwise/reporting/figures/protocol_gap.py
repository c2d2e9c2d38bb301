"""Mean PCC of each predictor under both protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spotwise.constants import PAPER, PATIENT
from spotwise.evaluation.averages import slide_means
from spotwise.evaluation.gene_sets import gene_set_columns
from spotwise.reporting.figures import style
from spotwise.reporting.number_format import number

MAX_COHORTS_PER_BAND = 6
ROW_HEIGHT = 2.5 * style.MM  # room for one line of 6 pt
TITLES_HEIGHT, FOOT_HEIGHT = 10 * style.MM, 14 * style.MM
GAP_WIDTH = 7 * style.MM  # of ``+0.12``
POINT = {"marker": "o", "markersize": 3.2, "markeredgewidth": 0.8, "linestyle": "none"}
EXPLANATION = (
    "● paper, ○ patient protocol: mean PCC over seeds and over the slides that both test, equally weighted. Right: "
    "paper minus patient."
)


def slide_gaps(scores: pd.DataFrame, top: int) -> pd.DataFrame:
    """Average the PCC of every predictor under both protocols over the same slides.

    Table 1 averages folds, and a fold of `patient` may hold several slides, so its two means weigh slides differently.
    Here every slide has equal weight.

    Returns
    -------
    DataFrame
        cohort, predictor, gene_set, paper, patient, gap (paper minus patient). Cohorts with one protocol are left out.
    """
    sets = gene_set_columns([top])
    keys = ["cohort", "predictor", "sample", "protocol"]
    slides = slide_means(scores, [top]).groupby(keys, sort=False)[sets].mean()
    both = slides.rename_axis(columns="gene_set").stack().unstack("protocol").reindex(columns=[PAPER, PATIENT]).dropna()
    means = both.groupby(["cohort", "predictor", "gene_set"], sort=False).mean()
    return means.assign(gap=means[PAPER] - means[PATIENT]).rename_axis(columns=None).reset_index()


@style.page()
def draw_protocol_gap(
    scores: pd.DataFrame, looks: Mapping[str, style.Look], top: int, cohorts: Sequence[str] = ()
) -> Figure:
    """Draw the mean PCC of every predictor under both protocols.

    A filled point (paper) and an open point (patient) are joined by a line.

    Parameters
    ----------
    scores
        Rows of both protocols.
    looks, top, cohorts
        As in `reporting.figures`.

    Raises
    ------
    ValueError
        If no cohort has slides that both protocols test.
    """
    gaps = slide_gaps(scores, top).set_index(["cohort", "gene_set", "predictor"]).sort_index()
    if gaps.empty:
        raise ValueError("no cohort has slides that both protocols test")
    present = set(gaps.index.get_level_values("cohort"))
    cohorts = [name for name in style.in_order(scores["cohort"], cohorts) if name in present]
    looks = style.looks_of(looks, gaps.index.get_level_values("predictor"))
    sets = gene_set_columns([top])
    bands, per_band = style.wrap(len(cohorts), MAX_COHORTS_PER_BAND)
    shape = (bands * len(sets), per_band) if len(cohorts) > 1 else (1, len(sets))
    height = shape[0] * (TITLES_HEIGHT + len(looks) * ROW_HEIGHT) + FOOT_HEIGHT
    fig, axes = style.panels((style.PAGE_WIDTH, height), shape, sharex=True, sharey=True)
    for place, cohort in enumerate(cohorts):
        band, column = divmod(place, per_band)
        panels = axes[band * len(sets) : (band + 1) * len(sets), column] if len(cohorts) > 1 else axes[0]
        scored = [gene_set for gene_set in sets if (cohort, gene_set) in gaps.index]  # a cohort may have no markers
        for ax, gene_set in zip(panels, scored, strict=False):
            _draw_gaps(ax, gaps.loc[cohort, gene_set], looks)
            ax.set_title(f"{cohort}\n{style.gene_set_title(gene_set)}")
        panels[len(scored) - 1].tick_params(axis="x", labelbottom=True)
    style.hide_empty(axes)
    for ax in axes[-1]:
        ax.set_xlabel("mean PCC")
    style.leave_room(axes[0, 0], GAP_WIDTH)
    style.foot(fig, EXPLANATION)
    return fig


def _draw_gaps(ax: Axes, gaps: pd.DataFrame, looks: Mapping[str, style.Look]) -> None:
    ax.axvline(0, color="black", linewidth=0.5, zorder=0)
    for place, (predictor, look) in enumerate(looks.items()):
        if predictor not in gaps.index:
            continue
        row = gaps.loc[predictor]
        ax.plot([row[PAPER], row[PATIENT]], [place, place], color=look.colour, linewidth=1.5, zorder=1)
        for protocol, face in ((PAPER, look.colour), (PATIENT, "white")):
            ax.plot(row[protocol], place, **POINT, markerfacecolor=face, markeredgecolor=look.colour)
        gap = number(row["gap"])
        style.write_at_edge(ax, place, gap if gap.startswith(("−", "0.00")) else f"+{gap}", GAP_WIDTH)
    style.name_rows(ax, looks)
