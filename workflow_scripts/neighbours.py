"""Draw mean PCC against the number of retrieved spots."""

import pandas as pd

from spotwise.reporting.figures import style
from spotwise.reporting.figures.top_k_curve import draw_top_k_curves
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_top_k_curves(
        pd.concat(map(pd.read_parquet, snakemake.input.sweeps), ignore_index=True),
        style.method_looks(snakemake.params.methods),
        snakemake.params.configured,
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
    )
