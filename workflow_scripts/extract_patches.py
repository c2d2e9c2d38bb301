"""Cut a patch around every spot of one sample."""

import json
from pathlib import Path

from spotwise.constants import SPATIAL
from spotwise.data.counts_reader import read_counts
from spotwise.data.patches import extract_patches
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    slide = Path(snakemake.input.slide)
    counts = read_counts(snakemake.input.counts)
    facts = extract_patches(
        slide,
        counts.obsm[SPATIAL],
        counts.obs_names,
        json.loads(Path(snakemake.input.qc).read_text(encoding="utf-8"))["um_per_px"],
        Path(snakemake.output.patches),
        threads=snakemake.threads,
    )
    logger.info("%s", facts)
