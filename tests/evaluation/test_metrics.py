import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import explained_variance_score

from spotwise.errors import InputError
from spotwise.evaluation import metrics

GENES = ["B", "A", "C", "D"]


def prediction(predicted, observed, run=None, **var):
    n, g = np.shape(predicted)
    names = GENES[:g]
    columns = {"is_marker": False, "is_measured": True, "reference_mean": np.arange(g), "reference_var": np.arange(g)}
    content = ad.AnnData(
        np.asarray(predicted, dtype=np.float32),
        obs=pd.DataFrame(index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame(columns | var, index=names),
        layers={"observed": np.asarray(observed, dtype=np.float32)},
        obsm={"spatial": np.stack([np.arange(n), np.zeros(n)], axis=1)},  # in a row
    )
    content.uns["spotwise"] = {
        "cohort": "demo",
        "protocol": "paper",
        "predictor": "CMRCNet-500",
        "method": "CMRCNet",
        "kind": "method",
        "k": 500,
        "k_used": 283,
        "fold": 1,
        "seed": 0,
        "sample": "S1",
        "note": "",
    } | (run or {})
    return content


@pytest.fixture
def expression():
    rng = np.random.default_rng(0)
    observed = rng.gamma(2, size=(80, 600))
    return 0.4 * observed + rng.normal(size=observed.shape), observed


def test_pcc_equals_scipy_gene_by_gene(expression):
    # 600 genes cross the border between two blocks of genes
    predicted, observed = expression
    pcc, is_constant = metrics.pearson_per_gene(predicted, observed)
    expected = [pearsonr(predicted[:, g], observed[:, g]).statistic for g in range(observed.shape[1])]
    np.testing.assert_allclose(pcc, expected, atol=1e-12)
    assert not is_constant.any()
    assert pcc.dtype == np.float64


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_pcc_of_float32_keeps_its_digits_under_a_large_offset(offset):
    rng = np.random.default_rng(1)
    predicted = (offset + rng.normal(size=(500, 3))).astype(np.float32)
    observed = (offset + predicted - offset + rng.normal(size=(500, 3))).astype(np.float32)
    pcc, _ = metrics.pearson_per_gene(predicted, observed)
    # by hand, in exact rational arithmetic's place: 80-bit floats on numbers made small first
    p, o = (np.longdouble(x) - np.longdouble(offset) for x in (predicted, observed))
    p, o = p - p.mean(axis=0), o - o.mean(axis=0)
    expected = (p * o).sum(axis=0) / np.sqrt((p * p).sum(axis=0) * (o * o).sum(axis=0))
    np.testing.assert_allclose(pcc, expected.astype(float), atol=1e-12)


def test_pcc_of_tiny_values_does_not_underflow(expression):
    predicted, observed = expression
    pcc, is_constant = metrics.pearson_per_gene(predicted * 1e-200, observed * 1e-200)
    np.testing.assert_allclose(pcc, metrics.pearson_per_gene(predicted, observed)[0], atol=1e-9)
    assert not is_constant.any()


def test_constant_genes_score_zero_and_are_flagged(expression):
    predicted, observed = (x[:, :3].copy() for x in expression)
    predicted[:, 0] = 0.1  # the mean of eighty 0.1 is not 0.1: centring leaves dust
    observed[:, 1] = 1 / 3
    assert (predicted[:, 0] - predicted[:, 0].mean()).any()
    pcc, is_constant = metrics.pearson_per_gene(predicted, observed)
    assert is_constant.tolist() == [True, True, False]
    assert pcc[:2].tolist() == [0.0, 0.0]
    assert pcc[2] != 0


def test_a_gene_that_varies_in_its_last_digits_is_not_constant():
    values = np.array([[1e6], [1e6 + 1e-6], [1e6], [1e6 + 1e-6]])
    pcc, is_constant = metrics.pearson_per_gene(values, np.array([[0.0], [1.0], [0.0], [1.0]]))
    assert not is_constant[0]
    assert pcc[0] == pytest.approx(1)


def test_one_spot_makes_every_gene_constant():
    pcc, is_constant = metrics.pearson_per_gene(np.ones((1, 2)), np.zeros((1, 2)))
    assert pcc.tolist() == [0, 0]
    assert is_constant.all()


@pytest.mark.parametrize(
    ("predicted", "observed", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), "one shape"),
        (np.zeros(3), np.zeros(3), "one shape"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "no spots"),
        (np.full((3, 1), np.nan), np.zeros((3, 1)), "predicted holds values that are not finite"),
        (np.zeros((3, 1)), np.full((3, 1), np.inf), "observed holds values that are not finite"),
        (np.zeros((3, 1)), np.array([[0], [-np.inf], [1]]), "observed holds values that are not finite"),
        (np.zeros((3, 1)), np.array([[0], [np.inf], [1]]), "observed holds values that are not finite"),
    ],
)
def test_what_cannot_be_correlated_is_refused(predicted, observed, message):
    with pytest.raises(ValueError, match=message):
        metrics.pearson_per_gene(predicted, observed)


def test_spearman_equals_scipy_gene_by_gene_with_ties(expression):
    predicted, observed = (values.round().astype(np.float32) for values in expression)
    expected = [spearmanr(predicted[:, g], observed[:, g]).statistic for g in range(600)]
    assert len(np.unique(observed)) < 20
    np.testing.assert_allclose(metrics.spearman_per_gene(predicted, observed), expected, atol=1e-12)


def test_spearman_asks_for_the_order_alone():
    observed = np.array([[1.0, 0.1], [2, 0.1], [3, 0.1], [1000, 0.1]])
    predicted = np.array([[0.0, 1], [1, 2], [30, 3], [31, 4]])
    assert metrics.spearman_per_gene(predicted, observed).tolist() == pytest.approx([1, 0])
    assert metrics.spearman_per_gene(-predicted, observed).tolist() == pytest.approx([-1, 0])


def test_explained_variance_equals_scikit_learn(expression):
    predicted, observed = expression
    expected = explained_variance_score(observed, predicted, multioutput="raw_values")
    assert expected.min() < 0 < expected.max()
    for shift in (0, 5):  # a wrong level costs nothing
        np.testing.assert_allclose(
            metrics.explained_variance_per_gene(predicted + shift, observed), expected, atol=1e-12
        )


def test_explained_variance_punishes_the_wrong_contrast():
    observed = np.array([[0.0, 0.1], [1, 0.1], [2, 0.1]])
    # residuals are (1 - f) times the truth's deviations
    for factor, expected in ((1, 1), (0.5, 0.75), (0, 0), (2, 0), (3, -3), (-1, -3)):
        assert metrics.explained_variance_per_gene(factor * observed, observed).tolist() == pytest.approx([expected, 0])


def test_scores_of_a_small_prediction_by_hand():
    observed = [[1, 0, 5, np.nan], [2, 0, 5, np.nan], [3, 3, 5, np.nan]]
    predicted = [[2, 1, 5, 1], [2, 1, 6, 2], [5, 0, 7, 3]]
    scores = metrics.score_prediction(
        prediction(predicted, observed, is_measured=[True, True, True, False], is_marker=[False, True, False, True])
    ).set_index("gene")
    # B: deviations (-1, -1, 2) and (-1, 0, 1): 3 / sqrt(6 * 2);  A: (1, 1, -2)/3 against (-1, -1, 2): -1
    assert scores["pcc"][["B", "A", "C"]].tolist() == pytest.approx([3 / np.sqrt(12), -1, 0])
    assert scores["is_constant"].tolist() == [False, False, True, False]
    # squared errors: B 1, 0, 4;  A 1, 1, 9;  C 0, 1, 4
    assert scores["rmse"][["B", "A", "C"]].tolist() == pytest.approx(np.sqrt([5 / 3, 11 / 3, 5 / 3]))
    # ranks: B (1.5, 1.5, 3) and (1, 2, 3), deviations (-1, -1, 2) / 2 and (-1, 0, 1): 1.5 / sqrt(1.5 * 2)
    assert scores["spearman"][["B", "A", "C"]].tolist() == pytest.approx([1.5 / np.sqrt(3), -1, 0])
    # residuals: B -1, 0, -2 with variance 2/3 of 2/3;  A -1, -1, 3 with variance 32/9 of 2
    assert scores["explained_variance"][["B", "A", "C"]].tolist() == pytest.approx([0, 1 - 32 / 18, 0])
    # 3 spots, 2 pairs of neighbours; truth B: 0 of 2, A: 1 - 2 of 6;  prediction B: 1 - 2 of 6, A: -1/9 of 6/9, C: 0
    assert scores["moran_observed"][["B", "A", "C"]].tolist() == pytest.approx([0, 3 / 2 * -1 / 6, 0])
    assert scores["moran_predicted"][["B", "A", "C"]].tolist() == pytest.approx([-1 / 4, -1 / 4, 0])
    assert scores["ssim"]["A"] < 0 < scores["ssim"]["B"]
    assert scores["ssim"]["C"] == 0
    assert scores.loc["B", ["observed_mean", "observed_var", "predicted_mean", "predicted_var"]].tolist() == [
        2,
        2 / 3,
        3,
        2,
    ]
    unmeasured = scores.loc["D"]
    needs_truth = ["pcc", "rmse", "spearman", "explained_variance", "ssim", "moran_observed", "moran_predicted"]
    assert unmeasured[[*needs_truth, "observed_mean", "observed_var"]].isna().all()
    assert (scores[needs_truth].dtypes == np.float64).all()
    assert unmeasured[["rank_mean", "rank_var"]].tolist() == [0, 0]
    assert unmeasured["predicted_mean"] == 2
    assert scores["is_marker"].tolist() == [False, True, False, True]
    assert scores["n_spots"].tolist() == [3] * 4
    assert scores[["k", "k_used", "fold"]].drop_duplicates().to_numpy().tolist() == [[500, 283, 1]]


def test_ranks_count_from_the_highest_measured_gene_and_ties_go_by_name():
    var = pd.DataFrame(
        {
            "is_measured": [True, True, True, False],
            "reference_mean": [2.0, 2.0, 3.0, 9.0],
            "reference_var": [0.1, 0.0, 0.3, np.nan],
        },
        index=GENES,
    )
    ranks = metrics.gene_ranks(var)
    assert ranks["rank_mean"].to_dict() == {"C": 1, "A": 2, "B": 3, "D": 0}
    assert ranks["rank_var"].to_dict() == {"C": 1, "B": 2, "A": 3, "D": 0}


def test_gene_lists_do_not_depend_on_the_prediction():
    rng = np.random.default_rng(2)
    observed = rng.random((9, 4))
    reference = {"reference_mean": observed.mean(axis=0), "reference_var": observed.var(axis=0)}
    first, second = (
        metrics.score_prediction(prediction(guess, observed, **reference))
        for guess in (rng.random((9, 4)), 100 * rng.random((9, 4)))
    )
    assert first["pcc"].ne(second["pcc"]).all()
    pd.testing.assert_frame_equal(first[["rank_mean", "rank_var"]], second[["rank_mean", "rank_var"]])
    assert first.set_index("rank_mean")["gene"][1] == GENES[observed.sum(axis=0).argmax()]
    assert first.set_index("rank_var")["gene"][1] == GENES[observed.var(axis=0).argmax()]


def test_scores_survive_the_way_through_files(tmp_path):
    rng = np.random.default_rng(3)
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.h5ad")
        prediction(rng.random((6, 3)), rng.random((6, 3)), run={"seed": seed, "note": "plain"}).write_h5ad(paths[-1])
    parts = [metrics.score_prediction(metrics.read_prediction(path)) for path in paths]
    scores = pd.concat(parts, ignore_index=True)
    assert list(scores.columns) == list(metrics.SCORE_COLUMNS)
    assert scores["seed"].tolist() == [0, 0, 0, 1, 1, 1]
    one, two = tmp_path / "scores" / "a.parquet", tmp_path / "scores" / "b.parquet"
    metrics.write_scores(scores[:3], one)
    metrics.write_scores(scores[3:], two)
    pd.testing.assert_frame_equal(metrics.read_scores([one, two]), scores)
    assert sorted(path.name for path in one.parent.iterdir()) == ["a.parquet", "b.parquet"]
    pd.testing.assert_frame_equal(
        metrics.read_scores([two, one], ["ssim"])[:3], scores[["ssim"]][3:].reset_index(drop=True)
    )
    with pytest.raises(InputError, match=r"a\.parquet: columns: .*also hvg_recovery"):
        metrics.read_scores([one], ["ssim", "hvg_recovery"])


def test_the_truth_scores_1_in_every_measure_and_repeats_its_own_autocorrelation(expression):
    observed = expression[1][:, :3]
    scores = metrics.score_prediction(prediction(observed, observed))
    perfect = {"pcc": 1, "spearman": 1, "explained_variance": 1, "ssim": 1, "rmse": 0}
    for name, value in perfect.items():
        assert scores[name].tolist() == pytest.approx([value] * 3), name
    assert scores["moran_predicted"].tolist() == scores["moran_observed"].tolist()
    assert scores["moran_observed"].abs().min() > 0


def test_a_prediction_that_breaks_its_contract_is_named(tmp_path):
    path = tmp_path / "prediction.h5ad"
    broken = prediction(np.ones((3, 2)), np.ones((3, 2)))
    del broken.uns["spotwise"]["k_used"]
    broken.write_h5ad(path)
    with pytest.raises(InputError, match=r"prediction\.h5ad: uns\['spotwise'\]: .*also k_used"):
        metrics.read_prediction(path)
    prediction(np.ones((3, 2)), [[1, np.nan]] * 3).write_h5ad(path)
    with pytest.raises(InputError, match=r"prediction\.h5ad: layers\['observed'\]"):
        metrics.read_prediction(path)
    prediction(np.ones((3, 2)), [[1, np.nan]] * 3, is_measured=[True, False]).write_h5ad(path)
    assert metrics.read_prediction(path).uns["spotwise"]["k"] == 500
    prediction(np.ones((3, 1)), np.ones((3, 1)), reference_var=[np.nan]).write_h5ad(path)
    with pytest.raises(InputError, match="reference_var"):
        metrics.read_prediction(path)


def test_predictions_of_one_slide_are_put_in_one_order(tmp_path):
    rng = np.random.default_rng(4)
    first = prediction(rng.random((5, 3)), rng.random((5, 3)))
    second = first[::-1, ::-1].copy()
    first.write_h5ad(tmp_path / "first.h5ad")
    second.write_h5ad(tmp_path / "second.h5ad")
    slide = metrics.read_slide({"one": tmp_path / "first.h5ad", "two": tmp_path / "second.h5ad"})
    np.testing.assert_array_equal(slide["one"].X, slide["two"].X)
    prediction(np.ones((5, 3)), np.ones((5, 3)), run={"sample": "S2"}).write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(InputError, match="found S2, expected S1"):
        metrics.read_slide({"one": tmp_path / "first.h5ad", "other": tmp_path / "other.h5ad"})
    first[:4].write_h5ad(tmp_path / "fewer.h5ad")
    with pytest.raises(InputError, match="found 4 spots, expected the 5 spots"):
        metrics.read_slide({"one": tmp_path / "first.h5ad", "fewer": tmp_path / "fewer.h5ad"})


def test_importing_metrics_and_tables_stays_light():
    code = "import sys, spotwise.reporting.tables; print({'torch', 'scanpy', 'anndata', 'matplotlib', 'scipy'} & set(sys.modules))"
    path = ":".join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert done.stdout.strip() == "set()", done.stderr
