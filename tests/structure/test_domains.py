"""Claims about domains: how many are found, what refinement does to them, and how they are judged."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from arrays import hexagonal, neighbours, square
from spotwise.errors import InputError
from spotwise.evaluation.spatial_metrics import adjacency
from spotwise.structure import baseline_spaces, domains
from spotwise.structure.spaces import Space
from spotwise.structure.spot_labels import UNLABELLED


def space_of(embedding, name="S", seed=0):
    barcodes = np.array([f"s{spot}" for spot in range(len(embedding))], dtype=object)
    return Space(np.asarray(embedding, dtype=np.float32), barcodes, name, seed)


def clouds(sizes, distance=8.0, seed=0):
    """Embedding and truth of groups of spots well apart."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    centres = distance * np.eye(len(sizes), 5)
    return centres[truth] + rng.normal(size=(len(truth), 5)), truth


# --- Clustering -------------------------------------------------------------------------------------------------------


def test_both_clusterings_find_separate_groups_and_number_them_by_size():
    embedding, truth = clouds([20, 45, 35])
    order = np.random.default_rng(1).permutation(100)
    found = domains.find_domains(space_of(embedding[order]), square(10), 3, 4, "file")
    expected = np.array([2, 0, 1])[truth[order]]
    assert len(found) == 400
    for (_, refined), spots in found.groupby(["clustering", "refined"]):
        assert refined or spots["domain"].tolist() == expected.tolist()
    assert set(found["clustering"]) == {"kmeans", "leiden"}
    assert found[["space", "seed"]].drop_duplicates().to_numpy().tolist() == [["S", 4]]


def test_groups_of_one_size_are_numbered_as_they_come():
    assert domains.number_by_size(np.array(list("zzbbaaac"))).tolist() == [1, 1, 2, 2, 0, 0, 0, 3]


def test_clusterings_are_the_same_each_time_and_depend_on_the_seed():
    embedding = np.random.default_rng(2).normal(size=(150, 6))
    for cluster in (domains.kmeans, domains.leiden):
        one, again, other = (cluster(embedding, 6, seed) for seed in (1, 1, 2))
        assert one.tolist() == again.tolist()
        assert adjusted_rand_score(one, other) < 1


def test_kmeans_keeps_the_best_of_several_starts():
    from sklearn.cluster import KMeans

    def inertia(labels):
        centres = np.stack([embedding[labels == label].mean(axis=0) for label in np.unique(labels)])
        return ((embedding - centres[labels]) ** 2).sum()

    embedding, _ = clouds([15] * 9, distance=4)
    found = [inertia(domains.kmeans(embedding, 9, seed)) for seed in range(5)]
    single = [KMeans(9, n_init=1, random_state=seed).fit(embedding).inertia_ for seed in range(5)]
    assert np.mean(found) < 0.99 * np.mean(single)


@pytest.mark.parametrize("wanted", [2, 3, 4, 5, 7, 10])
def test_leiden_finds_the_wanted_number(wanted):
    rng = np.random.default_rng(3)
    embedding = np.concatenate([rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 3])
    assert len(np.unique(domains.leiden(embedding, wanted, 0))) == wanted


def test_leiden_comes_nearest_where_the_number_cannot_be_met():
    far, truth = clouds([30, 30, 30, 30], distance=1000)
    found = domains.leiden(far, 2, 0)  # four pieces of graph cannot be two communities
    assert adjusted_rand_score(found, truth) == 1


def test_the_resolution_is_searched_by_doubling_and_bisection():
    asked = []

    def steps(resolution):
        asked.append(resolution)
        return np.arange(100) % (1 + int(resolution > 2.9) + 3 * int(resolution > 3.7) + 4 * int(resolution > 20))

    assert len(np.unique(domains.search_resolution(steps, 2))) == 2
    assert asked == [1, 2, 4, 3]
    for wanted, nearest in ((1, 1), (3, 2), (4, 5), (5, 5), (7, 5), (8, 9), (9, 9), (50, 9)):
        assert len(np.unique(domains.search_resolution(steps, wanted))) == nearest


def test_spaces_with_too_few_spots_or_rows_for_the_domains_are_refused():
    embedding, _ = clouds([5, 4])
    with pytest.raises(InputError, match=r"file: spots: found 9, expected more than the 9 domains"):
        domains.find_domains(space_of(embedding), square(3), 9, 0, "file")
    labels = np.full(9, UNLABELLED, dtype=object)
    with pytest.raises(InputError, match=r"file: embedding: found 2 different rows for 9 spots, expected at least 3"):
        domains.domains_of_slide([("file", space_of(np.arange(9)[:, None] % 2), 0)], square(3), labels, 3)
    assert len(domains.find_domains(space_of(embedding), square(3), 2, 0, "file")) == 36


# --- Refinement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # the spot in the middle has all four of its neighbours against it
        ("000 010 000", "000 000 000"),
        # three of four: with the spot itself that is 3 of 5
        ("000 012 000", "000 002 000"),
        # two of four are not most, the spot itself counted; the corner follows its two
        ("000 011 010", "000 011 011"),
        ("020 212 020", "222 222 222"),
        # a corner has two neighbours; it follows them where they agree
        ("011 111 111", "111 111 111"),
        ("012 111 111", "111 111 111"),
        # all at once: the ring is judged by the old middle
        ("111 101 111", "111 111 111"),
        ("000 111 222", "000 111 222"),
    ],
)
def test_refinement_of_nine_spots_by_hand(before, after):
    found = domains.refine(np.array(list(map(int, before.replace(" ", "")))), adjacency(square(3)))
    assert "".join(map(str, found)) == after.replace(" ", "")


@pytest.mark.parametrize(("others", "after"), [(3, 0), (4, 1), (6, 1)])
def test_refinement_of_a_hexagonal_patch_by_hand(others, after):
    angle = np.arange(6) * np.pi / 3
    patch = np.vstack([[0, 0], np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    before = np.array([0] + [1] * others + [2] * (6 - others))
    # the spot and its six: most is 4 of 7
    assert domains.refine(before, adjacency(patch))[0] == after


@pytest.mark.parametrize(("array", "reach"), [(square, 1.2), (hexagonal, 1.2)])
def test_refinement_is_the_vote_of_the_spot_and_its_neighbours(array, reach):
    rng = np.random.default_rng(6)
    spatial = array(12)[rng.random(144) < 0.8]
    before = rng.integers(0, 3, len(spatial))
    expected = before.copy()
    for spot, near in enumerate(neighbours(spatial, reach)):
        votes = np.bincount(before[[spot, *near]], minlength=3)
        if votes.max() > (1 + len(near)) / 2:
            expected[spot] = votes.argmax()
    found = domains.refine(before, adjacency(spatial))
    assert found.tolist() == expected.tolist()
    assert (found != before).any()


def test_a_spot_on_its_own_keeps_its_domain():
    spatial = np.array([[0.0, 0], [1, 0], [2, 0], [9, 9]])
    assert domains.refine(np.array([0, 0, 0, 1]), adjacency(spatial)).tolist() == [0, 0, 0, 1]
    assert domains.refine(np.array([0, 1]), adjacency(spatial[:2])).tolist() == [0, 1]  # and two do not swap


# --- Scores -----------------------------------------------------------------------------------------------------------


def scores_of(found, labels, embedding=None, spatial=None):
    embedding = np.random.default_rng(0).normal(size=(len(found), 3)) if embedding is None else embedding
    spatial = square(round(np.sqrt(len(found)))) if spatial is None else spatial
    return domains.score_domains(np.asarray(found), embedding, spatial, np.asarray(labels, dtype=object))


def test_a_relabelled_truth_agrees_in_full_and_a_permuted_one_by_chance():
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 4, 900)
    labels = np.array(["d", "a", "c", "b"])[truth]
    perfect = scores_of(truth, labels)
    assert [perfect[name] for name in ("ARI", "AMI", "homogeneity", "completeness")] == pytest.approx([1, 1, 1, 1])
    permuted = [scores_of(rng.permutation(truth), labels) for _ in range(10)]
    for name in ("ARI", "AMI"):
        assert np.mean([scores[name] for scores in permuted]) == pytest.approx(0, abs=0.004)


def test_ari_homogeneity_and_completeness_by_hand():
    # domains 0 0 1 1 1 against a a a b b: pairs together in both 2 (aa, bb), in domains 4, in labels 4, of 10:
    # (2 - 1.6) / (4 - 1.6)
    labels = list("aaabb") + [UNLABELLED] * 4
    scores = scores_of([0, 0, 1, 1, 1, 2, 2, 2, 2], labels)
    assert scores["ARI"] == pytest.approx(0.4 / 2.4)
    assert (scores["n_spots"], scores["n_labelled"], scores["n_domains"]) == (9, 5, 3)
    # each domain holds one label, but label b lies in two domains
    split = scores_of([0, 0, 1, 2, 1, 1, 1, 1, 1], ["a", "a", "b", "b", *[UNLABELLED] * 5])
    assert split["homogeneity"] == pytest.approx(1)
    assert split["completeness"] == pytest.approx(np.log(2) / (1.5 * np.log(2)))


def test_what_is_found_on_unlabelled_spots_does_not_count():
    rng = np.random.default_rng(8)
    labels = np.array(list("abc"), dtype=object)[rng.integers(0, 3, 100)]
    found = rng.integers(0, 3, 100)
    labels[::3] = UNLABELLED
    other = np.where(labels == UNLABELLED, rng.integers(0, 3, 100), found)
    assert (other != found).any()
    for name in ("ARI", "AMI", "homogeneity", "completeness"):
        assert scores_of(found, labels)[name] == scores_of(other, labels)[name]


def test_without_labels_only_silhouette_and_pas_are_scored():
    embedding, truth = clouds([50, 50], distance=50)
    scores = scores_of(truth, [UNLABELLED] * 100, embedding)
    assert np.isnan([scores[name] for name in ("ARI", "AMI", "homogeneity", "completeness")]).all()
    assert scores["silhouette"] > 0.9
    assert scores["n_labelled"] == 0


def test_silhouette_by_hand_and_of_a_single_domain():
    # distances of 0 to (1) and to (10, 11): a = 1, b = 10.5; likewise mirrored, and 1 to (0) and (10, 11)
    line = np.array([[0.0], [1], [10], [11]])
    expected = np.mean([1 - 1 / 10.5, 1 - 1 / 9.5] * 2)
    spatial = np.arange(8).reshape(4, 2).astype(float)
    assert scores_of([0, 0, 1, 1], [UNLABELLED] * 4, line, spatial)["silhouette"] == pytest.approx(expected)
    assert np.isnan(scores_of([0, 0, 0, 0], [UNLABELLED] * 4, line, spatial)["silhouette"])


def test_pas_equals_brute_force_and_its_extremes():
    rng = np.random.default_rng(9)
    spatial, found = rng.uniform(size=(80, 2)), rng.integers(0, 2, 80)
    distance = np.linalg.norm(spatial[:, None] - spatial[None], axis=2)
    nearest = distance.argsort(axis=1)[:, 1:11]
    expected = [np.sum(found[near] != found[spot]) >= 6 for spot, near in enumerate(nearest)]
    assert domains.abnormal_share(found, spatial) == pytest.approx(np.mean(expected))
    assert domains.abnormal_share(np.zeros(80, dtype=int), spatial) == 0
    assert domains.abnormal_share(np.arange(80), spatial) == 1
    # six spots: five others each; of the lone one all, of the others one of five
    assert domains.abnormal_share(np.array([1, 0, 0, 0, 0, 0]), spatial[:6]) == pytest.approx(1 / 6)


# --- Slides -----------------------------------------------------------------------------------------------------------


def test_a_slide_is_scored_in_every_space_by_the_clustering_of_that_space():
    good, truth = clouds([30, 30, 40])
    noise = np.random.default_rng(10).normal(size=good.shape)
    labels = np.array(["a", "b", "c"], dtype=object)[truth]
    labels[:10] = UNLABELLED
    runs = [("f0", space_of(noise, "Noise"), 1), ("f1", space_of(good, "Good"), 1), ("f1", space_of(good, "Good"), 2)]
    found, scores = domains.domains_of_slide(runs, square(10), labels, 3)
    assert len(found) == 3 * 4 * 100
    assert len(scores) == 12
    assert list(scores.columns) == [
        *("space", "seed", "clustering", "refined", "n_domains", "ARI", "AMI", "homogeneity", "completeness"),
        *("silhouette", "pas", "n_spots", "n_labelled"),
    ]
    by_space = scores[~scores["refined"]].groupby("space")["ARI"]
    assert by_space.min()["Good"] == pytest.approx(1)
    assert by_space.max()["Noise"] < 0.1
    assert scores["n_labelled"].unique().tolist() == [90]
    for table in (found, scores):
        table.drop(table.index[(table["space"] != "Good") | (table["seed"] != 2) | ~table["refined"]], inplace=True)
    of_leiden = found.loc[found["clustering"] == "leiden", "domain"].to_numpy()
    expected = domains.score_domains(of_leiden, good.astype(np.float32), square(10), labels)
    assert scores.loc[scores["clustering"] == "leiden", list(expected)].iloc[0].to_dict() == pytest.approx(expected)


def test_spaces_of_other_spots_are_refused():
    embedding, _ = clouds([20, 16])
    one, other = space_of(embedding), space_of(embedding, "T")
    turned = Space(other.embedding, other.barcode[::-1], "T", 0)
    with pytest.raises(InputError, match=r"f1: barcode: found 36 spots, expected those of S, in their order"):
        domains.domains_of_slide([("f0", one, 0), ("f1", turned, 0)], square(6), np.full(36, ""), 2)


# --- Two modalities ---------------------------------------------------------------------------------------------------


def two_modalities(seed):
    """Make domains A B C D of which the image separates A, B from C, D and the expression A, C from B, D."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(4), 36)
    image = 5.0 * (truth // 2)[:, None] * np.eye(1, 6) + rng.normal(size=(144, 6))
    expression = 50.0 * (truth % 2)[:, None] * np.eye(1, 6) + 10 * rng.normal(size=(144, 6))
    return image, expression, np.array(list("ABCD"), dtype=object)[truth]


def ari(embedding, labels):
    _, scores = domains.domains_of_slide([("f", space_of(embedding), 0)], square(12), labels, 4)
    return scores[~scores["refined"]].set_index("clustering")["ARI"]


def test_both_modalities_together_separate_what_neither_does_alone_or_shuffled():
    rows = []
    for seed in range(3):
        image, expression, labels = two_modalities(seed)
        shuffled = image[np.random.default_rng(seed).permutation(144)]
        for name, embedding in (
            ("image", image),
            ("expression", expression),
            ("both", baseline_spaces.concatenate(image, expression)),
            ("shuffled", baseline_spaces.concatenate(shuffled, expression)),
        ):
            rows.append({"space": name, **ari(embedding, labels)})
    means = pd.DataFrame(rows).groupby("space").mean()
    alone = means.loc[["image", "expression"]].max()
    assert (means.loc["both"] > 0.9).all()
    assert (means.loc["both"] > alone + 0.3).all()
    assert (means.loc["shuffled"] < alone + 0.05).all()


def test_the_halves_of_a_models_space_are_scored_beside_it():
    image, expression, labels = two_modalities(0)
    joint = replace(space_of(np.hstack([image, expression])), name="Mine", seed=2, halves=(6, 6))
    found, scores = domains.domains_of_slide([("f", joint, 2)], square(12), labels, 4)
    names = ["Mine", "Mine (image half)", "Mine (expression half)"]
    assert list(found["space"].unique()) == list(scores["space"].unique()) == names
    for name, embedding in zip(names, (joint.embedding, image, expression), strict=True):
        alone, expected = domains.domains_of_slide(
            [("f", replace(space_of(embedding), seed=2), 2)], square(12), labels, 4
        )
        for table, other in ((found, alone), (scores, expected)):
            mine = table[table["space"] == name].drop(columns="space").reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, other.drop(columns="space"))


def test_a_half_without_differences_is_one_domain_and_agrees_with_nothing():
    image, _, labels = two_modalities(0)
    joint = replace(space_of(np.hstack([image, np.ones((144, 3))])), halves=(6, 3))
    _, scores = domains.domains_of_slide([("f", joint, 0)], square(12), labels, 4)
    dead = scores[scores["space"] == f"{joint.name} (expression half)"].set_index("clustering")
    assert dead.loc["kmeans", "n_domains"].tolist() == [1, 1]
    assert dead["ARI"].abs().max() < 0.1
    assert (scores.loc[scores["space"] == joint.name, "n_domains"] == 4).all()
