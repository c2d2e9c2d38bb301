"""Clean and normalise the counts of one sample; keep a small picture of its slide."""

from spotwise import hest
from spotwise.expression import clean_counts, normalise
from spotwise.files import atomic, write_json
from spotwise.jobs import job

with job(snakemake.log[0]) as logger:
    metadata = hest.read_metadata(snakemake.input.metadata)
    counts, qc = clean_counts(
        hest.read_counts(snakemake.input.counts),
        snakemake.wildcards.sample,
        hest.slide_size(metadata, snakemake.input.metadata),
        snakemake.params.min_counts,
        snakemake.input.counts,
    )
    for warning in qc["warnings"]:
        logger.warning("%s", warning)
    with atomic(snakemake.output.thumbnail) as temporary:
        hest.thumbnail(counts).save(temporary)
    for path, content in (
        (snakemake.output.counts, counts),
        (snakemake.output.lognorm, normalise(counts, snakemake.params.target_sum)),
    ):
        with atomic(path) as temporary:
            content.write_h5ad(temporary, compression="gzip")
    write_json(snakemake.output.qc, qc)
