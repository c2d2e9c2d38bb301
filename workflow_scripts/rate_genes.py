"""Rate every gene of one predictor by its cross-validation, against the shuffled control."""

from spotwise.evaluation.reliability import RATED_COLUMNS, rate_genes
from spotwise.evaluation.score_files import read_scores
from spotwise.runtime.files import write_json, write_table
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    files, params = snakemake.input, snakemake.params
    scores = read_scores([files.scores], RATED_COLUMNS, [snakemake.wildcards.predictor])
    shuffled = read_scores([files.chance], RATED_COLUMNS)
    ceilings = dict(zip(params.samples, files.ceilings, strict=True))
    table, facts = rate_genes(scores, shuffled, ceilings, params.patients)
    logger.info("%d of %d genes reliable, from %d units", facts["n_reliable"], facts["n_genes"], facts["n_units"])
    write_table(table, snakemake.output.genes)
    write_json(snakemake.output.facts, facts)
