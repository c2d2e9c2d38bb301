"""Score the predictions of one predictor, gene by gene."""

from spotwise.jobs import job
from spotwise.metrics import score_files, write_scores

with job(snakemake.log[0]):
    write_scores(score_files(snakemake.input.predictions), snakemake.output.scores)
