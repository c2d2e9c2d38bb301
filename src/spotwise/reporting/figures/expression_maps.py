"""Maps of the true and predicted expression of genes (Figs. 5-7, Supplementary Figs. 1-3)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from anndata import AnnData
from matplotlib.figure import Figure

from spotwise.constants import OBSERVED, PROVENANCE
from spotwise.errors import InputError
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.evaluation.gene_sets import gene_ranks
from spotwise.inference.prediction_files import read_genes, read_slide
from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.spot_plot import MAX_COLUMNS, PANELS_SHARE, RASTER_ABOVE
from spotwise.reporting.number_format import number

EXPRESSION_UNIT = "log expression\nabove mean"  # two lines fit a low colour bar


def choose_genes(
    prediction_path: str | os.PathLike, wanted: Sequence[str], n: int, observed: AnnData | None = None
) -> list[str]:
    """Choose ``n`` genes to draw, wanted ones first, then top HVG.

    ``prediction_path`` is the slide's file by any predictor, ``observed`` that of `read_prediction`. Wanted genes are
    all kept, except those that the panel lacks or the slide does not measure.
    """
    var = read_genes(prediction_path, observed)
    measured = var.index[var["is_measured"].to_numpy(bool)]
    ranks = gene_ranks(var)["rank_var"]
    chosen = [gene for gene in dict.fromkeys(wanted) if gene in measured]
    others = [gene for gene in ranks[ranks > 0].sort_values().index if gene not in chosen]
    return chosen + others[: max(0, n - len(chosen))]


@style.page()
def draw_expression_maps(
    prediction_paths: Mapping[str, str | os.PathLike],
    genes: Sequence[str],
    qc_json: str | os.PathLike,
    thumbnail_png: str | os.PathLike,
    metadata_json: str | os.PathLike,
    observed: AnnData | None = None,
) -> Figure:
    """Draw the true and predicted expression of genes over the slide.

    Each gene has a row with the H&E image, the truth and each predictor. Colours give the difference from the mean of
    the same map, as predictions may miss the level of a whole slide (Fig. 3). All maps of a gene share one scale, the
    truth's 2nd to 98th percentile: predictions shrink towards the mean, and their own scale would hide that.

    Parameters
    ----------
    prediction_paths
        Predictor -> prediction file, in display order, all of one slide and fold.
    genes
        Measured genes of the panel (`choose_genes`).
    qc_json, thumbnail_png, metadata_json
        As for `spot_plot.read_section`.
    observed
        As for `prediction_files.read_prediction`.

    Raises
    ------
    InputError
        If a gene is not measured or not in the panel, or the files do not belong together.
    """
    source = next(iter(prediction_paths.values()))
    var = read_genes(source, observed)
    measured = set(var.index[var["is_measured"].to_numpy(bool)])
    if missing := [gene for gene in genes if gene not in measured]:
        raise InputError(source, "genes", ", ".join(missing), "genes of the panel that the slide measures")
    slide = read_slide(prediction_paths, observed, genes)
    first = next(iter(slide.values()))

    section = spot_plot.read_section(source, qc_json, first.obs_names, thumbnail_png, metadata_json)
    tissue, extent = section.tissue()
    rows_per_gene, columns = style.wrap(2 + len(slide), MAX_COLUMNS)
    rasterise = first.n_obs * len(genes) * (1 + len(slide)) > RASTER_ABOVE
    width, height = spot_plot.panel_size(section.window, len(genes) * rows_per_gene, columns)
    heading = style.run_title(first.uns[PROVENANCE])
    fig, grid = style.panels((width, height), (len(genes) * rows_per_gene, columns), heading)
    for row, gene in enumerate(genes):
        axes = grid[row * rows_per_gene : (row + 1) * rows_per_gene]
        truth = _column(first, gene, truth=True)
        scale = spot_plot.colour_scale(truth - truth.mean())
        panels = [(f"{style.plain(gene)}\ntruth", truth)]
        for predictor, prediction in slide.items():
            values = _column(prediction, gene)
            pcc, _ = pearson_per_gene(values[:, None], truth[:, None])
            title = style.title(predictor, PANELS_SHARE * width / columns)
            panels.append((f"{title}\nPCC = {number(pcc[0])}", values))
        image, *maps = axes.flat
        spot_plot.frame(image, tissue, extent, section.window, "H&E")
        spot_plot.draw_scale_bar(image, section.um_per_px)
        for ax, (title, values) in zip(maps, panels, strict=False):
            spot_plot.frame(ax, spot_plot.faded(tissue), extent, section.window, title)
            drawn = spot_plot.draw_spots(ax, section, rasterise, array=values - values.mean(), norm=scale)
        bar = spot_plot.draw_colour_bar(fig, drawn, axes, EXPRESSION_UNIT)
        bar.ax.locator_params(nbins=4)
    style.hide_empty(grid)
    return fig


def _column(prediction: AnnData, gene: str, truth: bool = False) -> np.ndarray:
    """Return the (N,) expression of one gene."""
    values = prediction.layers[OBSERVED] if truth else prediction.X
    return np.asarray(values[:, prediction.var_names.get_loc(gene)], dtype=np.float64)
