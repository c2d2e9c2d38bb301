"""Rate every gene of one predictor by its cross-validation, against the shuffled control."""

from spotwise.evaluation.reliability import RATED_COLUMNS, SHUFFLED_CONTROL, rate_genes
from spotwise.evaluation.score_files import read_scores
from spotwise.runtime.files import write_json, write_table
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    params = snakemake.params
    scores = read_scores([snakemake.input.scores], RATED_COLUMNS, [params.predictor])
    shuffled = read_scores([snakemake.input.shuffled], RATED_COLUMNS, [SHUFFLED_CONTROL])
    ceilings = dict(zip(params.samples, snakemake.input.ceilings, strict=True))
    patients = dict(zip(params.samples, params.patients, strict=True))
    table, facts = rate_genes(scores, shuffled, ceilings, patients)
    logger.info("%d of %d genes reliable, from %d units", facts["n_reliable"], facts["n_genes"], facts["n_units"])
    write_table(table, snakemake.output.table)
    write_json(facts, snakemake.output.facts)
