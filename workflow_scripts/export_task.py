"""Write a fold for other tools: what they may train on, and what they have to predict."""

from spotwise.data.folds import read_fold
from spotwise.data.prediction_tasks import prediction_task
from spotwise.runtime.hdf5 import write_anndata
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    patches = dict(zip(snakemake.params.samples, snakemake.input.patches, strict=True))
    task = prediction_task(read_fold(snakemake.input.fold), patches)
    write_anndata(snakemake.output.task, task, "gzip")
