"""Lay out what was found in a slide as one page of HTML."""

import json
from pathlib import Path

import pandas as pd

from spotwise.reporting.figures.domain_map import classes_of, colouring, domains_in
from spotwise.reporting.structure_page import StructureResults, render_structure_page
from spotwise.reporting.tables.domain_tables import encoder_notes, space_notes
from spotwise.runtime.files import write_text
from spotwise.runtime.job import job
from spotwise.structure.spot_labels import labels_of_slides
from spotwise.structure.structure_tables import read_structure_table

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    sample = snakemake.wildcards.sample
    labels = labels_of_slides(params.slides, files.lognorms, files.labels, params.column, params.unknown)
    domains = domains_in(pd.read_parquet(files.domains), next(iter(params.kinds)), params.seed)
    slide = StructureResults(
        cohort=snakemake.wildcards.cohort,
        sample=sample,
        scores=read_structure_table(files.scores),
        variable_genes=read_structure_table(files.genes),
        domain_genes=read_structure_table(files.domain_genes),
        agreement=json.loads(Path(files.agreement).read_text(encoding="utf-8")),
        domains=domains,
        colours=colouring(domains, labels.get(sample), classes_of(labels.values())),
    )
    figures = dict(zip(("domains", "umap", "variable_genes"), files.figures, strict=True))
    notes = space_notes(params.kinds, encoder_notes(files.spaces))
    write_text(snakemake.output.page, render_structure_page(slide, figures, notes, params.n_domains, params.note))
