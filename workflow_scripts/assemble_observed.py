"""Write what was measured on the test slides of a cohort, once for all of their predictions."""

from pathlib import Path

from spotwise.inference.observed_files import write_observed_slides
from spotwise.inference.slide_anndata import read_views
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, samples = snakemake.input, snakemake.params.samples
    views = read_views(samples, files.thumbnails, files.qc, files.metadata)
    for fold in files.folds:
        write_observed_slides(Path(fold), views, Path(snakemake.output.observed))
