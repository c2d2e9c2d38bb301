"""Compare a slide that was never sequenced with the slides that a final model was trained on."""

import json
from pathlib import Path

import anndata

from spotwise.constants import SPATIAL
from spotwise.inference.likeness import compare_slide
from spotwise.runtime.files import write_json, write_table
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    files = snakemake.input
    spots = anndata.read_h5ad(files.spots)
    table, verdict = compare_slide(
        patches=Path(files.patches),
        slide=Path(files.slide),
        centres=spots.obsm[SPATIAL],
        barcodes=spots.obs_names,
        um_per_px=json.loads(Path(files.facts).read_text(encoding="utf-8"))["um_per_px"],
        reference=Path(files.reference),
        threads=snakemake.threads,
        patient=snakemake.params.patient,
    )
    for line in verdict["words"]:
        (logger.info if verdict["alike"] else logger.warning)("%s: %s", snakemake.wildcards.slide, line)
    write_table(table, snakemake.output.table)
    write_json(snakemake.output.verdict, verdict)
