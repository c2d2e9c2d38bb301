"""Average scores into the tables of the paper."""

from spotwise.evaluation.averages import read_averages
from spotwise.reporting.tables import write_table
from spotwise.reporting.tables.gene_tables import lacking_slides, marker_table, table3
from spotwise.reporting.tables.mean_tables import table1, table2, table4, table5
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    extended = [(genes["top"], genes["k"]) for genes in params.extended]
    means, genes = read_averages(
        snakemake.input.scores,
        dict.fromkeys([params.top, *(top for top, _ in extended)]),
        params.markers,
        params.predictors,
    )
    tables = {
        "table1": table1(means, params.top),
        "table2": table2(means, extended),
        "table3": table3(genes),
        "table4": table4(means, params.top, params.methods, params.encoders),
        "table5": table5(means, params.top, params.methods, params.training),
        "markers": marker_table(genes, params.markers, lacking_slides(snakemake.input.markers)),
    }
    for name, table in tables.items():
        write_table(table, snakemake.output[name])
