"""Assemble the folder of a model that is trained on a whole cohort."""

import json
from pathlib import Path

import pandas as pd

from spotwise.inference.final_models import assemble_model
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    samples = params.samples
    qc = dict(zip(samples, (json.loads(Path(path).read_text(encoding="utf-8")) for path in files.qc), strict=True))
    assemble_model(
        trained=Path(files.weights).parent,
        fold=Path(files.fold),
        features=dict(zip(samples, map(Path, files.features), strict=True)) if files.features else {},
        um_per_px={sample: facts["um_per_px"] for sample, facts in qc.items()},
        slides=[
            {"sample": sample, "patient": params.patients[sample], "technology": params.technologies[sample]}
            for sample in samples
        ],
        reliability=pd.read_csv(
            files.reliability, sep="\t", dtype={"gene": str}, keep_default_na=False, na_values=[""]
        ),
        facts=json.loads(Path(files.facts).read_text(encoding="utf-8")),
        reference=Path(files.reference),
        encoder=params.encoder,
        predictor={"predictor": snakemake.wildcards.predictor, "method": params.method, **params.retrieval},
        target_sum=params.target_sum,
        output=Path(snakemake.output.folder),
    )
