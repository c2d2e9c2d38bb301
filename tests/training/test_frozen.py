"""Claims about methods on frozen features: what is fitted of a fold."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from spotwise.constants import TEST
from spotwise.data.features import embedded_spots, pretrained
from spotwise.data.folds import write_fold
from spotwise.errors import SetupError
from spotwise.models.description import read_description
from spotwise.models.registry import load, options
from spotwise.training.frozen import fit

METHODS = {"Ridge": {"n_alphas": 5}, "KNNImage": {"k": 4}}


def test_features_are_those_of_each_spots_patch(fold, embedded):
    rows = np.random.default_rng(0).permutation(len(fold.barcode))
    joined = embedded_spots(fold, rows, embedded)
    for at, row in enumerate(rows):
        with h5py.File(embedded[fold.sample[row]]) as file:
            np.testing.assert_array_equal(joined.features[at], file["embedding"][fold.patch[row]])


def run(fold, embedded, folder, method="Ridge"):
    folder.mkdir()
    write_fold(folder / "fold.h5", fold)
    trained = {slide: embedded[slide] for slide in ("A", "B")}  # none of a tested slide
    fit(folder / "fold.h5", trained, method, METHODS[method], 1, folder / "model")
    return folder / "model"


def summary_of(model):
    return json.loads((model / "summary.json").read_text())


@pytest.mark.parametrize("name", METHODS)
def test_a_fit_on_a_fold_is_that_of_its_training_spots(fold, embedded, tmp_path, name):
    model = run(fold, embedded, tmp_path / "run", name)
    summary, description, bank = summary_of(model), read_description(model), fold.bank
    fitted, report = load(name)(options(name, METHODS[name])).fit(
        embedded_spots(fold, bank, embedded), fold.expression[bank]
    )
    assert {key: summary[key] for key in report} == description.fitted == report
    assert (summary["spots"], summary["genes"], summary["protocol"]) == (len(bank), len(fold.genes), fold.protocol)
    stored = load_file(model / "weights.safetensors")
    assert stored.keys() == fitted.keys()
    for entry, value in fitted.items():
        np.testing.assert_allclose(stored[entry], value, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_of_a_tested_slide_decides_a_fit(fold, embedded, tmp_path, name):
    expression = fold.expression.copy()
    expression[fold.role == TEST] = np.nan
    model = run(fold, embedded, tmp_path / "run", name)
    blind = run(replace(fold, expression=expression), embedded, tmp_path / "blind", name)
    for file in ("summary.json", "model.json", "weights.safetensors"):
        assert (model / file).read_bytes() == (blind / file).read_bytes()


def without_weights(path):
    with h5py.File(path, "a") as file:
        file.attrs["pretrained"] = False


def test_features_say_whether_their_encoder_was_pretrained(embedded):
    assert pretrained({"A": embedded["A"], "B": embedded["B"]}) is True
    without_weights(embedded["A"])
    assert pretrained({"A": embedded["A"]}) is False


def test_embedded_spots_different_encoder_weights_are_not_mixed(fold, embedded, tmp_path):
    without_weights(embedded["B"])
    with pytest.raises(SetupError, match=r"B-embedded\.h5: embedded without pretrained weights"):
        run(fold, embedded, tmp_path / "mixed")
