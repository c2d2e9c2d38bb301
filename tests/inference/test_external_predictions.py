"""Claims about imported predictions: the truth scores 1, what lacks scores 0, and what does not match is counted."""

from dataclasses import replace
from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest

from spotwise.constants import TEST
from spotwise.data.folds import read_fold, write_fold
from spotwise.errors import InputError
from spotwise.evaluation.gene_sets import scored_genes
from spotwise.evaluation.scores import score_prediction
from spotwise.inference.external_files import Scale
from spotwise.inference.external_predictions import import_predictions
from spotwise.inference.observed_files import write_observed
from spotwise.inference.prediction_files import read_prediction

TOP = 3


@pytest.fixture
def fold(fold):
    return replace(fold, expression=fold.expression / 10)


@pytest.fixture
def files(fold, tmp_path):
    """Write the truth of both test slides, and the fold."""
    write_fold(tmp_path / "fold.h5", fold)
    for sample in ("C", "D"):
        rows = fold.rows(TEST, sample=sample)
        obs, var = pd.DataFrame(index=fold.barcode[rows]), pd.DataFrame(index=fold.genes)
        anndata.AnnData(fold.expression[rows], obs=obs, var=var).write_h5ad(tmp_path / f"{sample}.h5ad")
    return {sample: tmp_path / f"{sample}.h5ad" for sample in ("C", "D")}


def change(path, change):
    content = anndata.read_h5ad(path)
    changed = change(content)
    (content if changed is None else changed).write_h5ad(path)


def imported(files, tmp_path, trained_on="", units="log_normalised"):
    """Return what is counted, and the prediction of slide C."""
    scored = partial(scored_genes, top=TOP)
    arguments = ([tmp_path / "fold.h5"], files, Scale(units), scored, "Tool", trained_on, 4, tmp_path / "out")
    facts = import_predictions(*arguments)
    write_observed(tmp_path / "observed.h5ad", read_fold(tmp_path / "fold.h5"), "C")
    prediction = read_prediction(tmp_path / "out/fold0/seed4/Tool/C.h5ad", tmp_path / "observed.h5ad")
    return facts.set_index("sample"), prediction


def test_the_truth_scores_one(files, tmp_path):
    facts, prediction = imported(files, tmp_path)
    scores = score_prediction(prediction)
    np.testing.assert_allclose(scores["pcc"], 1, atol=1e-6)
    np.testing.assert_allclose(scores["rmse"], 0, atol=1e-3)  # predictions are rounded
    assert (facts["relative_rmse"] < 1e-6).all()
    assert (facts["n_missing_genes"] == 0).all()
    assert (facts["warning"] == "").all()
    assert facts["n_spots"].to_dict() == {"C": 20, "D": 15}


def test_the_order_of_spots_does_not_matter(files, tmp_path):
    rng = np.random.default_rng(0)
    for path in files.values():
        change(path, lambda content: setattr(content, "X", content.X + rng.normal(0, 0.1, content.shape)))
    before = score_prediction(imported(files, tmp_path)[1])
    for path in files.values():
        change(path, lambda content: content[rng.permutation(content.n_obs), rng.permutation(12)].copy())
    pd.testing.assert_frame_equal(score_prediction(imported(files, tmp_path)[1]), before)


def test_a_gene_that_is_missing_scores_zero_and_is_counted_and_said(files, tmp_path):
    change(files["C"], lambda content: content[:, content.var_names != "G00"].copy())  # the most variable one
    facts, prediction = imported(files, tmp_path, trained_on="slides of elsewhere")
    scores = score_prediction(prediction).set_index("gene")
    assert scores.loc["G00", ["pcc", "is_constant"]].tolist() == [0.0, True]
    np.testing.assert_allclose(scores["pcc"].drop("G00"), 1, atol=1e-6)
    assert facts["n_missing_genes"].to_dict() == {"C": 1, "D": 0}
    assert facts["n_scored_missing"].to_dict() == {"C": 1, "D": 0}
    (note,) = scores["note"].unique()
    n_scored = facts["n_scored"].max()
    assert note == (
        "predicted by another tool, trained on: slides of elsewhere; up to 1 of 12 panel genes, and up to 1 of "
        f"{n_scored} in the lists, missing from its files: predicted as the training mean, which scores 0"
    )


def test_the_scored_genes_are_the_lists_and_the_markers(fold, files, tmp_path):
    bank = fold.expression[fold.role != TEST].astype(float)
    slides = [bank[fold.sample[fold.role != TEST] == slide] for slide in ("A", "B")]
    mean, variance = (np.mean([statistic(one, axis=0) for one in slides], axis=0) for statistic in (np.mean, np.var))
    chosen = [gene for gene in range(12) if gene != 10]  # that one is a marker alone
    listed = {gene for by in (mean, variance) for gene in sorted(chosen, key=lambda gene: -by[gene])[:TOP]}
    assert imported(files, tmp_path)[0].loc["C", "n_scored"] == len(listed | {0, 5, 10})


def test_a_file_without_most_of_the_scored_genes_is_refused(files, tmp_path):
    change(files["D"], lambda content: content[:, [1, 2, 3]].copy())
    with pytest.raises(InputError) as error:
        imported(files, tmp_path)
    assert str(error.value).startswith(f"{files['D']}: var_names: found ")
    assert "genes that Table 1 scores on D missing, first 'G00', expected at least half of them" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_values_on_a_wild_scale_are_warned_about_in_one_line(files, tmp_path, caplog):
    change(files["C"], lambda content: setattr(content, "X", content.X - 4))
    facts, prediction = imported(files, tmp_path)
    warning = facts.loc["C", "warning"]
    assert warning.startswith("errors ")
    assert "are the values log_normalised" in warning
    assert facts.loc["D", "warning"] == ""
    assert f"{files['C']}: errors " in caplog.text
    (note,) = score_prediction(prediction)["note"].unique()
    assert note.endswith("training slides not stated; warnings about 1 of 2 slides in tables/external.md")
    np.testing.assert_allclose(score_prediction(prediction)["pcc"], 1, atol=1e-5)  # which a shift does not change


def test_a_bad_file_stops_before_anything_is_written(files, tmp_path):
    change(files["D"], lambda content: content[:10].copy())
    with pytest.raises(InputError, match="5 of 15 test spots of D missing"):
        imported(files, tmp_path)
    assert not (tmp_path / "out").exists()
