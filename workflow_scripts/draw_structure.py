"""Draw the domains of a slide, the layout of its spots and its most variable genes."""

import pandas as pd

from spotwise.reporting.figures.domain_map import classes_of, colouring, domains_in, draw_domains
from spotwise.reporting.figures.spot_plot import read_section
from spotwise.reporting.figures.umap_plot import draw_slide_umap
from spotwise.reporting.figures.variable_gene_maps import draw_variable_genes
from spotwise.runtime.job import job
from spotwise.structure.spot_labels import labels_of_slides
from spotwise.structure.structure_tables import read_structure_table, spot_expression

TOP_GENES = 8

with job(snakemake.log[0]):
    files, params, output = snakemake.input, snakemake.params, snakemake.output
    sample, reference = snakemake.wildcards.sample, params.spaces[0]
    heading = f"{sample} ({snakemake.wildcards.cohort})"
    labels = labels_of_slides(params.slides, files.lognorms, files.labels, params.column, params.unknown)
    classes, own = classes_of(labels.values()), labels.get(sample)
    table = pd.read_parquet(files.domains)
    domains = domains_in(table, reference, params.seed)
    section = read_section(
        files.lognorm, files.qc, domains.index, files.get("thumbnail") or None, files.get("metadata") or None
    )
    draw_domains(
        section,
        table,
        read_structure_table(files.scores),
        params.spaces,
        params.seed,
        own,
        classes,
        heading,
        output.domains_pdf,
        output.domains_png,
    )
    draw_slide_umap(
        read_structure_table(files.umap),
        domains,
        colouring(domains, own, classes),
        own is not None,
        spot_expression(files.lognorm, domains.index, params.genes),
        reference,
        heading,
        output.umap_pdf,
        output.umap_png,
    )
    top = read_structure_table(files.genes).head(TOP_GENES)
    expression = spot_expression(files.lognorm, domains.index, top["gene"])
    draw_variable_genes(section, top, expression, heading, output.genes_pdf, output.genes_png)
