"""Average scores into the tables of the paper, and into that of further measures."""

from spotwise.evaluation.averages import read_averages
from spotwise.reporting.tables import write_table
from spotwise.reporting.tables.further_measures import pages, read_measures
from spotwise.reporting.tables.gene_tables import lacking_slides, marker_table, table3
from spotwise.reporting.tables.layout import write_pages
from spotwise.reporting.tables.mean_tables import table1, table2, table4, table5
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params, output = snakemake.input, snakemake.params, snakemake.output
    extended = [(genes["top"], genes["k"]) for genes in params.extended]
    tops = dict.fromkeys([params.top, *(top for top, _ in extended)])
    means, genes = read_averages(files.scores, tops, params.markers, params.predictors)
    tables = {
        "table1": table1(means, params.top),
        "table2": table2(means, extended),
        "table3": table3(genes),
        "table4": table4(means, params.top, params.methods, params.encoders),
        "table5": table5(means, params.top, params.methods, params.training),
        "markers": marker_table(genes, params.markers, lacking_slides(files.markers)),
    }
    for name, table in tables.items():
        write_table(table, output[name])
    measures = read_measures(files.scores, files.slide_scores, params.top, list(params.markers), params.predictors)
    write_pages(measures, pages(measures, params.top), output.measures, output.measures_md)
