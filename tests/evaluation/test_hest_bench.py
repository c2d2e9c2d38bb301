"""The protocol of the HEST benchmark against another implementation, written from its description with NumPy alone."""

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse.linalg import lsqr

from benchtask import FOLDS, GENES, LISTED, write_bench_task, write_embeddings, write_splits
from spotwise.data.bench_layout import BenchFold, read_task
from spotwise.data.bench_targets import BenchSlide, BenchTargets, assemble_targets
from spotwise.evaluation import hest_bench
from spotwise.evaluation.hest_bench import CROSS_VALIDATED, OFFICIAL, score_task, summarise


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_bench_task(tmp_path_factory.mktemp("bench") / "IDC", px=8)


@pytest.fixture(scope="module")
def embeddings(task, tmp_path_factory):
    return write_embeddings(task, tmp_path_factory.mktemp("embeddings"))


def targets_of(task):
    return assemble_targets(read_task(task.parent, task.name))[0]


@pytest.fixture(scope="module")
def scores(task, embeddings):
    return score_task(targets_of(task), embeddings)


# --- The protocol once more, from the files ---------------------------------------------------------------------------


def slide_by_description(task, embeddings, slide, genes):
    """Features and log(1 + counts) of the spots that have a patch, joined by barcode through a dictionary."""
    counts = anndata.read_h5ad(task / f"adata/{slide}.h5ad").to_df()
    with h5py.File(embeddings[slide]) as file:
        features = dict(zip(file["barcode"].asstr()[:], file["embedding"][:].astype(float), strict=True))
    barcodes = list(features)
    return np.array([features[one] for one in barcodes]), np.log(1 + counts.loc[barcodes, genes].to_numpy(float))


def correlation(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


def solved(scores, y, alpha):
    """Solve the ridge regression exactly, by its normal equations."""
    return np.linalg.solve(scores.T @ scores + alpha * np.eye(scores.shape[1]), scores.T @ y)


def stopped_early(scores, y, alpha):
    """Solve it gene by gene with LSQR, up to scikit-learn's default tolerance of 1e-4."""
    settings = {"damp": np.sqrt(alpha), "atol": 1e-4, "btol": 1e-4, "iter_lim": 1000}
    return np.stack([lsqr(scores, gene, **settings)[0] for gene in y.T], axis=1)


def protocol_by_description(task, embeddings, train, test, genes, most=256, solve=solved):
    """Correlations of each gene, pooled and in each slide, from eigenvectors of the covariance and a ridge solver."""
    slides = {one: slide_by_description(task, embeddings, one, genes) for one in (*train, *test)}
    x, y = (np.concatenate([slides[one][part] for one in train]) for part in (0, 1))
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation[deviation == 0] = 1
    scaled = (x - mean) / deviation
    _, vectors = np.linalg.eigh(scaled.T @ scaled)
    components = vectors[:, ::-1][:, : min(most, *x.shape)]
    scores = scaled @ components
    alpha = 100 / (scores.shape[1] * len(genes))
    slopes = solve(scores, y, alpha)
    predicted = [(slides[one][0] - mean) / deviation @ components @ slopes for one in test]
    observed = [slides[one][1] for one in test]
    within = np.mean([correlation(*pair) for pair in zip(predicted, observed, strict=True)], axis=0)
    return correlation(np.concatenate(predicted), np.concatenate(observed)), within


@pytest.mark.parametrize("fold", range(len(FOLDS)))
def test_scores_are_those_of_another_implementation(task, embeddings, scores, fold):
    mine = scores[(scores["fold"] == fold) & (scores["probe"] == OFFICIAL)]
    assert list(mine["gene"]) == LISTED
    pooled, within = protocol_by_description(task, embeddings, *FOLDS[fold], LISTED, solve=stopped_early)
    for ours, theirs in ((mine["pcc"], pooled), (mine["pcc_per_slide"], within)):
        np.testing.assert_allclose(ours, theirs, atol=5e-3)  # a gene may be stopped a step sooner in float32
        assert np.median(np.abs(ours - theirs)) < 5e-4
    exact, _ = protocol_by_description(task, embeddings, *FOLDS[fold], LISTED)
    assert abs(mine["pcc"].mean() - exact.mean()) < 0.01


def test_the_other_implementation_would_notice_every_part_of_the_protocol(task, embeddings, scores):
    """Each of these changes moves scores by far more than the tolerance above."""
    train, test = FOLDS[0]
    mine = scores[(scores["fold"] == 0) & (scores["probe"] == OFFICIAL)]["pcc"].to_numpy()
    others = {
        "components": protocol_by_description(task, embeddings, train, test, LISTED, most=20)[0],
        "genes in another order": protocol_by_description(task, embeddings, train, test, LISTED[::-1])[0],
        "slides": protocol_by_description(task, embeddings, ["S1"], test, LISTED)[0],
        "test slides": protocol_by_description(task, embeddings, train, ["S3"], LISTED)[0],
    }
    for what, other in others.items():
        assert np.abs(mine - other).max() > 0.05, what


def test_components_and_penalty_are_those_of_the_benchmark(scores):
    first = scores.groupby(["probe", "fold"]).first()
    spots = {0: 67, 1: 100, 2: 27}  # 3 spots of S2 have no patch; there are 48 features
    for fold, n in spots.items():
        row = first.loc[OFFICIAL, fold]
        assert (row["n_train"], row["components"]) == (n, min(n, 48))
        assert row["alpha"] == pytest.approx(100 / (min(n, 48) * 50))


def test_no_more_than_256_components_are_used():
    rng = np.random.default_rng(0)
    _, alpha, components = hest_bench.official_probe(
        rng.normal(size=(400, 300)), rng.normal(size=(400, 50)), rng.normal(size=(5, 300))
    )
    assert (alpha, components) == (100 / (256 * 50), 256)


def test_a_task_scores_the_mean_over_genes_then_folds(scores):
    row = summarise(scores).iloc[0]
    means = [
        scores[(scores["fold"] == fold) & (scores["probe"] == OFFICIAL)]["pcc"].mean() for fold in range(len(FOLDS))
    ]
    assert row["pcc"] == pytest.approx(sum(means) / 3)
    assert row["pcc_sd_folds"] == pytest.approx(np.sqrt(np.mean((np.array(means) - row["pcc"]) ** 2)))
    assert (row["n_folds"], row["n_constant"], row["components"]) == (3, 0, 27)


# --- Splits -----------------------------------------------------------------------------------------------------------


def test_slides_exchanged_between_training_and_test_give_another_score(task, embeddings, scores, tmp_path):
    other = write_bench_task(tmp_path / "IDC", px=8)
    write_splits(other, [(["S1", "S3"], ["S2", "S4"]), *FOLDS[1:]])
    exchanged = score_task(targets_of(other), embeddings)
    by_fold = [frame[frame["probe"] == OFFICIAL].groupby("fold")["pcc"].mean() for frame in (scores, exchanged)]
    assert abs(by_fold[0][0] - by_fold[1][0]) > 0.01
    np.testing.assert_array_equal(by_fold[0][1:], by_fold[1][1:])
    pooled, _ = protocol_by_description(other, embeddings, ["S1", "S3"], ["S2", "S4"], LISTED)
    assert by_fold[1][0] == pytest.approx(pooled.mean(), abs=0.002)


def test_only_listed_genes_are_scored(task, embeddings, tmp_path):
    other = write_bench_task(tmp_path / "IDC", px=8)
    (other / "var_50genes.json").write_text(json.dumps({"genes": [GENES[3], GENES[50]]}))
    assert set(score_task(targets_of(other), embeddings)["gene"]) == {GENES[3], GENES[50]}


def test_test_spots_teach_nothing(task, embeddings, tmp_path):
    """Counts of the test slides can change at will without a change of the prediction."""
    targets = targets_of(task)
    train, test = FOLDS[0]
    features = {one: slide_by_description(task, embeddings, one, LISTED)[0] for one in (*train, *test)}
    x = np.concatenate([features[one] for one in train]).astype(np.float32)
    y = np.concatenate([targets.slides[one].targets for one in train])
    z = np.concatenate([features[one] for one in test]).astype(np.float32)
    whole, _, _ = hest_bench.official_probe(x, y, z)
    part, _, _ = hest_bench.official_probe(x, y, z[:7])
    np.testing.assert_allclose(part, whole[:7], rtol=1e-4, atol=1e-4)


# --- Pooled and per slide ---------------------------------------------------------------------------------------------


def constructed(tmp_path, noise):
    """Make slides that differ in level alone: features and targets know the slide, nothing within it."""
    rng = np.random.default_rng(0)
    slides, files = {}, {}
    for number, name in enumerate(["A", "B", "C", "D"]):
        n, level = 60, float(number % 2)
        barcode = np.array([f"{name}{row}" for row in range(n)], dtype=object)
        targets = level + noise * rng.normal(size=(n, 2))
        slides[name] = BenchSlide(barcode, targets, rng.uniform(0, 1000, (n, 2)), n)
        files[name] = tmp_path / f"{name}.h5"
        with h5py.File(files[name], "w") as file:
            file["embedding"] = (level + 0.1 * rng.normal(size=(n, 8))).astype(np.float32)
            file["barcode"] = barcode
            file.attrs.update(encoder="made up", pretrained=True)
    return BenchTargets(("G1", "G2"), (BenchFold(("A", "B"), ("C", "D")),), slides), files


def test_differences_between_slides_earn_a_pooled_correlation_and_none_within_slides(tmp_path):
    row = summarise(score_task(*constructed(tmp_path, noise=0.1))).iloc[0]
    assert row["pcc"] > 0.9
    assert abs(row["pcc_per_slide"]) < 0.25
    assert abs(row["pcc_cv_per_slide"]) < 0.25


def test_both_are_the_same_where_a_fold_tests_one_slide(scores):
    single = scores[scores["n_test_slides"] == 1]
    assert len(single)
    np.testing.assert_array_equal(single["pcc"], single["pcc_per_slide"])
    several = scores[scores["n_test_slides"] > 1]
    assert (several["pcc"] != several["pcc_per_slide"]).all()


def test_a_constant_gene_scores_zero_and_is_counted(tmp_path):
    targets, files = constructed(tmp_path, noise=0.1)
    for name in ("C", "D"):
        targets.slides[name].targets[:, 1] = 0
    scores = score_task(targets, files)
    row = scores[(scores["gene"] == "G2") & (scores["probe"] == OFFICIAL)].iloc[0]
    assert (row["pcc"], row["is_constant"], row["n_constant_slides"]) == (0, True, 2)
    assert summarise(scores).iloc[0]["n_constant"] == 1


# --- The chosen penalty -----------------------------------------------------------------------------------------------


def test_a_penalty_chosen_on_training_slides_beats_the_benchmarks_on_noisy_features(scores):
    row = summarise(scores).iloc[0]
    assert row["pcc_cv"] > row["pcc"] + 0.02
    assert row["alpha_cv"] > 1


def test_the_penalty_is_chosen_without_the_test_slides(task, embeddings):
    targets = targets_of(task)
    before = score_task(targets, embeddings)
    rng = np.random.default_rng(0)
    for name in FOLDS[0][1]:
        rng.shuffle(targets.slides[name].targets)
    after = score_task(targets, embeddings)
    chosen = [frame[(frame["probe"] == CROSS_VALIDATED) & (frame["fold"] == 0)] for frame in (before, after)]
    assert chosen[0]["alpha"].iloc[0] == chosen[1]["alpha"].iloc[0]
    assert chosen[0]["pcc"].mean() - chosen[1]["pcc"].mean() > 0.1


def test_many_slides_are_joined_to_five_groups_and_none_is_torn():
    slides = np.repeat([f"S{number}" for number in range(23)], np.arange(23) + 5)
    groups = hest_bench.inner_groups(slides)
    assert len(set(groups)) == 5
    assert pd.Series(groups).groupby(slides).nunique().eq(1).all()
    sizes = np.bincount(groups)
    assert sizes.max() < 1.2 * sizes.min()
    few = np.array(["A", "A", "B"])
    assert hest_bench.inner_groups(few) is few
