"""Claims about the table of other tools' predictions: all slides, counts, training slides and warnings are there."""

import pandas as pd

from spotwise.reporting.tables.external_tables import external_page, external_table
from spotwise.reporting.tables.layout import markdown

FACTS = {
    "cohort": "null",
    "protocol": "patient",
    "predictor": "1e5",
    "sample": "007",
    "file": "mine/007.h5ad",
    "n_spots": 1200,
    "n_other_spots": 3,
    "n_genes": 140,
    "n_missing_genes": 10,
    "n_other_genes": 18000,
    "n_scored": 60,
    "n_scored_missing": 2,
    "n_negative": 0,
    "relative_rmse": 0.987,
    "warning": "",
    "trained_on": "",
}


def read(tmp_path, *rows):
    for number, row in enumerate(rows):
        pd.DataFrame([FACTS | row]).to_csv(tmp_path / f"{number}.csv", index=False)
    return external_table([tmp_path / f"{number}.csv" for number in range(len(rows))])


def test_names_that_look_like_numbers_or_nothing_stay_as_they_are(tmp_path):
    table = read(tmp_path, {})
    assert table.loc[0, ["cohort", "predictor", "sample"]].tolist() == ["null", "1e5", "007"]


def test_counts_training_slides_and_warnings_are_shown(tmp_path):
    other = {"predictor": "B", "warning": "errors 9 times those", "trained_on": "TCGA", "relative_rmse": None}
    page = markdown(external_page(read(tmp_path, {}, other)))
    assert "| 1e5 | 007 | 1,200 | 3 | 140 | 10 | 2 | 60 | 18,000 | 0 | 0.99 |" in page
    assert "| B | 007 | 1,200 | 3 | 140 | 10 | 2 | 60 | 18,000 | 0 | – |" in page
    assert "* 1e5: trained on: not stated\n" in page
    assert "* B: trained on: TCGA\n" in page
    assert "* B, 007: errors 9 times those\n" in page
    assert page.count("errors 9 times") == 1
