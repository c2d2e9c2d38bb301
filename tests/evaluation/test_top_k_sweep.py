"""Claims about the sweep over K: what retrieval and scoring would give for each K, in one pass."""

from dataclasses import replace

import numpy as np
import pytest

from spotwise.constants import TEST
from spotwise.evaluation.averages import slide_means
from spotwise.evaluation.gene_sets import gene_set_columns
from spotwise.evaluation.scores import score_prediction
from spotwise.evaluation.top_k_sweep import retrieve_each, sweep_fold, top_k_values
from spotwise.inference.observed_files import write_observed
from spotwise.inference.prediction_files import read_prediction, write_prediction
from spotwise.inference.retrieval import Embeddings, retrieve
from spotwise.models import similarity_search

TOP = 4
SETS = gene_set_columns([TOP])


@pytest.fixture
def embedded(fold):
    """Bank and queries of the fold; every third bank spot is the one before it again, so that similarities tie."""
    rng = np.random.default_rng(2)
    bank = rng.normal(size=(len(fold.bank), 6)).astype(np.float32)
    bank[1::3] = bank[:-1:3]
    queries = rng.normal(size=(len(fold.rows(TEST)), 6)).astype(np.float32)
    return Embeddings.of(bank, fold.bank), Embeddings.of(queries, fold.rows(TEST))


def scored(fold, bank_fold, bank, queries, k, sample, path):
    """Mean PCC of each gene set by the long way: retrieve, write the prediction rounded, read it, score it, average."""
    of_slide = queries[np.flatnonzero(fold.sample[queries.row] == sample)]
    predicted, k_used = retrieve(of_slide, bank, bank_fold.expression[bank.row], k)
    made_by = {"predictor": "P", "method": "M", "kind": "method", "k": k, "k_used": k_used, "seed": 0, "note": ""}
    write_prediction(path, fold, sample, predicted, made_by)
    write_observed(path.with_name("observed.h5ad"), fold, sample)
    prediction = read_prediction(path, path.with_name("observed.h5ad"))
    return slide_means(score_prediction(prediction), [TOP])[SETS].iloc[0]


@pytest.mark.parametrize("protocol", ["paper", "patient"])
def test_every_k_equals_retrieval_and_scoring(fold, embedded, protocol, tmp_path):
    # retrieve sums in float32: without a large mean it keeps the small differences that are left at 50 of 55
    expression = fold.expression - fold.expression.mean(axis=0)
    expression[fold.sample == "C", 5] = np.nan  # a marker that one test slide does not measure
    fold = replace(fold, protocol=protocol, expression=expression)
    sweep = sweep_fold(fold, fold, *embedded, TOP)
    assert sweep[["sample", "k"]].to_numpy().tolist() == [
        [sample, k] for sample in "CD" for k in (1, 2, 5, 10, 20, 50, 55)
    ]
    assert set(sweep["bank"]) == {55}
    for row in sweep.to_dict("records"):
        expected = scored(fold, fold, *embedded, row["k"], row["sample"], tmp_path / "p.h5ad")
        np.testing.assert_allclose([row[name] for name in SETS], expected, atol=1e-4, err_msg=str(row))
    informative = sweep.loc[sweep["k"].between(2, 50), SETS].abs()
    assert (informative > 1e-3).all(axis=None)  # no comparison of zeros


def test_a_k_beyond_the_bank_is_the_whole_bank(fold, embedded, tmp_path):
    last = sweep_fold(fold, fold, *embedded, TOP).query("sample == 'C'").iloc[-1]
    assert last["k"] == last["bank"] == 55
    assert last[SETS].tolist() == scored(fold, fold, *embedded, 500, "C", tmp_path / "p.h5ad").tolist() == [0, 0, 0]


def test_expression_comes_from_the_bank_fold_and_truth_from_the_fold(fold, embedded, tmp_path):
    corrected = replace(fold, expression=fold.expression[::-1].copy())
    sweep = sweep_fold(fold, corrected, *embedded, TOP).set_index(["sample", "k"])[SETS]
    for sample in "CD":
        expected = scored(fold, corrected, *embedded, 10, sample, tmp_path / "p.h5ad")
        np.testing.assert_allclose(sweep.loc[sample, 10], expected, atol=1e-4)
    assert not np.allclose(sweep, sweep_fold(fold, fold, *embedded, TOP).set_index(["sample", "k"])[SETS])


@pytest.mark.parametrize("block_bytes", [1, 55 * 4 * 3, 2**28])
def test_predictions_equal_a_sort_of_each_query_for_any_block_size(fold, embedded, block_bytes, monkeypatch):
    monkeypatch.setattr(similarity_search, "BLOCK_BYTES", block_bytes)
    bank, queries = embedded
    expression = fold.expression[bank.row]
    ks = [1, 2, 7, 40, 55]
    predicted = retrieve_each(queries, bank, expression, ks)
    assert predicted.dtype == np.float32
    for query, unit in enumerate(queries.unit):
        similarity = [float(np.dot(unit, row)) for row in bank.unit]
        order = sorted(range(55), key=lambda row: (-np.float32(similarity[row]), row))
        for place, k in enumerate(ks):
            mean = np.mean([expression[row] for row in order[:k]], axis=0, dtype=np.float64)
            np.testing.assert_allclose(predicted[place, query], mean, rtol=1e-6)


def test_equal_similarities_go_to_the_lower_rows():
    bank = Embeddings.of(np.array([[0, 1], [1, 0], [2, 0], [1, 0], [3, 0]], dtype=np.float32), np.arange(5))
    query = Embeddings.of(np.array([[1, 0]], dtype=np.float32), np.arange(1))
    predicted = retrieve_each(query, bank, np.array([[0], [1], [10], [100], [1000]], dtype=np.float32), [1, 2, 3, 4])
    assert predicted[:, 0, 0].tolist() == [1, 5.5, 37, 277.75]


def test_the_whole_bank_gives_every_query_the_same_bits(fold, embedded):
    bank, queries = embedded
    predicted = retrieve_each(queries, bank, fold.expression[bank.row], [50, 55])
    assert np.ptp(predicted[0], axis=0).min() > 0
    assert np.ptp(predicted[1], axis=0).max() == 0
    np.testing.assert_allclose(predicted[1, 0], fold.expression[bank.row].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("bank", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (5, [1, 2, 5]),
        (6, [1, 2, 5, 6]),
        (100, [1, 2, 5, 10, 20, 50, 100]),
        (824, [1, 2, 5, 10, 20, 50, 100, 200, 500, 824]),
    ],
)
def test_k_grows_by_1_2_5_to_the_whole_bank(bank, expected):
    assert top_k_values(bank) == expected
