"""Sum up a slide that was never sequenced on one page."""

import json
from pathlib import Path

import anndata

from spotwise.constants import PROVENANCE
from spotwise.inference.final_description import read_final_description
from spotwise.reporting.predicted_genes import choose_genes
from spotwise.reporting.summary_page import AppliedModel, render_summary_page
from spotwise.runtime.files import write_text
from spotwise.runtime.job import job


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    models = {}
    for number, model in enumerate(params.models):
        prediction = anndata.read_h5ad(files.predictions[number])
        models[model] = AppliedModel(
            description=read_final_description(files.folders[number]),
            prediction=prediction,
            verdict=read_json(files.verdicts[number]),
            genes=choose_genes(prediction.var, params.genes),
            maps=files.maps[number],
        )
    facts = read_json(files.facts)
    noticed = (str(one) for of in models.values() for one in of.prediction.uns[PROVENANCE]["warnings"])
    facts["warnings"] = list(dict.fromkeys(noticed))  # of slide, spots and models
    page = render_summary_page(snakemake.wildcards.slide, facts, files.outline, models)
    write_text(snakemake.output.page, page)
