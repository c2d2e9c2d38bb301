"""Lay out the spots of one slide, or of the slides of a cohort, in the plane."""

from spotwise.runtime.files import write_table
from spotwise.runtime.job import job
from spotwise.structure.organisation import organise
from spotwise.structure.spaces import read_space

with job(snakemake.log[0]):
    files = zip(snakemake.params.samples, snakemake.input, strict=True)
    plane = organise({sample: read_space(path) for sample, path in files})
    write_table(plane, snakemake.output.umap)
