"""Values that were processed are refused or warned about, and the place of the counts is named."""

import anndata
import numpy as np
import pytest
from scipy import sparse

from countedslides import dense, random_slide, slide
from spotwise.data.count_values import checked_counts
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import counts_elsewhere, read_counts
from spotwise.errors import InputError

GENES = [f"G{number}" for number in range(300)]


def drawn(seed=0, depth=3000):
    """Draw counts (60, 300) of spots whose depth varies as on a slide."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(300, 0.3))
    return rng.poisson(np.outer(depth * rng.lognormal(0, 0.5, 60), share)).astype(np.float32)


def normalised(counts, total):
    return counts / counts.sum(axis=1, keepdims=True) * total


def check(x):
    return checked_counts(slide(x, GENES), "st/S1.h5ad")[1]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("depth", [100, 3000, 30_000])
def test_counts_of_any_depth_pass_without_a_doubt(form, depth):
    assert check(form(drawn(depth=depth))) == []


def test_spots_of_one_depth_pass():
    """Drawn around one total, they vary as Poisson counts do."""
    rng = np.random.default_rng(0)
    assert check(rng.poisson(rng.lognormal(1, 1, 300), (60, 300)).astype(np.float32)) == []


@pytest.mark.parametrize("value", [1, 7])
def test_a_binarised_matrix_is_refused(value):
    with pytest.raises(
        InputError, match=rf"X: found no value besides 0 and {value} \(binarised\?\), expected raw counts"
    ):
        check((drawn() > 0) * np.float32(value))


def test_sparse_data_that_happen_to_hold_ones_alone_pass():
    ones = sparse.random(400, 300, 0.001, format="csr", random_state=0, dtype=np.float32)
    ones.data[:] = 1
    assert checked_counts(slide(ones, GENES), "s")[1] == []


@pytest.mark.parametrize("total", [1e6, 1e5, 1e4])
def test_rounded_counts_per_million_are_refused(total):
    with pytest.raises(InputError, match=r"counts in every spot \(normalised and rounded\?\)"):
        check(np.round(normalised(drawn(), total)))


def test_totals_that_differ_too_little_are_doubted():
    total = 5000 * np.random.default_rng(1).normal(1, 0.08, (60, 1))
    doubts = check(np.round(normalised(drawn(), total)))
    assert any("as if normalised or downsampled" in doubt for doubt in doubts)


def test_downsampled_counts_are_doubted_but_not_refused():
    rng = np.random.default_rng(0)
    sampled = np.stack([rng.multivariate_hypergeometric(row.astype(int), 400) for row in drawn()])
    assert check(sampled.astype(np.float32)) == [
        "X: totals of spots differ by 0.0%, as if normalised or downsampled; are these raw counts?"
    ]


def test_half_precision_is_doubted_above_its_whole_numbers_only():
    assert check(np.minimum(drawn(), 2048).astype(np.float16)) == []
    assert "are rounded, as float16 leaves them" in check(drawn(depth=60_000).astype(np.float16))[0]
    assert "are rounded, as float16 leaves them" in check(drawn(depth=60_000).astype(np.float16).astype(np.float32))[0]


def test_values_at_the_limit_of_their_type_are_doubted():
    assert "are the largest of uint8, which may cut off others" in check(np.minimum(drawn(), 255).astype(np.uint8))[0]
    assert check(np.minimum(drawn(), 255).astype(np.uint16)) == []


# --- where the counts are ---------------------------------------------------------------------------------------------

PROCESSED = {
    "log-normalised": lambda x: np.log1p(normalised(x, 1e4)),
    "scaled": lambda x: (x - x.mean(0)) / (x.std(0) + 1),
    "square roots": np.sqrt,
    "binarised": lambda x: (x > 0).astype(np.float32),
    "zeros": np.zeros_like,
}


@pytest.mark.parametrize("process", PROCESSED.values(), ids=PROCESSED)
@pytest.mark.parametrize("place", ["counts", "raw"])
def test_the_layer_that_holds_the_counts_is_named(tmp_path, process, place):
    counts = drawn()
    adata = slide(counts, GENES)
    if place == "raw":
        adata.raw = adata
    else:
        adata.layers["a_log"] = np.log1p(counts)
        adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.X = process(counts)
    path = tmp_path / "S1.h5ad"
    adata.write_h5ad(path)
    remedy = {"counts": r'set adata\.X = adata\.layers\["counts"\]', "raw": r"save adata\.raw\.to_adata\(\)"}[place]
    with pytest.raises(InputError, match=rf"S1\.h5ad: X: found .*holds counts: {remedy}"):
        clean_counts(read_counts(path), "S1", None, 1, path)


def test_a_file_without_x_names_the_layer(tmp_path):
    """As anndataR writes an experiment, whose assays all become layers."""
    counts = drawn()
    adata = slide(counts, GENES)
    adata.layers["counts"] = counts
    adata.X = None
    path = tmp_path / "S1.h5ad"
    adata.write_h5ad(path)
    with pytest.raises(InputError, match=r'X: found nothing, expected raw counts.*adata\.layers\["counts"\]'):
        read_counts(path)


def test_the_remedies_give_the_counts(tmp_path):
    adata = random_slide(0, 40)
    adata.raw = adata
    counts = dense(adata)
    adata.X = np.log1p(counts)
    path = tmp_path / "S1.h5ad"
    adata.raw.to_adata().write_h5ad(path)
    np.testing.assert_array_equal(dense(read_counts(path)), counts)


def test_no_place_is_named_where_none_holds_counts(tmp_path):
    adata = slide(drawn(), GENES)
    adata.layers["log"] = np.log1p(adata.X)
    adata.layers["empty"] = np.zeros_like(adata.X)
    adata.write_h5ad(tmp_path / "S1.h5ad")
    assert counts_elsewhere(tmp_path / "S1.h5ad") == ""
    assert counts_elsewhere(tmp_path / "none.h5ad") == ""
    assert anndata.read_h5ad(tmp_path / "S1.h5ad").n_obs == 60


def test_totals_in_obs_of_other_counts_are_doubted():
    def with_totals(totals):
        adata = slide(x, GENES)
        adata.obs["total_counts"] = totals
        return checked_counts(adata, "st/S1.h5ad")[1]

    x = drawn()
    totals = x.sum(axis=1)
    assert with_totals(totals) == []
    assert with_totals(np.full(60, np.nan)) == []
    for other in (np.roll(totals, 1), drawn(depth=9000).sum(axis=1)):  # rows in another order, genes left out
        (doubt,) = with_totals(other)
        assert doubt.startswith("X: totals of ")
        assert 'differ from obs["total_counts"]' in doubt
