"""Synthetic counts, half of whose genes depend on the tissue of their spot.

The genes that stand for real biology in figures and marker lists carry real symbols (`MARKERS`). All others, linked or
not, are named ``DEMO0001`` and so on, so that no reader takes an invented gene for a finding, and no name tells whether
a gene is linked.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spotwise.data.synthetic_tissue import DOMAINS, MARKERS, CohortSize, n_defective, random_stream

PROLIFERATION = ("MKI67", "TOP2A")  # depend on cellularity as well

CONTROL_FEATURES = (
    "BLANK_0001", "BLANK_0002", "BLANK_0003", "NegControlProbe_00001", "NegControlProbe_00002",
    "NegControlCodeword_0500", "antisense_DEMO0001", "UnassignedCodeword_0001", "DeprecatedCodeword_0001",
    "Intergenic_Region_0001",
)  # fmt: skip


def gene_programmes(cohort_seed: int, n_genes: int) -> pd.DataFrame:
    """Draw how every gene of a cohort depends on the tissue.

    Each row is a gene, sorted, with ``linked`` (bool), ``base`` (log rate), one column per domain and ``cellularity``
    (change of the log rate in that domain and per unit of cellularity; 0 for a gene without link).
    """
    rng = random_stream(cohort_seed, "genes")
    home_of = {marker: domain for domain, markers in MARKERS.items() for marker in markers}
    n_linked = n_genes // 2
    homes = [*home_of.values(), *rng.choice(DOMAINS, n_linked - len(home_of))]
    # shuffled, so that a DEMO number says nothing about the link
    demo_names = [f"DEMO{number:04d}" for number in rng.permutation(np.arange(1, n_genes - len(home_of) + 1))]
    names = [*home_of, *demo_names]

    effects = np.zeros((n_genes, len(DOMAINS) + 1))
    effects[:n_linked, :-1] = rng.normal(0, 0.2, (n_linked, len(DOMAINS)))
    effects[np.arange(n_linked), [DOMAINS.index(home) for home in homes]] += rng.uniform(0.8, 1.8, n_linked)
    effects[:n_linked, -1] = rng.normal(0, 0.25, n_linked) * (rng.random(n_linked) < 0.5)
    programmes = pd.DataFrame(effects, index=names, columns=[*DOMAINS, "cellularity"])
    programmes.loc[list(PROLIFERATION), "cellularity"] = 0.5
    programmes.insert(0, "linked", np.arange(n_genes) < n_linked)
    programmes.insert(1, "base", rng.normal(0, 0.7, n_genes))
    return programmes.sort_index()


def draw_counts(
    rng: np.random.Generator, spots: pd.DataFrame, cohort_seed: int, patient: str, size: CohortSize
) -> np.ndarray:
    """Draw the counts of a slide from negative binomials.

    The log rate of a gene is linear in the tissue of its spot. The depth of a spot is independent of its tissue, so
    that library size alone predicts nothing. Spots off the tissue hold a little ambient RNA; failed spots on the tissue
    hold 1 or 2 counts. Counts are float32 (spots, genes of :func:`gene_programmes` + control features).
    """
    genes = gene_programmes(cohort_seed, size.n_genes)
    drivers = [*DOMAINS, "cellularity"]
    log_rate = genes["base"].to_numpy() + spots[drivers].to_numpy() @ genes[drivers].to_numpy().T
    batch_effect = random_stream(cohort_seed, "batch", patient).normal(0, 0.3, size.n_genes)
    rate = np.exp(log_rate) * np.exp(batch_effect)
    rate /= rate.sum(axis=1, keepdims=True)
    depth = size.depth * rng.lognormal(0, 0.3) * rng.lognormal(0, 0.2, len(spots))
    depth[~spots["in_tissue"].to_numpy()] *= 0.02
    mean = rate * depth[:, None]
    dispersion = 6.0  # variance = mean + mean**2 / dispersion
    counts = rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, mean.shape))
    counts[rng.random(counts.shape) < 0.03] = 0  # dropouts
    failed = rng.choice(np.flatnonzero(spots["in_tissue"]), n_defective(size), replace=False)
    counts[failed] = 0
    counts[failed, rng.integers(0, size.n_genes, len(failed))] = rng.integers(1, 3, len(failed))
    controls = rng.poisson(0.1, (len(spots), len(CONTROL_FEATURES)))
    controls[failed] = 0
    return np.hstack([counts, controls]).astype(np.float32)


def sample_features(
    cohort_seed: int, genes: pd.Index, duplicate_symbol: bool, missing_gene: bool
) -> tuple[list[str], list[int]]:
    """Name a sample's features and their columns in :func:`draw_counts`."""
    names = [*genes, *CONTROL_FEATURES]
    invented = [column for column, name in enumerate(genes) if name.startswith("DEMO")]
    missing, twice, second = random_stream(cohort_seed, "defects").choice(invented, 3, replace=False)
    if duplicate_symbol:
        names[second] = names[twice]
    columns = [column for column in range(len(names)) if not (missing_gene and column == missing)]
    return [names[column] for column in columns], columns
