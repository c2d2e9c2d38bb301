"""Correct the training expression of one fold for its slides."""

from spotwise.folds import read_fold, write_fold
from spotwise.harmony import harmonise
from spotwise.jobs import job

with job(snakemake.log[0]):
    write_fold(snakemake.output.fold, harmonise(read_fold(snakemake.input.fold)))
