"""Claims about files of other tools: spots and genes are matched by name, units are brought to ours, faults refused."""

from dataclasses import replace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spotwise.constants import TEST
from spotwise.data.genes import normalise
from spotwise.errors import InputError
from spotwise.inference.external_files import Scale, read_external
from spotwise.inference.prediction_files import rounded, write_prediction
from spotwise.models.controls import LibrarySize

LOGS = Scale("log_normalised")


@pytest.fixture
def fold(fold):
    """Scale the shared fold to the range of logarithms."""
    return replace(fold, expression=fold.expression / 10)


@pytest.fixture
def truth(fold):
    """Take what slide C measured, as a tool would write it."""
    rows = fold.rows(TEST, sample="C")
    obs, var = pd.DataFrame(index=fold.barcode[rows]), pd.DataFrame(index=fold.genes)
    return anndata.AnnData(fold.expression[rows], obs=obs, var=var)


def read(fold, content, tmp_path, scale=LOGS):
    content.write_h5ad(tmp_path / "C.h5ad")
    return read_external(tmp_path / "C.h5ad", fold, "C", scale)


def refusal(fold, content, tmp_path, scale=LOGS):
    with pytest.raises(InputError) as error:
        read(fold, content, tmp_path, scale)
    told = str(error.value)
    assert told.startswith(f"{tmp_path / 'C.h5ad'}: ")
    assert "\n" not in told
    return told


# --- Spots and genes


def test_values_stand_at_the_spots_and_genes_of_their_names(fold, truth, tmp_path):
    slide = read(fold, truth, tmp_path)
    np.testing.assert_array_equal(slide.expression, truth.X)
    assert slide.expression.dtype == np.float32
    assert slide.predicted.all()
    turned = read(fold, truth[::-1, np.random.default_rng(0).permutation(12)].copy(), tmp_path)
    np.testing.assert_array_equal(turned.expression, truth.X)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.astype(np.float64)])
def test_any_form_of_matrix_gives_the_same(fold, truth, tmp_path, form):
    expected = truth.X.copy()
    truth.X = form(truth.X)
    np.testing.assert_array_equal(read(fold, truth, tmp_path).expression, expected)


def test_barcodes_written_as_bytes_or_with_blanks_are_found(fold, truth, tmp_path):
    truth.obs_names = [f"b'{name}' " for name in truth.obs_names]
    np.testing.assert_array_equal(read(fold, truth, tmp_path).expression, truth.X)


def test_other_spots_and_genes_change_nothing_and_are_counted(fold, truth, tmp_path):
    more = anndata.AnnData(
        np.pad(truth.X, ((2, 3), (1, 0)), constant_values=3),
        obs=pd.DataFrame(index=["X-1", "X-2", *truth.obs_names, "X-3", "X-4", "X-5"]),
        var=pd.DataFrame(index=["OTHER", *truth.var_names]),
    )
    slide = read(fold, more, tmp_path)
    np.testing.assert_array_equal(slide.expression, truth.X)
    assert (slide.n_other_spots, slide.n_other_genes) == (5, 1)


def test_a_prediction_of_the_run_comes_back_bit_by_bit(fold, tmp_path):
    predicted = LibrarySize().predict(fold, "C", seed=0, ceiling=None)
    made = {"predictor": "a", "method": "a", "kind": "method", "k": 0, "k_used": 0, "seed": 0, "note": ""}
    write_prediction(tmp_path / "C.h5ad", fold, "C", predicted, made)
    np.testing.assert_array_equal(read_external(tmp_path / "C.h5ad", fold, "C", LOGS).expression, rounded(predicted))


def test_a_gene_without_prediction_has_its_training_mean(fold, truth, tmp_path):
    slide = read(fold, truth[:, [0, 2, 3]].copy(), tmp_path)
    assert fold.genes[slide.predicted].tolist() == ["G00", "G02", "G03"]
    lacking = ~slide.predicted
    mean = fold.expression[fold.role != TEST].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(slide.expression[0, lacking], mean[lacking], rtol=1e-6)
    assert (np.ptp(slide.expression[:, lacking], axis=0) == 0).all()
    np.testing.assert_array_equal(slide.expression[:, 0], truth.X[:, 0])


def test_missing_and_repeated_spots_are_refused_with_number_and_name(fold, truth, tmp_path):
    assert "obs_names: found 2 of 20 test spots of C missing, first 'C-3', expected every test spot" in refusal(
        fold, truth[[0, 1, 2, *range(5, 20)]].copy(), tmp_path
    )
    again = anndata.concat([truth, truth[[4, 7]]])
    assert "obs_names: found 'C-4' more than once (2 such spots)" in refusal(fold, again, tmp_path)
    truth.obs_names = [f"slide_{number}" for number in range(20)]
    told = refusal(fold, truth, tmp_path)
    assert "20 of 20 test spots of C missing, first 'C-0'; its own are called 'slide_0'" in told


def test_repeated_genes_of_the_panel_are_refused_and_others_do_not_matter(fold, truth, tmp_path):
    twice = anndata.concat([truth, truth[:, [5]]], axis=1)
    assert "var_names: found 'G05' more than once (1 such genes)" in refusal(fold, twice, tmp_path)
    other = truth[:, [0, 0]].copy()
    other.var_names = ["OTHER", "OTHER"]
    slide = read(fold, anndata.concat([other, truth], axis=1), tmp_path)
    np.testing.assert_array_equal(slide.expression, truth.X)


def test_genes_under_other_names_are_refused(fold, truth, tmp_path):
    truth.var_names = [f"ENSG{number:011d}" for number in range(12)]
    told = refusal(fold, truth, tmp_path)
    assert "none of the 12 genes of the panel, but 'ENSG00000000000' and so on" in told
    assert "gene symbols, not Ensembl ids" in told


# --- Units


@pytest.fixture
def counts(truth):
    """Draw counts of slide C for the panel and more genes."""
    rng = np.random.default_rng(2)
    drawn = rng.poisson(rng.gamma(2, 3, size=(20, 15)) * rng.uniform(0.5, 2, size=(20, 1))).astype(np.float32)
    names = [*truth.var_names, "X1", "X2", "X3"]
    return anndata.AnnData(drawn, obs=truth.obs, var=pd.DataFrame(index=names))


@pytest.mark.parametrize("target_sum", [None, 1e4])
def test_counts_are_normalised_as_the_measured_ones_are(fold, counts, tmp_path, target_sum):
    expected = normalise(counts, target_sum)[:, fold.genes].X.toarray()
    slide = read(fold, counts, tmp_path, Scale("counts", run_target_sum=target_sum))
    np.testing.assert_allclose(slide.expression, expected, rtol=1e-5)
    counts.X = np.log1p(counts.X)
    slide = read(fold, counts, tmp_path, Scale("log_counts", run_target_sum=target_sum))
    np.testing.assert_allclose(slide.expression, expected, rtol=1e-4, atol=1e-6)
    assert slide.n_negative == 0


def test_counts_of_spots_that_are_not_tested_do_not_matter(fold, counts, tmp_path):
    alone = read(fold, counts, tmp_path, Scale("counts")).expression
    other = counts.copy()
    other.obs_names, other.X = [f"X-{number}" for number in range(20)], counts.X * 9
    together = read(fold, anndata.concat([other, counts]), tmp_path, Scale("counts"))
    np.testing.assert_array_equal(together.expression, alone)


def test_logs_for_another_depth_are_scaled_to_that_of_the_run(fold, counts, tmp_path):
    expected = normalise(counts, 700)[:, fold.genes].X.toarray()
    deep = normalise(counts, 1e4)
    slide = read(fold, deep, tmp_path, Scale("log_normalised", target_sum=1e4, run_target_sum=700))
    np.testing.assert_allclose(slide.expression, expected, rtol=1e-4)
    medians = [np.median(fold.total_counts[fold.sample == slide]) for slide in ("A", "B")]
    usual = normalise(counts, float(np.mean(medians)))[:, fold.genes].X.toarray()
    slide = read(fold, deep, tmp_path, Scale("log_normalised", target_sum=1e4))
    np.testing.assert_allclose(slide.expression, usual, rtol=1e-4)


def test_values_below_zero_that_stand_for_counts_are_set_to_zero_and_counted(fold, counts, tmp_path):
    logs = np.log1p(counts.X)
    counts.X = np.where(logs == 0, np.float32(-0.1), logs)
    slide = read(fold, counts, tmp_path, Scale("log_counts"))
    assert slide.n_negative == (logs == 0).sum() > 0
    counts.X = logs
    np.testing.assert_array_equal(slide.expression, read(fold, counts, tmp_path, Scale("log_counts")).expression)


@pytest.mark.parametrize("units", ["counts", "log_counts"])
def test_normalised_values_are_no_counts(fold, counts, tmp_path, units):
    normalised = counts.X / counts.X.sum(axis=1, keepdims=True) * 1e4
    counts.X = normalised if units == "counts" else np.log1p(normalised)
    told = refusal(fold, counts, tmp_path, Scale(units))
    assert f"X: found 10000 in every spot with units: {units}, expected counts; units: log_normalised with" in told
    counts.X = np.tile(counts.X.mean(axis=0), (20, 1))  # the mean everywhere is a prediction
    assert (np.ptp(read(fold, counts, tmp_path, Scale(units)).expression, axis=0) == 0).all()


def test_a_spot_without_counts_stays_zero(fold, counts, tmp_path):
    counts.X[3] = 0
    assert (read(fold, counts, tmp_path, Scale("counts")).expression[3] == 0).all()
    counts.X[:] = 0
    assert "X: found no value above 0, expected counts" in refusal(fold, counts, tmp_path, Scale("counts"))


@pytest.mark.parametrize(
    ("units", "value", "told"),
    [
        ("log_normalised", 21, "X: found 21 with units: log_normalised, expected logs up to 20, or units: counts"),
        ("log_counts", 1e4, "X: found 10000 with units: log_counts"),
        ("counts", -0.5, "X: found -0.5 with units: counts, expected values of at least 0, or units of logs"),
        ("log_normalised", np.nan, "X: found nan at spot 'C-6', gene 'G02' (1 such values), expected finite numbers"),
        ("counts", np.inf, "X: found inf at spot 'C-6', gene 'G02'"),
    ],
)
def test_values_that_cannot_be_of_their_units_are_refused(fold, truth, tmp_path, units, value, told):
    truth.X[6, 2] = value
    assert told in refusal(fold, truth, tmp_path, Scale(units))


# --- Files


def test_files_of_another_kind_are_refused(fold, truth, tmp_path):
    path = tmp_path / "C.h5ad"
    for content, told in ((b"<html>", "a web page"), (b"", "an empty file"), (b"b,G00\n", "text that begins")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"C\.h5ad: file: found {told}"):
            read_external(path, fold, "C", LOGS)
    truth.write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
    with pytest.raises(InputError, match=r"X: found nothing, expected an \.h5ad of predictions"):
        read_external(path, fold, "C", LOGS)
    with pytest.raises(InputError, match="file: found no such file"):
        read_external(tmp_path / "none.h5ad", fold, "C", LOGS)
