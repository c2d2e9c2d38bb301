"""Heatmaps of the correlation between genes, clustered on the truth (Fig. 4)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import seaborn as sns
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from spotwise.constants import OBSERVED, PROVENANCE
from spotwise.errors import InputError
from spotwise.evaluation.gene_sets import gene_ranks
from spotwise.evaluation.slide_metrics import gene_gene_correlation, similarity
from spotwise.inference.prediction_files import read_genes, read_slide
from spotwise.reporting.figures import style
from spotwise.reporting.number_format import number

PANELS_WIDTH = 0.88 * style.PAGE_WIDTH  # the rest is for the colour bar
TITLE_HEIGHT = 10 * style.MM


def cluster_order(correlation: np.ndarray) -> np.ndarray:
    """Order genes by average linkage on 1 - r with optimal leaf ordering.

    seaborn's `clustermap` opens a figure of its own and orders one matrix; here all panels follow the truth.

    The (G,) indices order a (G, G) matrix of `gene_gene_correlation`. Genes without a correlation come last.
    """
    defined = ~np.isnan(np.diag(correlation))
    genes = np.flatnonzero(defined)
    if len(genes) > 2:  # linkage needs no order for fewer
        distance = squareform(1 - correlation[np.ix_(genes, genes)], checks=False)
        genes = genes[leaves_list(linkage(distance, method="average", optimal_ordering=True))]
    return np.concatenate([genes, np.flatnonzero(~defined)])


@style.page()
def draw_gene_correlation(
    prediction_paths: Mapping[str, str | os.PathLike], top: int, observed: AnnData | None = None
) -> Figure:
    """Draw the correlations between the top genes of one slide.

    The truth comes first, then each predictor; HEG are above, HVG below. All panels have the order of the clustered
    truth. Titles give the `similarity` to the truth.

    ``prediction_paths`` maps predictors to their files of one slide and fold, in display order. HEG and HVG are ranked
    as in the scores, and only these are read. ``observed`` is that of `read_prediction`.

    Raises
    ------
    InputError
        If the files do not belong together (`read_slide`) or the slide measures fewer than two highly variable genes.
    """
    source = next(iter(prediction_paths.values()))
    ranks = gene_ranks(read_genes(source, observed))
    if (ranks["rank_mean"] > 0).sum() < 2:
        raise InputError(source, "var", "fewer than 2 measured HVG", "2 or more")
    ranks = ranks[ranks["rank_mean"].between(1, top) | ranks["rank_var"].between(1, top)]
    slide = read_slide(prediction_paths, observed, list(ranks.index))
    first = next(iter(slide.values()))

    rows, columns = style.panel_grid(1 + len(slide))
    side = PANELS_WIDTH / columns
    size = style.PAGE_WIDTH, 2 * rows * (side + TITLE_HEIGHT) + TITLE_HEIGHT / 2
    heading = f"{style.run_title(first.uns[PROVENANCE])}: correlation between genes, {first.n_obs} spots"
    fig, grid = style.panels(size, (2 * rows, columns), heading)
    for block, (kind, rank) in enumerate((("HEG", "rank_mean"), ("HVG", "rank_var"))):
        genes = np.flatnonzero(ranks[rank].between(1, top))
        axes = grid[block * rows : (block + 1) * rows].ravel()
        truth = gene_gene_correlation(first.layers[OBSERVED][:, genes])
        order = cluster_order(truth)
        _draw_matrix(axes[0], truth[np.ix_(order, order)], f"Truth\n{len(genes)} {kind}")
        for ax, (predictor, prediction) in zip(axes[1:], slide.items(), strict=False):
            matrix = gene_gene_correlation(prediction.X[:, genes])
            title = f"{style.title(predictor, side)}\nr = {number(similarity(matrix, truth))}"
            _draw_matrix(ax, matrix[np.ix_(order, order)], title)
    style.hide_empty(grid)
    drawn = grid[0, 0].collections[0]
    bar = fig.colorbar(drawn, ax=grid, location="right", fraction=0.03, aspect=40, shrink=0.6, ticks=[-1, 0, 1])
    bar.set_label("Pearson correlation\n(grey: constant gene)")
    bar.outline.set_linewidth(0.5)
    return fig


def _draw_matrix(ax: Axes, matrix: np.ndarray, title: str) -> None:
    sns.heatmap(
        matrix,
        vmin=-1,
        vmax=1,
        cmap="RdBu_r",
        cbar=False,
        square=True,
        xticklabels=False,
        yticklabels=False,
        rasterized=True,
        ax=ax,
    )
    ax.set(title=title, facecolor=style.UNDEFINED)  # NaN cells are transparent
    if np.isnan(matrix).all():
        ax.text(0.5, 0.5, "constant", transform=ax.transAxes, ha="center", va="center")
