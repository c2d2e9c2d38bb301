"""Correct the training expression of one fold for its slides."""

from spotwise.data.folds import read_fold, write_fold
from spotwise.data.harmony import harmonise
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    write_fold(snakemake.output.fold, harmonise(read_fold(snakemake.input.fold)))
