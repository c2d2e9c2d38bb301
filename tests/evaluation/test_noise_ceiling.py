"""Claims about the noise ceiling: what it must be where the true expression is known."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spotwise.data.genes import normalise
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.evaluation.noise_ceiling import noise_ceiling, thin


def slide(counts):
    """Make a slide of ``counts`` (N, G)."""
    spots, genes = counts.shape
    return anndata.AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(index=[f"spot{number}" for number in range(spots)]),
        var=pd.DataFrame(index=pd.Index([f"G{number:03d}" for number in range(genes)], dtype=object)),
    )


def rates(spots=400, genes=60, depth=3000, seed=0):
    """Draw expected counts (N, G) of genes from rare to common that follow four programmes."""
    rng = np.random.default_rng(seed)
    abundance = np.geomspace(1, 1000, genes)
    share = abundance * np.exp(rng.normal(size=(spots, 4)) @ rng.normal(0, 0.3, size=(4, genes)))
    share /= share.sum(axis=1, keepdims=True)
    return share * depth * np.exp(rng.normal(0, 0.3, size=(spots, 1)))


@pytest.mark.parametrize("target_sum", [None, 1e4])
def test_the_ceiling_is_how_well_the_true_expression_correlates_with_a_measurement(target_sum):
    true, rng = rates(), np.random.default_rng(1)
    counts = slide(rng.poisson(true))
    scale = target_sum or float(np.median(counts.X.toarray().sum(axis=1)))
    lognorm = np.log1p(true / true.sum(axis=1, keepdims=True) * scale)
    measured = [normalise(slide(rng.poisson(true)), scale).X.toarray() for _ in range(10)]
    known = np.mean([pearson_per_gene(lognorm, one)[0] for one in measured], axis=0)
    found = noise_ceiling(counts, target_sum, repeats=5)["ceiling"].to_numpy()
    assert known.min() < 0.35  # from genes that are mostly noise to genes that have hardly any
    assert known.max() > 0.95
    assert abs((found - known).mean()) < 0.02
    np.testing.assert_allclose(found[known > 0.5], known[known > 0.5], atol=0.15)  # one measurement of 400 spots
    np.testing.assert_allclose(found[known > 0.85], known[known > 0.85], atol=0.03)


def test_pure_noise_has_no_ceiling_and_endless_depth_one_of_1():
    rng = np.random.default_rng(0)
    flat = np.full((500, 40), 20.0)
    r_half = noise_ceiling(slide(rng.poisson(flat)), None)["r_half"]
    assert r_half.abs().max() < 0.2
    assert abs(r_half.mean()) < 0.04
    assert noise_ceiling(slide(rng.poisson(rates(depth=1e7))), None, repeats=2)["ceiling"].min() > 0.98


def test_deeper_counts_have_a_higher_ceiling():
    rng = np.random.default_rng(0)
    means = [
        noise_ceiling(slide(rng.poisson(rates(depth=depth))), None)["ceiling"].mean() for depth in (300, 3000, 3e4)
    ]
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


def test_the_ceiling_is_the_spearman_brown_formula_of_its_halves():
    found = noise_ceiling(slide(np.random.default_rng(0).poisson(rates(depth=500))), None)
    r = found["r_half"].to_numpy()
    assert (r < 0).any()
    doubled = 2 * r / (1 + r)
    np.testing.assert_allclose(found["ceiling"], [one**0.5 if one > 0 else 0 for one in doubled])


def test_halves_sum_to_the_counts_and_are_half_of_them():
    counts = slide(np.random.default_rng(0).poisson(rates())).X
    first, second = thin(counts, np.random.default_rng(0))
    np.testing.assert_array_equal((first + second).toarray(), counts.toarray())
    for half in (first, second):
        assert half.data.min() >= 0
        np.testing.assert_array_equal(half.data, np.round(half.data))
        assert half.sum() / counts.sum() == pytest.approx(0.5, abs=0.002)
    assert counts.sum() == slide(np.random.default_rng(0).poisson(rates())).X.sum()  # not thinned itself


def test_halves_of_poisson_counts_are_independent():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(4, size=(20000, 5)).astype(np.float32))
    first, second = (half.toarray() for half in thin(counts, np.random.default_rng(1)))
    assert np.abs(pearson_per_gene(first, second)[0]).max() < 0.03
    np.testing.assert_allclose(first.var(axis=0), 2, rtol=0.05)  # Poisson again, of half the mean


def test_splits_follow_their_seed():
    counts = slide(np.random.default_rng(0).poisson(rates(depth=1000)))
    first, again, other = (noise_ceiling(counts, None, repeats=2, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first["r_half"].equals(other["r_half"])


def test_genes_without_counts_have_a_ceiling_of_0():
    counts = np.random.default_rng(0).poisson(rates())
    counts[:, [0, 7]] = 0
    counts[:, 3] = 0
    counts[5, 3] = 1  # one count: one of the halves is constant
    found = noise_ceiling(slide(counts), None)
    assert (found.loc[[0, 3, 7], ["r_half", "ceiling"]] == 0).all(axis=None)
    assert np.isfinite(found[["r_half", "ceiling"]]).all(axis=None)


def test_more_genes_than_a_block_come_out_in_their_order():
    expected = np.hstack([rates(spots=150, seed=seed) for seed in range(9)])  # 540 genes, rare to common nine times
    found = noise_ceiling(slide(np.random.default_rng(0).poisson(expected)), None, repeats=2)
    assert found["gene"].tolist() == [f"G{number:03d}" for number in range(540)]
    common = found["ceiling"].to_numpy().reshape(9, 60)
    assert (common[:, 40:].mean(axis=1) > common[:, :20].mean(axis=1) + 0.2).all()


def test_only_the_spots_that_are_scored_count():
    """Empty glass beside the tissue makes every gene easy, where it is scored; its spots still set the target."""
    rng = np.random.default_rng(0)
    tissue, glass = rates(spots=200, depth=1000), np.full((200, 60), 1.0)
    glass[:, :30] = 30
    counts = slide(rng.poisson(np.vstack([tissue, glass])))
    everywhere = noise_ceiling(counts, None, repeats=3)
    on_tissue = noise_ceiling(counts, None, counts.obs_names[:200], repeats=3)
    assert on_tissue["ceiling"].mean() < everywhere["ceiling"].mean() - 0.2
    target = float(np.median(counts.X.toarray().sum(axis=1)))
    pd.testing.assert_frame_equal(on_tissue, noise_ceiling(counts[:200], target, repeats=3))
