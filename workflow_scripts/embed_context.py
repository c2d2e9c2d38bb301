"""Describe the tissue around each spot of one sample by a frozen encoder and the stain."""

import json
from pathlib import Path

from spotwise.inference.context_features import embed_context
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    embed_context(
        patches=Path(files.patches),
        slide=Path(files.slide) if files.slide else None,
        counts=Path(files.counts),
        um_per_px=json.loads(Path(files.qc).read_text(encoding="utf-8"))["um_per_px"],
        fields_um=params.fields,
        encoder=params.encoder,
        pretrained=params.pretrained,
        views=params.views,
        device=params.device,
        threads=params.threads,
        output=Path(snakemake.output.context),
        checkpoint=params.checkpoint,
    )
