"""Cut a patch around every spot of one sample."""

from pathlib import Path

from spotwise import hest
from spotwise.contracts import SPATIAL
from spotwise.files import write_json
from spotwise.jobs import job
from spotwise.slides import extract_patches, um_per_px

with job(snakemake.log[0]) as logger:
    slide = Path(snakemake.input.slide)
    counts = hest.read_counts(snakemake.input.counts)
    facts = extract_patches(
        slide,
        counts.obsm[SPATIAL],
        counts.obs_names,
        um_per_px(hest.read_metadata(snakemake.input.metadata), slide),
        Path(snakemake.output.patches),
    )
    logger.info("%s", facts)
    write_json(snakemake.output.facts, facts)
