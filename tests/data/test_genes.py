"""Log-normalised expression and gene panels equal formulas worked by hand, whatever the number of threads."""

import math

import numba
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from countedslides import dense, random_slide, slide
from spotwise.data.genes import normalise, select_genes
from spotwise.errors import InputError

# --- normalisation ---------------------------------------------------------------------------------------------------


def test_normalisation_is_the_formula_worked_by_hand():
    # totals 4, 8, 20, 0: their median, spots without counts left out, is 8
    counts = slide([[1, 3], [8, 0], [5, 15], [0, 0]], ["A", "B"])
    result = normalise(counts)
    expected = [[math.log(3), math.log(7)], [math.log(9), 0], [math.log(3), math.log(7)], [0, 0]]
    np.testing.assert_allclose(dense(result), expected, rtol=1e-6)
    assert result.X.dtype == np.float32


def test_an_empty_spot_whose_zeros_are_stored_stays_zero():
    stored = sparse.csr_matrix((np.array([0.0, 0.0, 5.0], np.float32), [0, 1, 1], [0, 2, 3]), shape=(2, 2))
    np.testing.assert_allclose(dense(normalise(slide(stored, ["A", "B"]))), [[0, 0], [0, math.log(6)]], rtol=1e-6)


def test_many_empty_spots_neither_shift_the_target_nor_leave_nan():
    result = normalise(slide([[2, 2], [0, 0], [0, 0], [0, 0], [8, 0]], ["A", "B"]))
    expected = [[math.log(4), math.log(4)], [0, 0], [0, 0], [0, 0], [math.log(7), 0]]
    np.testing.assert_allclose(dense(result), expected, rtol=1e-6)


@pytest.mark.parametrize("target", [None, 1e4])
def test_every_spot_sums_to_the_target_before_the_logarithm(target):
    rng = np.random.default_rng(1)
    counts = rng.negative_binomial(2, 0.2, (40, 60)) * rng.integers(1, 30, (40, 1))
    result = normalise(slide(counts.astype(np.float32), [f"G{g}" for g in range(60)]), target)
    sums = np.expm1(dense(result).astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(sums, target or np.median(counts.sum(axis=1)), rtol=1e-5)


# --- panel -----------------------------------------------------------------------------------------------------------

# Four spots of 1000 counts each, so that normalisation changes nothing. EVEN1..4 hold equal counts everywhere up to +-1
# per spot; a WILD gene swings between 0 and 100 at the same mean as an EVEN one, and BALANCE takes up what is left. The
# dispersion (variance / mean) of a wild gene is then about 60, of an even one about 0.01.
EVEN = {"EVEN1": [50, 51, 50, 51], "EVEN2": [51, 50, 51, 50], "EVEN3": [50, 50, 51, 51], "EVEN4": [51, 51, 50, 50]}
WILD = [0, 100, 0, 100]
STILL = [50, 51, 51, 50]


def worked_slide(wild, others, missing=()):
    columns = EVEN | dict.fromkeys(others, STILL) | {wild: WILD}
    columns = {gene: counts for gene, counts in columns.items() if gene not in missing}
    columns["BALANCE"] = list(1000 - np.sum(list(columns.values()), axis=0))
    return slide(sparse.csr_matrix(np.array(list(columns.values()), dtype=np.float32).T), list(columns))


@pytest.fixture
def cohort():
    # S2 lacks EVEN4 and S3 lacks GENE_Y: both leave the intersection
    return {
        "S1": worked_slide("WILD_A", ["WILD_B", "WILD_C", "GENE_Y"]),
        "S2": worked_slide("WILD_B", ["WILD_A", "WILD_C", "GENE_Y"], missing=["EVEN4"]),
        "S3": worked_slide("WILD_C", ["WILD_A", "WILD_B"]),
    }


def test_panel_is_the_union_of_each_slides_wildest_gene_and_the_markers(cohort):
    # n_top = 1 takes each slide's own WILD gene: the union is A, B, C. EVEN2 comes in as a marker; GENE_Y (not on S3)
    # and EVEN4 (not on S2) are named instead; WILD_A is marker and variable at once.
    panel, markers = select_genes(cohort, 1, ["WILD_A", "GENE_Y", "EVEN2", "EVEN4", "RND"])
    assert panel.to_dict("list") == {
        "gene": ["EVEN2", "WILD_A", "WILD_B", "WILD_C"],
        "n_slides_hvg": [0, 1, 1, 1],
        "is_marker": [True, True, False, False],
    }
    assert markers.to_dict("list") == {
        "marker": ["WILD_A", "GENE_Y", "EVEN2", "EVEN4", "RND"],
        "status": ["in panel", "not measured in S3", "in panel", "not measured in S2", "not measured in S1, S2, S3"],
    }


def test_test_slide_changes_the_paper_panel_and_not_the_patient_panel(cohort):
    # paper: all slides count, so the gene that is wild on the test slide S3 alone enters; patient: training slides only
    training = {sample: cohort[sample] for sample in ("S1", "S2")}
    paper, _ = select_genes(cohort, 1, ["GENE_Y"])
    patient, markers = select_genes(training, 1, ["GENE_Y"])
    assert list(paper["gene"]) == ["WILD_A", "WILD_B", "WILD_C"]
    assert list(patient["gene"]) == ["GENE_Y", "WILD_A", "WILD_B"]  # S3 lacks GENE_Y, which is no matter here
    assert list(markers["status"]) == ["in panel"]


def test_panel_depends_on_neither_the_order_of_slides_nor_of_genes(cohort):
    panel, _ = select_genes(cohort, 2, ["EVEN1"])
    turned = {sample: adata[:, ::-1].copy() for sample, adata in reversed(cohort.items())}
    pd.testing.assert_frame_equal(select_genes(turned, 2, ["EVEN1"])[0], panel)


def test_choosing_genes_leaves_the_counts_unchanged():
    adata = random_slide(1, 60)
    before = dense(adata).copy()
    select_genes({"S1": adata}, 5, [])
    np.testing.assert_array_equal(dense(adata), before)


@pytest.mark.parametrize("target", [None, 1e4])
def test_panel_equals_scanpy_called_directly(target):
    slides = {"S1": random_slide(1, 300), "S2": random_slide(2, 280)}
    union = set()
    for adata in slides.values():
        direct = adata[:, [f"G{g:03d}" for g in range(280)]].copy()
        sc.pp.normalize_total(direct, target_sum=target)
        sc.pp.log1p(direct)
        sc.pp.highly_variable_genes(direct, n_top_genes=30)
        union |= set(direct.var_names[direct.var["highly_variable"]])
    panel, _ = select_genes(slides, 30, [], target)
    assert list(panel["gene"]) == sorted(union)
    assert 30 < len(union) <= 60
    assert panel["n_slides_hvg"].sum() == 60


def test_dispersion_is_normalised_within_bins_of_the_mean_as_seurat_does():
    # the formula itself, without scanpy: log(variance / mean) standardised within 20 equal bins of log1p(mean)
    adata = random_slide(3, 250)
    counts = dense(adata).astype(np.float64)
    scaled = counts / counts.sum(1, keepdims=True) * np.median(counts.sum(1))
    frame = pd.DataFrame(
        {"dispersion": np.log(scaled.var(0, ddof=1) / scaled.mean(0)), "mean": np.log1p(scaled.mean(0))}
    )
    bins = frame.groupby(pd.cut(frame["mean"], 20), observed=True)["dispersion"]
    z = (frame["dispersion"] - bins.transform("mean")) / bins.transform("std")
    z[bins.transform("size") == 1] = 1.0
    wanted = sorted(adata.var_names[np.argsort(-z.to_numpy())[:25]])
    assert list(select_genes({"S": adata}, 25, [])[0]["gene"]) == wanted


def test_the_number_of_threads_changes_no_bit_of_expression_or_dispersion(monkeypatch):
    threads, results = [], []
    choose = sc.pp.highly_variable_genes

    def watched(*arguments, **options):
        threads.append(numba.get_num_threads())
        found = choose(*arguments, **options)
        results.append(
            (arguments[0].X.data.tobytes(), found[["means", "dispersions", "dispersions_norm"]].to_numpy().tobytes())
        )
        return found

    monkeypatch.setattr(sc.pp, "highly_variable_genes", watched)
    usual = numba.get_num_threads()
    for number in {1, usual}:
        numba.set_num_threads(number)
        select_genes({"S1": random_slide(6, 200)}, 20, [])
        assert numba.get_num_threads() == number
    assert set(threads) == {1}
    assert len(set(results)) == 1


@pytest.mark.parametrize("n_top", [7, 8, 1000])
def test_all_common_genes_are_kept_if_there_are_no_more_than_n_top(cohort, n_top):
    panel, _ = select_genes(cohort, n_top, [])
    common = ["BALANCE", "EVEN1", "EVEN2", "EVEN3", "WILD_A", "WILD_B", "WILD_C"]
    assert list(panel["gene"]) == common
    assert set(panel["n_slides_hvg"]) == {3}


def test_with_all_genes_kept_the_silent_ones_are_too():
    panel, _ = select_genes({"S": slide([[1, 5, 0], [2, 3, 0]], ["A", "B", "SILENT"])}, 3, [])
    assert list(panel["gene"]) == ["A", "B", "SILENT"]


def test_spots_without_counts_on_the_common_genes_do_not_change_the_panel():
    adata = random_slide(4, 200)
    empty = slide(
        sparse.vstack([adata.X, sparse.csr_matrix((20, 200), dtype=np.float32)]).tocsr(), list(adata.var_names)
    )
    pd.testing.assert_frame_equal(select_genes({"S": empty}, 40, [])[0], select_genes({"S": adata}, 40, [])[0])


def test_genes_never_seen_on_a_slide_are_not_chosen_on_it():
    # 60 of 100 genes are silent; asked for 50, only the 40 that vary can be chosen
    adata = random_slide(5, 100)
    counts = dense(adata)
    counts[:, 40:] = 0
    panel, _ = select_genes({"S": slide(sparse.csr_matrix(counts), list(adata.var_names))}, 50, [])
    assert list(panel["gene"]) == [f"G{g:03d}" for g in range(40)]


def test_slides_without_a_common_or_a_variable_gene_are_named():
    with pytest.raises(InputError, match="S1, S2: genes: found none in common"):
        select_genes({"S1": slide([[1]], ["A"]), "S2": slide([[1]], ["B"])}, 1, [])
    sparse_slide = slide(sparse.csr_matrix(np.array([[1, 1, 0], [0, 0, 0]], np.float32)), ["A", "B", "C"])
    with pytest.raises(InputError, match="S1: spots: found 1 with counts on the 3 common genes"):
        select_genes({"S1": sparse_slide}, 2, [])
    same = slide(sparse.csr_matrix(np.array([[1, 2, 3], [1, 2, 3]], np.float32)), ["A", "B", "C"])
    with pytest.raises(InputError, match="S1: genes: found none that varies between spots"):
        select_genes({"S1": same}, 2, [])
