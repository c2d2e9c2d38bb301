"""Draw a slide of a generated cohort that has no counts."""

from pathlib import Path

from spotwise.data.synthetic_sample import generate_slide
from spotwise.data.synthetic_tissue import CohortSize
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    size = CohortSize(grid=params.spots_across)
    generate_slide(Path(snakemake.output.slide), snakemake.wildcards.slide, params.patient, params.seed, size)
