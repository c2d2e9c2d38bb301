"""Claims about genes: which vary over a slide, which separate its domains, and how often a claim is false."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, stats

from arrays import hexagonal, square
from spotwise.data.counts import clean_counts
from spotwise.data.genes import normalise
from spotwise.data.synthetic_counts import draw_counts, gene_programmes
from spotwise.data.synthetic_tissue import CohortSize, lay_out_tissue, place_spots
from spotwise.errors import InputError
from spotwise.evaluation.spatial_metrics import adjacency, morans_i
from spotwise.structure import baseline_spaces, domains
from spotwise.structure import variable_genes as vg
from spotwise.structure.domain_genes import domain_genes

SLIDES = 4


def names(count):
    return np.array([f"G{gene:04d}" for gene in range(count)], dtype=object)


@pytest.fixture(scope="module")
def cohort():
    """Slides of a generated cohort, counted but not painted: log-normalised, and which genes are linked."""
    size, slides = CohortSize(), []
    for number in range(SLIDES):
        rng = np.random.default_rng(number)
        spots = place_spots(rng, lay_out_tissue(rng, size), size)
        counts = draw_counts(rng, spots, 7, f"P{number}", size)
        linked = gene_programmes(7, size.n_genes)["linked"]
        raw = AnnData(
            sparse.csr_matrix(counts[:, : size.n_genes]),
            obs=spots[["in_tissue"]],
            var=linked.to_frame(),
            obsm={"spatial": spots[["x_um", "y_um"]].to_numpy()},
        )
        cleaned, _ = clean_counts(raw, "S", None, 200, "S")
        slides.append((normalise(cleaned), linked[cleaned.var_names].to_numpy()))
    return slides


def genes_of(slide, order=slice(None)):
    """Test the genes of a slide with its rows of expression in ``order``."""
    depth = slide.obs["total_counts"].to_numpy()
    return vg.spatially_variable_genes(slide.X[order], slide.var_names, slide.obsm["spatial"], depth[order], "file")


def shallow(counts):
    """Log-normalised counts of a slide, sparse."""
    return normalise(AnnData(sparse.csr_matrix(counts.astype(np.float32)))).X


# --- The null distribution of Moran's I -------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", ["hexagon", "broken"])
def test_moments_of_the_null_are_those_of_all_orders_of_the_values(patch):
    spatial = hexagonal(3)[[0, 1, 3, 4, 5, 6, 7]] if patch == "hexagon" else np.array(
        [[0.0, 0], [1, 0], [5, 0], [6, 0], [0, 9], [1, 9], [0, 10]]
    )  # fmt: skip
    near = adjacency(spatial)
    values = np.stack([[0, 0, 0, 0, 0, 0, 1.0], [0, 0, 3, 0, 0, 1, 0.5], [1, 2, 3, 4, 5, 6, 9]], axis=1)
    orders = np.array(list(permutations(range(7))))
    for gene in range(3):
        every = morans_i(values[orders, gene].T, near)
        null = vg.moran_null(values[:, [gene]], near)
        assert null.mean()[0] == pytest.approx(every.mean())
        assert null.std()[0] == pytest.approx(every.std())
        assert null.stats("s")[0] == pytest.approx(stats.skew(every))


def test_mean_and_variance_are_the_published_ones():
    # Cliff & Ord's randomisation variance, written with S0, S1, S2 and the kurtosis
    rng = np.random.default_rng(0)
    near = adjacency(hexagonal(8)[rng.random(64) < 0.8])
    n = near.shape[0]
    values = rng.gamma(0.5, size=(n, 5))
    centred = values - values.mean(axis=0)
    kurtosis = n * (centred**4).sum(axis=0) / (centred**2).sum(axis=0) ** 2
    s0, s1, s2 = near.sum(), 2 * (near**2).sum(), 4 * (near.sum(axis=1) ** 2).sum()
    left = n * ((n * n - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
    right = kurtosis * ((n * n - n) * s1 - 2 * n * s2 + 6 * s0**2)
    variance = (left - right) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - 1 / (n - 1) ** 2
    null = vg.moran_null(values, near)
    np.testing.assert_allclose(null.std(), np.sqrt(variance))
    np.testing.assert_allclose(null.mean(), -1 / (n - 1))


@pytest.mark.parametrize("share", [0.06, 0.3, 1])
def test_p_is_the_share_of_permutations_with_as_large_an_i(share):
    rng = np.random.default_rng(1)
    spatial = square(15)
    near = adjacency(spatial)
    gene = rng.gamma(2, size=225) * (rng.random(225) < share)
    permuted = morans_i(np.stack([rng.permutation(gene) for _ in range(40000)], axis=1), near)
    for chance in (0.5, 0.05, 0.005):
        found = vg.moran_null(gene[:, None], near).sf(np.quantile(permuted, [1 - chance]))
        assert found[0] == pytest.approx(chance, rel=0.4)


# --- Spatially variable genes -----------------------------------------------------------------------------------------


def test_planted_genes_are_found_and_few_others(cohort):
    recall, false = [], []
    for slide, linked in cohort:
        table = genes_of(slide).set_index("gene")
        found = (table["q"] < vg.SIGNIFICANT).reindex(slide.var_names, fill_value=False).to_numpy()
        recall.append((found & linked).sum() / linked.sum())
        false.append((found & ~linked).sum() / found.sum())
        # the first fifty are the planted ones
        assert pd.Series(linked, slide.var_names)[table.index[:50]].mean() > 0.95
    assert min(recall) > 0.7
    assert np.mean(false) < vg.SIGNIFICANT


def test_shuffled_slides_give_no_genes_beyond_chance(cohort):
    rng = np.random.default_rng(2)
    any_found, p = [], []
    for slide, _ in cohort:
        for _ in range(10):
            table = genes_of(slide, rng.permutation(slide.n_obs))
            any_found.append((table["q"] < vg.SIGNIFICANT).any())
            p.append(table["p"])
    # of 40 shuffled slides 2 are expected to give any; 7 or more happen less than once in a hundred times
    assert sum(any_found) < 7
    assert np.mean(np.concatenate(p) < 0.05) == pytest.approx(0.05, abs=0.01)


def test_sparse_genes_of_a_shuffled_slide_are_not_found_though_a_normal_null_finds_several():
    rng = np.random.default_rng(3)
    spatial, near = square(15), adjacency(square(15))
    share, found, normal = rng.dirichlet(np.full(2000, 0.5)), [], []
    for _ in range(4):
        depth = rng.lognormal(6, 1.6, 225)  # some spots of few counts, in which a single one weighs much
        slide = shallow(rng.poisson(depth[:, None] * share))
        table = vg.spatially_variable_genes(slide, names(2000), spatial, depth, "file")
        assert len(table) > 1000
        found.append((table["q"] < vg.SIGNIFICANT).sum())
        values = slide[:, [int(gene[1:]) for gene in table["gene"]]].toarray()
        null = vg.moran_null(values, near)
        p = stats.norm.sf((morans_i(values, near) - null.mean()) / null.std())
        normal.append((stats.false_discovery_control(p) < vg.SIGNIFICANT).sum())
    assert sum(found) <= 1
    assert np.mean(normal) > 5


def test_a_pattern_of_the_depth_alone_is_distinguished_from_one_of_a_gene():
    rng = np.random.default_rng(4)
    spatial = square(15)
    depth = 300 * np.exp(1.3 * np.sin(spatial[:, 0] / 3) + 0.2 * rng.normal(size=225))
    share = np.sort(rng.dirichlet(np.full(600, 0.5)))[::-1]
    true = slice(40, 50)  # genes of a pattern of their own, too few to move the other genes' shares
    rate = np.tile(share, (225, 1))
    rate[:, true] *= np.exp(1.5 * np.sin(spatial[:, [1]] / 3))
    counts = rng.poisson(depth[:, None] * rate)
    table = vg.spatially_variable_genes(shallow(counts), names(600), spatial, counts.sum(axis=1), "file").set_index(
        "gene"
    )
    planted = table.index.isin(names(600)[true])
    by_depth = (table["q"] < vg.SIGNIFICANT)[~planted].sum()
    assert by_depth > 20
    assert (table["q_beyond_depth"] < vg.SIGNIFICANT)[~planted].sum() < by_depth / 5
    assert (table["q_beyond_depth"] < vg.SIGNIFICANT)[planted].all()


def test_each_row_describes_its_gene():
    rng = np.random.default_rng(5)
    spatial = hexagonal(10)
    expression = rng.poisson(0.4, size=(100, 300)) * rng.gamma(2, size=(100, 300))  # two blocks of genes
    expression[:, 7] += 3 * spatial[:, 0]
    expression[:, 5] = 1.0  # constant
    expression[:, 6] = 0
    expression[: vg.MIN_SPOTS, 6] = 1
    expression[:, 8] = 0
    expression[: vg.MIN_SPOTS - 1, 8] = 1
    depth = rng.integers(100, 900, 100)
    table = vg.spatially_variable_genes(sparse.csr_matrix(expression), names(300), spatial, depth, "file")
    assert table["gene"].iloc[0] == "G0007"
    assert set(table["gene"]) == set(names(300)) - {"G0005", "G0008"}
    order = table["gene"].str[1:].astype(int).to_numpy()
    near = adjacency(spatial)
    np.testing.assert_allclose(table["moran_i"], morans_i(expression[:, order], near))
    np.testing.assert_allclose(table["mean"], expression[:, order].mean(axis=0))
    assert table["n_spots"].tolist() == (expression > 0).sum(axis=0)[order].tolist()
    assert (np.diff(table["p"]) >= 0).all()
    # Benjamini & Hochberg by hand: the least of p * m / rank from there on
    stepped = table["p"] * len(table) / np.arange(1, len(table) + 1)
    np.testing.assert_allclose(table["q"], np.minimum(stepped[::-1].cummin()[::-1], 1))
    shuffled = rng.permutation(300)
    again = vg.spatially_variable_genes(expression[:, shuffled], names(300)[shuffled], spatial, depth, "file")
    pd.testing.assert_frame_equal(again, table, rtol=1e-9)


def test_checkerboards_are_no_pattern():
    spatial = square(10)
    board = ((spatial.sum(axis=1) % 2) + 0.1)[:, None]
    table = vg.spatially_variable_genes(board, names(1), spatial, np.arange(100, 200), "file")
    assert table["moran_i"][0] == pytest.approx(-1, abs=1e-6)
    assert table["p"][0] > 0.999


def test_what_is_beyond_depth_is_what_a_parabola_leaves():
    rng = np.random.default_rng(6)
    depth = rng.integers(50, 5000, 60)
    values = np.stack([3 + 2 * np.log(depth) - 0.3 * np.log(depth) ** 2, rng.normal(size=60)], axis=1)
    rest = vg.without_depth(values, depth)
    np.testing.assert_allclose(rest[:, 0], 0, atol=1e-10)
    fitted = np.polyval(np.polyfit(np.log(depth), values[:, 1], 2), np.log(depth))
    np.testing.assert_allclose(rest[:, 1], values[:, 1] - fitted, atol=1e-8)


def test_slides_without_anything_to_test_are_refused():
    few = np.zeros((25, 3))
    few[:3] = 1
    with pytest.raises(InputError, match="file: genes: found none that varies and is in 10 spots"):
        vg.spatially_variable_genes(few, names(3), square(5), np.arange(1, 26), "file")


# --- Genes that separate domains --------------------------------------------------------------------------------------


def test_tests_of_domains_are_rank_sums_corrected_over_all_of_them():
    rng = np.random.default_rng(7)
    found = rng.permutation(np.repeat([0, 1, 2], [40, 30, 11]))
    expression = np.log1p(rng.poisson(0.7, size=(81, 25)))
    expression[found == 1, 4] += 2
    table = domain_genes(expression, names(25), found, "file")
    assert len(table) == 3 * 25
    for row in table.itertuples():
        gene, inside = expression[:, int(row.gene[1:])], found == row.domain
        test = stats.mannwhitneyu(gene[inside], gene[~inside], method="asymptotic", use_continuity=False)
        assert row.p == pytest.approx(test.pvalue, rel=1e-6)
        higher = test.statistic > inside.sum() * (~inside).sum() / 2
        assert (row.score > 0) == higher or row.p > 0.999
        fold = np.log2((np.expm1(gene[inside].mean()) + 1e-9) / (np.expm1(gene[~inside].mean()) + 1e-9))
        assert row.log2_fold_change == pytest.approx(fold, rel=1e-4)
    np.testing.assert_allclose(table["q"], stats.false_discovery_control(table["p"]))
    assert table.loc[table["domain"] == 1, "gene"].iloc[0] == "G0004"
    assert table["domain"].is_monotonic_increasing


def test_a_domain_of_one_spot_is_left_out_and_one_domain_alone_is_refused():
    expression = np.log1p(np.random.default_rng(8).poisson(1, size=(20, 4)))
    found = np.array([0] * 11 + [1] * 8 + [2])
    assert domain_genes(expression, names(4), found, "file")["domain"].unique().tolist() == [0, 1]
    with pytest.raises(InputError, match="file: domains: found 1, of 20 spots at most, expected at least two"):
        domain_genes(expression, names(4), np.zeros(20, dtype=int), "file")


def test_genes_that_made_the_domains_separate_them_even_in_noise():
    # what CIRCULAR warns of
    rng = np.random.default_rng(9)
    noise = rng.normal(size=(150, 60)) + 5
    made = domains.kmeans(baseline_spaces.components(noise), 4, 0)
    drawn = rng.permutation(made)
    hits = [(domain_genes(noise, names(60), one, "file")["q"] < vg.SIGNIFICANT).sum() for one in (made, drawn)]
    assert hits[0] > 20
    assert hits[1] <= 1


# --- Agreement --------------------------------------------------------------------------------------------------------


def lists(q_spatial, q_domains, moran, score):
    gene = names(len(q_spatial))
    spatial = pd.DataFrame({"gene": gene, "moran_i": moran, "q": q_spatial, "q_beyond_depth": q_spatial})
    parts = [pd.DataFrame({"gene": gene[::-1], "domain": 0, "score": 0.1, "q": 0.9})]
    parts.append(pd.DataFrame({"gene": gene, "domain": 1, "score": score, "q": q_domains}))
    return spatial, pd.concat(parts)


def test_agreement_by_hand():
    # both 3, spatial only 1, domain only 2, neither 4
    q_spatial = [0.01, 0.01, 0.01, 0.01, 0.5, 0.5, 0.9, 0.9, 0.9, 0.05]
    q_domains = [0.01, 0.01, 0.01, 0.50, 0.01, 0.01, 0.9, 0.9, 0.9, 0.05]
    moran = np.arange(10)[::-1] / 10
    found = vg.gene_agreement(*lists(q_spatial, q_domains, moran, [-9, 8, 7, -6, 5, 4, 3, 1, 2, 0.5]))
    # hypergeometric: 3 or 4 of the 4 among the 5 of 10
    chance = (10 * 5 + 5) / 210
    # ranks of |score| are those of I but for two neighbours that change places: 1 - 6 * 2 / (10 * 99)
    assert found == pytest.approx(
        {
            "n_genes": 10,
            "n_spatial": 4,
            "n_spatial_beyond_depth": 4,
            "n_domain": 5,
            "n_both": 3,
            "jaccard": 3 / 6,
            "odds_ratio": 3.5 * 4.5 / (1.5 * 2.5),
            "fisher_p": chance,
            "spearman": 1 - 12 / 990,
        }
    )


def test_agreement_of_lists_with_nothing_on_them():
    found = vg.gene_agreement(*lists([0.9] * 4, [0.9] * 4, [0.1] * 4, [1, 2, 3, 4]))
    assert (found["n_both"], found["jaccard"], found["spearman"]) == (0, None, None)
    assert found["fisher_p"] == 1
    assert np.isfinite(found["odds_ratio"])


def test_agreement_requires_the_same_genes():
    spatial, of_domains = lists([0.9] * 4, [0.9] * 4, [0.1] * 4, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="different genes"):
        vg.gene_agreement(spatial.iloc[1:], of_domains)


def test_on_a_generated_slide_the_two_lists_agree_and_on_a_shuffled_one_they_do_not(cohort):
    slide, _ = cohort[0]
    made = domains.kmeans(baseline_spaces.components(slide.X.toarray().astype(float)), 4, 0)
    found = vg.gene_agreement(genes_of(slide), domain_genes(slide.X, slide.var_names, made, "file"))
    order = np.random.default_rng(10).permutation(slide.n_obs)
    shuffled = vg.gene_agreement(genes_of(slide, order), domain_genes(slide.X, slide.var_names, made, "file"))
    assert found["spearman"] > 0.6
    assert found["odds_ratio"] > 10
    assert found["fisher_p"] < 1e-10
    assert abs(shuffled["spearman"]) < 0.2
    assert shuffled["n_spatial"] <= 1
