"""Claims about the prediction file: what scoring expects is in it, at the right spots and genes."""

from dataclasses import replace

import anndata
import numpy as np
import pytest

from handmade import prediction
from spotwise.constants import OBSERVED, PAPER, PROVENANCE, SPATIAL, TEST
from spotwise.errors import InputError
from spotwise.evaluation.scores import score_prediction
from spotwise.inference.prediction_files import read_prediction, read_slide, write_prediction
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


def test_scoring_accepts_the_file_and_finds_everything_in_its_place(fold, predicted, tmp_path):
    write_prediction(tmp_path / "C.h5ad", fold, "C", predicted, MADE_BY)
    file = read_prediction(tmp_path / "C.h5ad")
    rows = fold.rows(TEST, sample="C")
    assert file.obs_names.tolist() == fold.barcode[rows].tolist() == [f"C-{spot}" for spot in range(20)]
    assert file.var_names.tolist() == fold.genes.tolist()
    np.testing.assert_array_equal(file.X, predicted)
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
def test_the_reference_of_the_genes_is_that_of_the_protocol(fold, predicted, tmp_path, protocol):
    fold = replace(fold, protocol=protocol)
    write_prediction(tmp_path / "C.h5ad", fold, "C", predicted, MADE_BY)
    file = anndata.read_h5ad(tmp_path / "C.h5ad")
    of = [["C"]] if protocol == PAPER else [["A"], ["B"]]
    blocks = [fold.expression[np.isin(fold.sample, slides)].astype(float) for slides in of]
    np.testing.assert_allclose(file.var["reference_mean"], np.mean([b.mean(axis=0) for b in blocks], axis=0))
    np.testing.assert_allclose(file.var["reference_var"], np.mean([b.var(axis=0) for b in blocks], axis=0))


@pytest.mark.parametrize("protocol", ["paper", "patient"])
def test_a_gene_that_the_slide_does_not_measure_is_marked_and_not_scored(fold, predicted, tmp_path, protocol):
    expression = fold.expression.copy()
    expression[fold.sample == "C", 4] = np.nan
    fold = replace(fold, expression=expression, protocol=protocol)
    write_prediction(tmp_path / "C.h5ad", fold, "C", predicted, MADE_BY)
    file = read_prediction(tmp_path / "C.h5ad")
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


def test_the_remedy_for_a_file_outside_a_run_deletes_no_folder(tmp_path):
    with pytest.raises(InputError, match=rf"delete {tmp_path}/S1\.h5ad and run again"):
        read_prediction(tmp_path / "S1.h5ad")
