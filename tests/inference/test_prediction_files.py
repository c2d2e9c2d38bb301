"""Claims about the files of predictions and of what was measured: together they are what scoring expects."""

from dataclasses import replace

import anndata
import numpy as np
import pytest

from handmade import prediction
from spotwise.constants import OBSERVED, PAPER, PROVENANCE, SPATIAL, TEST
from spotwise.errors import InputError
from spotwise.evaluation.scores import score_prediction
from spotwise.inference.observed_files import read_observed, write_observed
from spotwise.inference.prediction_files import read_prediction, read_slide, rounded, write_prediction
from spotwise.models.controls import LibrarySize

MADE_BY = {
    "predictor": "CMRCNet-50",
    "method": "CMRCNet",
    "kind": "method",
    "k": 50,
    "k_used": 35,
    "seed": 2,
    "note": "",
}


@pytest.fixture
def predicted(fold):
    return LibrarySize().predict(fold, "C", seed=0, ceiling=None)


@pytest.fixture
def written(fold, tmp_path):
    """Write a prediction of slide C and what was measured on it, and return both files."""

    def write(predicted, fold=fold, folder=tmp_path):
        write_prediction(folder / "C.h5ad", fold, "C", predicted, MADE_BY)
        write_observed(folder / "observed.h5ad", fold, "C")
        return folder / "C.h5ad", folder / "observed.h5ad"

    return write


def test_scoring_accepts_the_files_and_finds_everything_in_its_place(fold, predicted, written):
    file = read_prediction(*written(predicted))
    rows = fold.rows(TEST, sample="C")
    assert file.obs_names.tolist() == fold.barcode[rows].tolist() == [f"C-{spot}" for spot in range(20)]
    assert file.var_names.tolist() == fold.genes.tolist()
    np.testing.assert_array_equal(file.X, rounded(predicted))
    assert file.X.dtype == file.layers[OBSERVED].dtype == np.float32
    np.testing.assert_array_equal(file.layers[OBSERVED], fold.expression[rows])
    np.testing.assert_array_equal(file.obsm[SPATIAL], fold.spatial[rows])
    run = {**MADE_BY, "cohort": "c", "protocol": "patient", "fold": 0, "sample": "C"}
    assert file.uns[PROVENANCE] == {**run, "units": file.uns[PROVENANCE]["units"], "transform": "log1p"}
    assert file.uns[PROVENANCE]["units"].startswith("log(1 + x), x: counts of a spot")
    np.testing.assert_array_equal(file.obs[["array_row", "array_col"]], fold.array[rows])
    assert file.var_names[file.var["is_marker"]].tolist() == ["G00", "G05", "G10"]
    assert file.var["is_measured"].all()


@pytest.mark.parametrize("protocol", ["paper", "patient"])
def test_the_reference_of_the_genes_is_that_of_the_protocol(fold, predicted, written, protocol):
    fold = replace(fold, protocol=protocol)
    file = read_prediction(*written(predicted, fold))
    of = [["C"]] if protocol == PAPER else [["A"], ["B"]]
    blocks = [fold.expression[np.isin(fold.sample, slides)].astype(float) for slides in of]
    np.testing.assert_allclose(file.var["reference_mean"], np.mean([b.mean(axis=0) for b in blocks], axis=0))
    np.testing.assert_allclose(file.var["reference_var"], np.mean([b.var(axis=0) for b in blocks], axis=0))


@pytest.mark.parametrize("protocol", ["paper", "patient"])
def test_a_gene_that_the_slide_does_not_measure_is_marked_and_not_scored(fold, predicted, written, protocol):
    expression = fold.expression.copy()
    expression[fold.sample == "C", 4] = np.nan
    fold = replace(fold, expression=expression, protocol=protocol)
    file = read_prediction(*written(predicted, fold))
    assert file.var_names[~file.var["is_measured"]].tolist() == ["G04"]
    scores = score_prediction(file).set_index("gene")
    assert np.isnan(scores.loc["G04", "pcc"])
    assert scores.loc["G04", "rank_mean"] == 0
    assert np.isfinite(scores["pcc"].drop("G04")).all()


@pytest.mark.parametrize("wrong", [(19, 12), (20, 11), (15, 12), (12, 20)])
def test_a_prediction_of_another_shape_is_refused(fold, tmp_path, wrong):
    with pytest.raises(ValueError, match="predicted for 20 spots of C and 12 genes"):
        write_prediction(tmp_path / "C.h5ad", fold, "C", np.zeros(wrong, dtype=np.float32), MADE_BY)
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_holds_what_the_predictor_adds_and_opens_by_itself(predicted, written):
    path, observed = written(predicted)
    alone = anndata.read_h5ad(path)
    np.testing.assert_array_equal(alone.X, rounded(predicted))
    assert (list(alone.layers), list(alone.var.columns), list(alone.uns)) == ([], [], [PROVENANCE])
    assert list(alone.obsm) == [SPATIAL]
    truth = anndata.read_h5ad(observed)
    assert set(truth.uns["spatial"]) == {"C"}


def test_what_was_measured_is_found_in_the_results_of_the_run(fold, predicted, tmp_path):
    path = tmp_path / "results/my/predictions/c/patient/CMRCNet/fold0/seed2/CMRCNet-50/C.h5ad"
    write_prediction(path, fold, "C", predicted, MADE_BY)
    write_observed(tmp_path / "results/my/observed/c/patient/C.h5ad", fold, "C")
    rows = fold.rows(TEST, sample="C")
    np.testing.assert_array_equal(read_prediction(path).layers[OBSERVED], fold.expression[rows])
    path.rename(tmp_path / "C.h5ad")
    remedy = r"C\.h5ad: file: found no measured expression in it or near it, .*give its file, <results>/observed"
    with pytest.raises(InputError, match=remedy):
        read_prediction(tmp_path / "C.h5ad")


def test_a_joined_prediction_is_a_file_that_needs_no_other(predicted, written, tmp_path):
    joined = read_prediction(*written(predicted))
    joined.write_h5ad(tmp_path / "shared.h5ad")
    again = read_prediction(tmp_path / "shared.h5ad")
    for values, expected in ((again.X, joined.X), (again.layers[OBSERVED], joined.layers[OBSERVED])):
        np.testing.assert_array_equal(values, expected)
    assert again.var.equals(joined.var)
    assert read_prediction(tmp_path / "shared.h5ad", genes=["G03"]).var_names.tolist() == ["G03"]


def test_some_genes_are_read_as_from_the_whole(predicted, written):
    path, observed = written(predicted)
    whole, genes = read_prediction(path, observed), ["G07", "G00", "G11"]
    some = read_prediction(path, observed, genes)
    assert some.var_names.tolist() == genes
    np.testing.assert_array_equal(some.X, whole[:, genes].X)
    np.testing.assert_array_equal(some.layers[OBSERVED], whole[:, genes].layers[OBSERVED])
    assert some.var.equals(whole.var.loc[genes])
    with pytest.raises(InputError, match=r"C\.h5ad: genes: found no ACTB, KRT1, expected the 12 genes"):
        read_prediction(path, observed, ["G00", "ACTB", "KRT1"])


def test_rounding_moves_no_value_by_more_than_a_thousandth_of_the_deviation_of_its_gene():
    values = np.random.default_rng(1).normal(5, [1e-6, 0.01, 1, 300], size=(500, 4))
    moved = np.abs(rounded(values) - values.astype(np.float32)).max(axis=0)
    assert (moved[1:] <= values.std(axis=0)[1:] / 2048 + 1e-6).all()
    assert moved[3] > 0  # else the files would not shrink
    constant = np.full((7, 2), [0.1, 3.7], dtype=np.float32)
    np.testing.assert_array_equal(rounded(constant), constant)


def test_scores_of_a_file_agree_with_those_of_what_was_predicted(fold, predicted, written):
    rng = np.random.default_rng(3)
    noisy = (predicted + rng.normal(scale=0.3, size=predicted.shape)).astype(np.float32)
    of_file = read_prediction(*written(noisy))
    in_memory = of_file.copy()
    in_memory.X = noisy
    scores, exact = score_prediction(of_file), score_prediction(in_memory)
    for name in ("pcc", "rmse", "explained_variance", "predicted_mean", "predicted_var"):
        np.testing.assert_allclose(scores[name], exact[name], rtol=2e-3 if name == "rmse" else 1e-3, atol=1e-4)
    assert scores["is_constant"].equals(exact["is_constant"])


def test_what_was_measured_on_another_slide_fold_or_protocol_is_refused(fold, predicted, written, tmp_path):
    path, observed = written(predicted)
    for name, other in (("fold", {"fold": 1}), ("protocol", {"protocol": "paper"}), ("cohort", {"cohort": "d"})):
        write_observed(tmp_path / "other.h5ad", replace(fold, **other), "C")
        with pytest.raises(
            InputError, match=rf"other\.h5ad: {name}: found {other[name]}, expected .* as the prediction"
        ):
            read_prediction(path, tmp_path / "other.h5ad")
    fewer = anndata.read_h5ad(observed)[1:]
    fewer.write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(InputError, match=r"other\.h5ad: obs: found no C-0"):
        read_prediction(path, tmp_path / "other.h5ad")


def test_measured_expression_that_breaks_its_contract_is_refused(predicted, written, tmp_path):
    path, observed = written(predicted)
    whole = anndata.read_h5ad(observed)
    broken = {"X": whole.copy(), "reference_var": whole.copy(), "is_hvg": whole.copy()}
    broken["X"].X[0, 0] = np.inf
    broken["reference_var"].var["reference_var"] = np.nan
    del broken["is_hvg"].var["is_hvg"]
    for name, content in broken.items():
        content.write_h5ad(tmp_path / "other.h5ad")
        with pytest.raises(InputError, match=rf"other\.h5ad: .*{name}"):
            read_prediction(path, tmp_path / "other.h5ad")
    observed.write_bytes(observed.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"observed\.h5ad: file: found a damaged file, expected measured expression"):
        read_observed(observed)


def test_a_prediction_that_breaks_its_contract_is_refused(tmp_path):
    path = tmp_path / "prediction.h5ad"
    broken = prediction(np.ones((3, 2)), np.ones((3, 2)))
    del broken.uns["spotwise"]["k_used"]
    broken.write_h5ad(path)
    with pytest.raises(InputError, match=r"prediction\.h5ad: uns\['spotwise'\]: .*also k_used"):
        read_prediction(path)
    prediction(np.ones((3, 2)), [[1, np.nan]] * 3).write_h5ad(path)
    with pytest.raises(InputError, match=r"prediction\.h5ad: layers\['observed'\]"):
        read_prediction(path)
    prediction(np.ones((3, 2)), [[1, np.nan]] * 3, is_measured=[True, False]).write_h5ad(path)
    assert read_prediction(path).uns["spotwise"]["k"] == 500
    prediction(np.ones((3, 1)), np.ones((3, 1)), reference_var=[np.nan]).write_h5ad(path)
    with pytest.raises(InputError, match="reference_var"):
        read_prediction(path)


def test_predictions_of_one_slide_are_put_in_one_order(tmp_path):
    rng = np.random.default_rng(4)
    first = prediction(rng.random((5, 3)), rng.random((5, 3)))
    second = first[::-1, ::-1].copy()
    first.write_h5ad(tmp_path / "first.h5ad")
    second.write_h5ad(tmp_path / "second.h5ad")
    slide = read_slide({"one": tmp_path / "first.h5ad", "two": tmp_path / "second.h5ad"})
    np.testing.assert_array_equal(slide["one"].X, slide["two"].X)
    prediction(np.ones((5, 3)), np.ones((5, 3)), run={"sample": "S2"}).write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(InputError, match="found S2, expected S1"):
        read_slide({"one": tmp_path / "first.h5ad", "other": tmp_path / "other.h5ad"})
    first[:4].write_h5ad(tmp_path / "fewer.h5ad")
    with pytest.raises(InputError, match="found 4 spots, expected the 5 spots"):
        read_slide({"one": tmp_path / "first.h5ad", "fewer": tmp_path / "fewer.h5ad"})


def test_missing_and_damaged_predictions_are_refused(tmp_path):
    path = tmp_path / "BLEEP/fold0/seed1/BLEEP-50/S1.h5ad"
    path.parent.mkdir(parents=True)
    prediction(np.ones((3, 2)), np.ones((3, 2))).write_h5ad(path)
    whole = path.read_bytes()
    place = whole.index(b"SNOD")  # the names of the parts, where HDF5 raises RuntimeError
    torn = whole[:place] + bytes(64) + whole[place + 64 :]
    for content, found in (*((part, "a damaged file") for part in (whole[:3000], torn, b"")), (None, "none")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            read_prediction(path)
        remedy = f"delete {tmp_path / 'BLEEP'} and run again"
        assert str(refused.value) == f"{path}: file: found {found}, expected a prediction: {remedy}"


def test_the_remedy_for_a_damaged_file_of_what_was_measured_is_to_delete_the_output_of_its_job(tmp_path):
    path = tmp_path / "results/my/observed/c/patient/C.h5ad"
    with pytest.raises(InputError, match=rf"delete {path.parent} and run again$"):
        read_observed(path)


def test_the_remedy_for_a_file_outside_a_run_deletes_no_folder(tmp_path):
    with pytest.raises(InputError, match=rf"delete {tmp_path}/S1\.h5ad and run again"):
        read_prediction(tmp_path / "S1.h5ad")
