"""Benchmark of the correlation of every gene of a slide."""

from __future__ import annotations

import numpy as np

from benchmarks.machine import Machine
from benchmarks.table import AtLeast, AtMost, Limit, Row
from benchmarks.timing import Ratio, Times, in_turns
from spotwise.evaluation.gene_metrics import pearson_per_gene

SPOTS, GENES = 5_000, 18_000
SCIPY_GENES = 1_000  # the reference takes as long for each gene: it is timed on so many, and multiplied
REPEATS = 5


def inputs(spots: int, genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw predicted and observed expression (spots, genes), float32, each gene with another correlation."""
    rng = np.random.default_rng(0)
    observed = rng.standard_gamma(2, (spots, genes), dtype=np.float32)
    predicted = rng.standard_normal((spots, genes), dtype=np.float32)
    predicted += observed * np.linspace(0, 1, genes, dtype=np.float32)
    return predicted, observed


def gene_by_gene(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Correlate with scipy in a loop over genes."""
    from scipy.stats import pearsonr

    return np.array([pearsonr(predicted[:, gene], observed[:, gene]).statistic for gene in range(predicted.shape[1])])


def rows(machine: Machine) -> list[Row]:
    """Measure the time against scipy and the greatest difference."""
    predicted, observed = inputs(SPOTS, GENES)
    few = predicted[:, :SCIPY_GENES], observed[:, :SCIPY_GENES]
    times = in_turns(
        {
            "product": lambda: pearson_per_gene(predicted, observed),
            "scipy": lambda: gene_by_gene(*few),
        },
        REPEATS,
    )
    scale = GENES / SCIPY_GENES
    scipy = Times(*(tuple(scale * each for each in side) for side in (times["scipy"].wall, times["scipy"].cpu)))
    difference = float(np.abs(pearson_per_gene(*few)[0] - gene_by_gene(*few)).max())
    n_bytes = predicted.nbytes + observed.nbytes
    work = f"PCC of {SPOTS:,} spots x {GENES:,} genes"
    return [
        Row(
            work,
            f"scipy gene by gene / time (scipy timed on {SCIPY_GENES:,} genes)",
            Ratio.of(scipy, times["product"]),
            AtLeast(50),
            Limit(f"{n_bytes / 1e9:.2f} GB read once", machine.seconds(n_bytes=n_bytes), times["product"].median),
            note="scipy.stats.pearsonr in float64, a block of genes at a time",
        ),
        Row(work, "greatest difference", Ratio(difference, difference, difference), AtMost(1e-6)),
    ]
