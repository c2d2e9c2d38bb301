"""Curves of the mean PCC against K, the number of retrieved spots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spotwise.evaluation.gene_sets import gene_set_columns
from spotwise.reporting.figures import style

MAX_METHODS_PER_ROW = 4
ROW_HEIGHT, FOOT_HEIGHT = 56 * style.MM, 12 * style.MM
EXPLANATION = (
    "Thick: mean over folds, where all folds have this K; thin: each fold, up to its whole bank, where all spots get "
    "the same prediction, which scores 0. Dotted: values of K that predictors of this run use."
)


@style.page()
def draw_top_k_curves(
    sweeps: pd.DataFrame, looks: Mapping[str, style.Look], configured: Sequence[int], top: int
) -> Figure:
    """Draw the mean PCC of each gene set against K.

    Each retrieval method has a thick line for the mean and a thin line per fold. ``top`` is the size of the lists.

    Parameters
    ----------
    sweeps
        Rows of one cohort and protocol: method, fold, seed, sample, k, bank, and the mean PCC of each gene set.
    looks
        Method -> look (`style.method_looks`), in display order. Methods without rows are left out.
    configured
        Values of K that predictors of the run use, marked by dotted lines.
    """
    style.require_one(sweeps, "cohort", "protocol")
    shown = list(style.looks_of(looks, sweeps["method"]))
    sets = gene_set_columns([top])
    rows, per_row = style.wrap(len(shown), MAX_METHODS_PER_ROW)
    fig = Figure(figsize=(style.PAGE_WIDTH, rows * ROW_HEIGHT + FOOT_HEIGHT), layout="constrained")
    fig.suptitle(style.cohort_title(sweeps))
    panels = []
    for row, part in enumerate(fig.subfigures(rows, 1, squeeze=False)[:, 0]):
        axes = part.subplots(1, len(sets))
        for method in shown[row * per_row : (row + 1) * per_row]:
            _draw_method(axes, sweeps[sweeps["method"].eq(method)], sets, method, looks[method])
        for ax, gene_set in zip(axes, sets, strict=True):
            _mark_configured(ax, [k for k in configured if k < sweeps["bank"].max()])
            ax.set_title(style.gene_set_title(gene_set), pad=9)
        axes[0].set_ylabel("mean PCC")
        part.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=per_row)
        panels += list(axes)
    lowest, highest = (pick(ax.get_ylim()[end] for ax in panels) for end, pick in enumerate((min, max)))
    for ax in panels:
        ax.set_ylim(lowest, highest)
    style.foot(fig, EXPLANATION)
    return fig


def fold_curves(sweep: pd.DataFrame, sets: Sequence[str]) -> pd.DataFrame:
    """Average one method's PCC by fold and K over slides and seeds."""
    return sweep.groupby(["fold", "k", "bank"])[list(sets)].mean().reset_index()


def mean_curve(folds: pd.DataFrame) -> pd.DataFrame:
    """Average over folds at each K that all folds have."""
    common = folds.groupby("k").filter(lambda rows: len(rows) == folds["fold"].nunique())
    return common.groupby("k").mean().reset_index()


def _draw_method(axes: Sequence[Axes], sweep: pd.DataFrame, sets: Sequence[str], method: str, look: style.Look) -> None:
    folds = fold_curves(sweep, sets)
    mean = mean_curve(folds)
    marker = {"marker": look.marker, "markersize": 3, "markeredgecolor": "white", "markeredgewidth": 0.3}
    for ax, gene_set in zip(axes, sets, strict=True):
        for _, fold in folds.groupby("fold"):
            ax.plot(fold["k"], fold[gene_set], color=look.colour, linewidth=0.4, alpha=0.6)
        ax.plot(mean["k"], mean[gene_set], color=look.colour, linewidth=1.2, label=method, **marker)
        ax.axhline(0, color="black", linewidth=0.5, zorder=0)
        ax.set(xscale="log", xlabel="K, number of retrieved spots")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())


def _mark_configured(ax: Axes, configured: Sequence[int]) -> None:
    for k in configured:
        ax.axvline(k, color="0.35", linewidth=0.5, linestyle=(0, (1, 2)), zorder=0)
        ax.text(k, 1.01, f"{k}", transform=ax.get_xaxis_transform(), size=6, color="0.35", ha="center", va="bottom")
