"""Benchmark of cleaning, normalising and selecting variable genes of one large slide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from benchmarks.machine import Machine
from benchmarks.table import AtMost, Limit, Row
from benchmarks.timing import Ratio, in_turns, peak_memory
from spotwise.constants import SPATIAL
from spotwise.data.counts import clean_counts
from spotwise.data.genes import normalise, select_genes

SPOTS, GENES, N_TOP = 5_000, 36_000, 1_000
MIN_COUNTS = 20
REPEATS = 3
SPOTS_AT_ONCE = 250


def slide(spots: int, genes: int, faultless: bool = False) -> AnnData:
    """Draw the counts of a slide, about one in seven non-zero.

    Unless ``faultless``, some features are control probes, some genes have two features, and some spots are empty.
    """
    rng = np.random.default_rng(0)
    mean = rng.lognormal(-3.2, 2.0, genes).clip(0, 50)
    depth = rng.lognormal(0, 0.5, (spots, 1))
    names = [f"GENE{gene}" for gene in range(genes)]
    if not faultless:
        depth[::100] = 0
        names[10::3000] = [f"NegControlProbe_{n}" for n in range(len(names[10::3000]))]
        names[20::3000] = names[21::3000]
    blocks = [
        sparse.csr_matrix(rng.poisson(mean * depth[start : start + SPOTS_AT_ONCE]).astype(np.float32))
        for start in range(0, spots, SPOTS_AT_ONCE)
    ]
    return AnnData(
        sparse.vstack(blocks, format="csr"),
        obs=pd.DataFrame(index=[f"spot{spot}" for spot in range(spots)]),
        var=pd.DataFrame(index=names),
        obsm={SPATIAL: rng.uniform(0, 1e4, (spots, 2))},
    )


def scanpy_alone(raw: AnnData, n_top: int) -> AnnData:
    """Run scanpy's own calls, without checks of the features."""
    import scanpy as sc

    adata = raw.copy()
    sc.pp.filter_cells(adata, min_counts=MIN_COUNTS)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_top)
    return adata


def product(raw: AnnData, n_top: int) -> tuple[AnnData, pd.DataFrame]:
    """Clean, normalise and select genes as spotwise does."""
    counts, _ = clean_counts(raw, "slide", None, MIN_COUNTS, "slide")
    lognorm = normalise(counts)
    panel, _ = select_genes({"slide": counts}, n_top, [])
    return lognorm, panel


def to_measure(step: str) -> Callable[[], object]:
    """Prepare one step on the full slide for `benchmarks.timing.peak_memory`."""
    small = slide(200, 400, faultless=True)
    scanpy_alone(small, 10), product(small, 10)  # imports and compilation are not measured
    raw = slide(SPOTS, GENES)
    if step == "scanpy":
        return partial(scanpy_alone, raw, N_TOP)
    clean = partial(clean_counts, raw, "slide", None, MIN_COUNTS, "slide")
    if step == "cleaning":
        return clean
    counts, _ = clean()
    return partial(normalise, counts) if step == "normalising" else partial(select_genes, {"slide": counts}, N_TOP, [])


def matrix_bytes(matrix: sparse.csr_matrix) -> int:
    """Bytes of a sparse matrix."""
    return matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes


def rows(machine: Machine) -> list[Row]:
    """Measure time against scanpy's calls, and the memory of each step against the matrix."""
    raw = slide(SPOTS, GENES)
    times = in_turns({"product": lambda: product(raw, N_TOP), "scanpy": lambda: scanpy_alone(raw, N_TOP)}, REPEATS)
    size = matrix_bytes(raw.X)
    work = f"cleaning, normalising, HVG of {SPOTS:,} spots x {GENES:,} genes, {raw.X.nnz / 1e6:.0f} million counts"
    time_row = Row(
        work,
        "time / scanpy's calls alone",
        Ratio.of(times["product"], times["scanpy"]),
        AtMost(1.2),
        Limit(
            f"{5 * size / 1e9:.1f} GB: the matrix read three times, written twice",
            machine.seconds(n_bytes=5 * size),
            times["product"].median,
        ),
        note="checks every value; normalises twice: over all genes for the maps, over the genes that all slides share "
        "for the panel",
    )
    return [time_row, *(memory_row(work, step, size) for step in ("cleaning", "normalising", "HVG", "scanpy"))]


def memory_row(work: str, step: str, size: int) -> Row:
    """Measure the peak memory of a step, input included, in units of the matrix."""
    before, peak = peak_memory("benchmarks.expression", "to_measure", step)
    share = (peak - before + size) / size
    is_ours = step != "scanpy"
    return Row(
        work,
        f"peak of {step if is_ours else 'scanpy alone'}, input included / the sparse matrix",
        Ratio(share, share, share),
        note=f"the matrix is {size / 2**20:.0f} MiB",
    )
