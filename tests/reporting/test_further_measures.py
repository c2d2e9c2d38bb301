"""Claims about the table of further measures: what it averages, over what, and what it marks."""

import numpy as np
import pandas as pd
import pytest

from spotwise.evaluation.averages import mean_columns
from spotwise.evaluation.score_files import FILE_KEYS, SCORE_COLUMNS, SLIDE_METRICS, SLIDE_SCORE_COLUMNS, write_scores
from spotwise.reporting.tables.further_measures import (
    GENE_MEASURES,
    MEASURES,
    WHOLE_SLIDE_MEASURES,
    measure_table,
    pages,
    read_measures,
)
from spotwise.reporting.tables.layout import write_pages

PER_GENE = ["pcc", "spearman", "rmse", "ssim", "moran_predicted", "moran_observed"]


def scores_of(predictor, files, kind="method", **shares):
    """Scores of files given as (fold, seed, sample): values of three genes, the first two of them on the HVG list."""
    rows = []
    for (fold, seed, sample), values in files.items():
        for place, value in enumerate([*values, 100.0]):
            row = dict.fromkeys(SCORE_COLUMNS, 0) | dict.fromkeys(PER_GENE, value)
            row |= {"cohort": "c", "protocol": "paper", "predictor": predictor, "method": predictor, "kind": kind}
            row |= {"fold": fold, "seed": seed, "sample": sample, "note": "", "gene": f"G{place}"}
            row |= {"explained_variance": value, "observed_var": 1.0, "is_measured": True, "is_marker": False}
            rows.append(row | {"rank_var": [2, 1, 3][place], "rank_mean": [3, 2, 1][place]})
    scores = pd.DataFrame(rows)
    slides = scores[["cohort", "protocol", "predictor", "fold", "seed", "sample", "method", "kind"]].drop_duplicates()
    slides = slides.assign(**{name: shares.get(name, 0.0) for name in SLIDE_METRICS})
    return scores, slides[list(SLIDE_SCORE_COLUMNS)]


# fold 0 has two slides, fold 1 has one; two seeds
FILES = {
    (0, 0, "A"): [0.0, 0.2],  # 0.1
    (0, 0, "B"): [0.4, 0.6],  # 0.5, fold 0: 0.3
    (1, 0, "C"): [0.8, 1.0],  # 0.9, seed 0: 0.6
    (0, 1, "A"): [0.0, 0.0],  # 0.0
    (0, 1, "B"): [0.2, 0.2],  # 0.2, fold 0: 0.1
    (1, 1, "C"): [0.4, 0.2],  # 0.3, seed 1: 0.2
}


def test_means_go_over_listed_genes_then_slides_folds_and_seeds():
    row = measure_table(*scores_of("P", FILES), top=2).iloc[0]
    for name in [*PER_GENE, "explained_variance"]:
        assert row[name] == pytest.approx(0.4), name
        # fold 0: 0.3 and 0.1, fold 1: 0.9 and 0.3
        assert row[f"{name}_sd_folds"] == pytest.approx(0.4 / np.sqrt(2)), name
        assert row[f"{name}_sd_seeds"] == pytest.approx(0.4 / np.sqrt(2)), name
    assert row[["n_genes", "n_slides", "n_folds", "n_seeds"]].tolist() == [3, 3, 2, 2]
    # the first of the HVG list alone: second genes 0.2, 0.6, 1.0 and 0.0, 0.2, 0.2
    assert measure_table(*scores_of("P", FILES), top=1).iloc[0]["ssim"] == pytest.approx((0.7 + 0.15) / 2)


def test_measures_of_slides_are_averaged_as_they_are():
    scores, slides = scores_of("P", FILES)
    for place, name in enumerate(SLIDE_METRICS):
        slides[name] = np.array([0.1, 0.5, 0.9, 0.0, 0.2, 0.3]) + place
    row = measure_table(scores, slides.sample(frac=1, random_state=0), top=2).iloc[0]
    assert row[list(SLIDE_METRICS)].tolist() == pytest.approx([0.4 + place for place in range(len(SLIDE_METRICS))])


def test_genes_without_variance_do_not_dominate_the_explained_variance():
    scores, slides = scores_of("P", {(0, 0, "A"): [0.6, -1000.0]})
    scores["observed_var"] = [3.0, 0.001, 50.0]
    row = measure_table(scores, slides, top=2).iloc[0]
    # residual variances 0.4 * 3 and 1001 * 0.001, of 3.001
    assert row["explained_variance"] == pytest.approx(1 - (1.2 + 1.001) / 3.001)
    assert row["ssim"] == pytest.approx(-499.7)


def test_every_measure_is_in_the_table_and_on_a_page():
    table = measure_table(*scores_of("P", FILES), top=2)
    assert [*GENE_MEASURES, *WHOLE_SLIDE_MEASURES] == MEASURES
    assert table.columns[:4].tolist() == ["cohort", "protocol", "predictor", "kind"]
    assert set(mean_columns(MEASURES)) < set(table.columns)
    assert set(SCORE_COLUMNS) - set(FILE_KEYS) > set(GENE_MEASURES)


@pytest.fixture
def files(tmp_path):
    """Score files of two methods and a control, as rule ``score`` writes them."""
    paths = []
    for name, kind, value in (("Control", "control", 0.9), ("Good", "method", 0.5), ("Bad", "method", 0.3)):
        shares = {"hvg_recovery": value, "var_slope": value, "correlation_HEG": np.nan}
        for table, folder in zip(scores_of(name, {(0, 0, "A"): [value] * 2}, kind, **shares), ("s", "l"), strict=True):
            write_scores(table, tmp_path / folder / f"{name}.parquet")
        paths.append(tmp_path / "s" / f"{name}.parquet")
    return paths, [tmp_path / "l" / path.name for path in paths]


def test_files_are_read_in_pairs_and_shown_in_order_with_controls_apart(files):
    table = read_measures(*files, 2, ["c"], ["Control", "Bad", "Good"])
    assert table["predictor"].tolist() == ["Bad", "Good", "Control"]
    assert table["pcc"].tolist() == table["hvg_recovery"].tolist() == pytest.approx([0.3, 0.5, 0.9])


def test_the_page_marks_what_can_be_ranked_among_methods_only(files, tmp_path):
    table = read_measures(*files, 2, ["c"], [])
    write_pages(table, pages(table, 2), tmp_path / "m.csv", tmp_path / "m.md")
    lines = (tmp_path / "m.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0][1:] == ["PCC", "Spearman", "RMSE", "explained variance", "SSIM", "Moran's I", "of the truth"]
    best, second = ["**0.500**", "<u>0.300</u>"]
    # the lower RMSE is the better one, and Moran's I is not ranked
    assert rows[1] == ["Good", best, best, "<u>0.500</u>", best, best, "0.500", "0.500"]
    assert rows[2] == ["Bad", second, second, "**0.300**", second, second, "0.300", "0.300"]
    assert rows[3] == ["*Control*", *["0.900"] * 7]
    recovery, slope = rows[4].index("HVG found"), rows[4].index("variance: slope")
    assert [row[recovery] for row in rows[5:]] == [best, second, "0.900"]
    assert [row[slope] for row in rows[5:]] == ["0.500", "0.300", "0.900"]
    assert [row[1] for row in rows[5:]] == ["–"] * 3
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "m.csv", keep_default_na=False, na_values=[""])[["predictor", *MEASURES]],
        table[["predictor", *MEASURES]],
        check_dtype=False,
    )
