"""Draw a slide that was never sequenced, the likeness of its spots and maps of genes by one model."""

import json
from pathlib import Path

import anndata

from spotwise.inference.final_description import read_final_description
from spotwise.reporting.figures import style
from spotwise.reporting.figures.slide_maps import draw_slide_maps
from spotwise.reporting.predicted_genes import choose_genes
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, output, wildcards = snakemake.input, snakemake.output, snakemake.wildcards
    prediction = anndata.read_h5ad(files.prediction)
    figure = draw_slide_maps(
        prediction,
        choose_genes(prediction.var, snakemake.params.genes),
        json.loads(Path(files.facts).read_text(encoding="utf-8")),
        files.hires,
        f"{wildcards.slide}, predicted by {wildcards.model}",
        str(read_final_description(files.model).reliability["basis"]),
    )
    style.save(figure, output.pdf, output.png)
