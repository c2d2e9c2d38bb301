"""Draw the spots of all slides of a cohort in one plane, by slide, and by label and domain where there are labels."""

import pandas as pd

from spotwise.reporting.figures import style
from spotwise.reporting.figures.domain_map import classes_of, domains_in
from spotwise.reporting.figures.umap_plot import draw_cohort_umap
from spotwise.runtime.job import job
from spotwise.structure.spot_labels import labels_of_slides
from spotwise.structure.structure_tables import read_structure_table

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    labels = labels_of_slides(params.slides, files.lognorms, files.labels, params.column, params.unknown)
    domains = {
        sample: domains_in(pd.read_parquet(path), params.space, params.seed)
        for sample, path in zip(params.slides, files.domains, strict=True)
    }
    figure = draw_cohort_umap(
        read_structure_table(files.umap),
        domains,
        labels,
        classes_of(labels.values()),
        params.space,
        snakemake.wildcards.cohort,
    )
    style.save(figure, snakemake.output.umap_pdf, snakemake.output.umap_png)
