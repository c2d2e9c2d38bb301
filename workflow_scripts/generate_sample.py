"""Generate one sample of a demo cohort."""

from pathlib import Path

from spotwise.data.synthetic_sample import generate_sample
from spotwise.data.synthetic_tissue import CohortSize
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    generate_sample(
        Path(snakemake.output.counts).parents[1],
        snakemake.wildcards.sample,
        snakemake.params.patient,
        snakemake.params.seed,
        linked=snakemake.params.linked,
        size=CohortSize(grid=snakemake.params.spots_across),
        duplicate_symbol=snakemake.params.place == "first",
        missing_gene=snakemake.params.place == "last",
    )
