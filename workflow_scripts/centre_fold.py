"""Centre the training expression of one fold on each slide."""

from spotwise.data.centring import centre_slides
from spotwise.data.folds import read_fold, write_fold
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    write_fold(snakemake.output.fold, centre_slides(read_fold(snakemake.input.fold)))
