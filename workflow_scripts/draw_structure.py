"""Draw the domains of a slide, the layout of its spots and its most variable genes."""

import pandas as pd

from spotwise.reporting.figures import style
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
    table = pd.read_parquet(files.domains)
    domains = domains_in(table, reference, params.seed)
    colours = colouring(domains, labels.get(sample), classes_of(labels.values()))
    section = read_section(
        files.lognorm, files.qc, domains.index, files.get("thumbnail") or None, files.get("metadata") or None
    )
    scores = read_structure_table(files.scores)
    figure = draw_domains(section, table, scores, params.spaces, params.seed, colours, heading)
    style.save(figure, output.domains_pdf, output.domains_png)
    expression = spot_expression(files.lognorm, domains.index, params.genes)
    figure = draw_slide_umap(read_structure_table(files.umap), domains, colours, expression, reference, heading)
    style.save(figure, output.umap_pdf, output.umap_png)
    top = read_structure_table(files.genes).head(TOP_GENES)
    expression = spot_expression(files.lognorm, domains.index, top["gene"])
    style.save(draw_variable_genes(section, top, expression, heading), output.genes_pdf, output.genes_png)
