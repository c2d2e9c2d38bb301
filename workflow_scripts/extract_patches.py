"""Cut a patch around every spot of one sample."""

import json
from pathlib import Path

from spotwise import hest
from spotwise.contracts import SPATIAL
from spotwise.files import write_json
from spotwise.jobs import job
from spotwise.slides import extract_patches

with job(snakemake.log[0]) as logger:
    slide = Path(snakemake.input.slide)
    counts = hest.read_counts(snakemake.input.counts)
    facts = extract_patches(
        slide,
        counts.obsm[SPATIAL],
        counts.obs_names,
        json.loads(Path(snakemake.input.qc).read_text(encoding="utf-8"))["um_per_px"],
        Path(snakemake.output.patches),
        threads=snakemake.threads,
    )
    logger.info("%s", facts)
    write_json(snakemake.output.facts, facts)
