"""Shuffle the training expression of one fold against its images."""

from spotwise.data.folds import read_fold, write_fold
from spotwise.data.shuffling import shuffle_training
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    write_fold(snakemake.output.fold, shuffle_training(fold, snakemake.wildcards.over))
