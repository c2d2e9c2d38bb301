"""The table of samples shows what was read, kept and dropped, and every warning."""

import json

import pandas as pd

from spotwise.reporting.tables.layout import markdown, write_pages
from spotwise.reporting.tables.sample_tables import sample_table, samples_page

SHEET = [
    {"sample": "S1", "cohort": "c", "patient": "p|1", "technology": "Visium"},
    {"sample": "S2", "cohort": "c", "patient": "q", "technology": ""},
    {"sample": "S3", "cohort": "d", "patient": "r", "technology": ""},
]
QC = {
    "n_spots_in": 4992,
    "n_spots_kept": 2310,
    "n_spots_without_patch": 3,
    "n_genes_kept": 17943,
    "um_per_px": 0.2738,
    "median_counts": 5120.5,
    "median_genes": 2210.0,
    "n_controls_dropped": 4,
    "other_types_dropped": {
        "Antibody Capture": {"n_features": 31, "counts": 7},
        "Custom": {"n_features": 2, "counts": 0},
    },
    "n_unnamed_dropped": 1,
    "n_features_merged": 12,
    "warnings": ["patches lie 9 px from their spots in the median", "the slide is dim"],
}


def table(tmp_path):
    without = {name: value for name, value in QC.items() if name not in ("um_per_px", "n_spots_without_patch")}
    paths = []
    for number, content in enumerate((QC, QC | {"warnings": []}, without | {"um_per_px": None, "warnings": []})):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(content))
    return sample_table(SHEET, paths)


def test_every_sample_has_a_row_with_its_numbers_and_warnings(tmp_path):
    made = table(tmp_path)
    assert made["sample"].tolist() == ["S1", "S2", "S3"]
    first = made.iloc[0]
    assert (first["n_spots_in"], first["n_spots_kept"], first["n_spots_without_patch"]) == (4992, 2310, 3)
    assert (first["n_genes"], first["n_controls_dropped"], first["n_other_types_dropped"]) == (17943, 4, 33)
    assert (first["n_unnamed_dropped"], first["n_features_merged"], first["n_warnings"]) == (1, 12, 2)
    assert first["warnings"] == "patches lie 9 px from their spots in the median | the slide is dim"
    assert made["n_warnings"].tolist() == [2, 0, 0]
    assert pd.isna(made.loc[2, "um_per_px"])


def test_the_page_names_each_warning_with_its_sample(tmp_path):
    page = markdown(samples_page(table(tmp_path)))
    assert "| S1 | p\\|1 | Visium | 4,992 | 2,310 | 3 | 17,943 | 0.2738 | 5,120 | 2,210 | 4 | 33 | 1 | 12 | 2 |" in page
    assert "* S1: patches lie 9 px from their spots in the median\n* S1: the slide is dim\n" in page
    assert "| S3 | r | – | 4,992 | 2,310 | – | 17,943 | – |" in page
    assert page.count("* No warning") == 1


def test_the_table_is_written_as_csv_and_markdown(tmp_path):
    made = table(tmp_path)
    write_pages(made, [samples_page(made)], tmp_path / "samples.csv", tmp_path / "samples.md")
    read = pd.read_csv(tmp_path / "samples.csv")
    assert read["warnings"].tolist()[0] == made["warnings"][0]
    assert read["n_spots_kept"].tolist() == [2310] * 3
