"""How tables are laid out, and Table 1."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import texreader
from handmade import arena, rows, two_folds_two_seeds
from spotwise.constants import FELL_BACK
from spotwise.errors import InputError
from spotwise.evaluation import averages
from spotwise.reporting import tables
from spotwise.reporting.tables import layout
from spotwise.reporting.tables.layout import BEST, SECOND, Block, Cell, Column, Page, Row
from spotwise.reporting.tables.mean_tables import page1, table1


def page(scores, top=2, **options):
    means = averages.mean_table(scores, (top,), **options)
    return page1(table1(means, top))


def markdown(scores, **options):
    return layout.markdown(page(scores, **options))


def console(scores, **options):
    return layout.console(page(scores, **options))


def latex(scores, **options):
    return layout.latex(page(scores, **options))


def line_of(text, name):
    return next(line for line in text.splitlines() if name in line)


@pytest.fixture
def scores():
    return two_folds_two_seeds()


# --- Table 1


def test_table1_shows_the_hand_worked_averages(scores):
    # means and spreads over folds as worked out in test_averages.py
    cells = ["0.550 ± 0.071", "0.450 ± 0.071", "0.425 ± 0.247"]
    best = [f"**{cell[:5]}**{cell[5:]}" for cell in cells]
    assert line_of(markdown(scores), "| CMRCNet-50") == "| CMRCNet-50 | " + " | ".join(best) + " | 0.375 of 4 |"
    assert line_of(console(scores), "  CMRCNet-50").split("  ")[-3:] == [f" {cell}*" for cell in cells]
    assert list(texreader.read(latex(scores))["paper"].cells("READ")["CMRCNet-50"].values()) == [*cells, "0.375 of 4"]


def test_columns_of_table1_stay_as_they_are(scores):
    table = table1(averages.mean_table(scores, (2, 3)), 2)
    assert ",".join(table.columns) == (
        "cohort,protocol,predictor,kind,HEG_top2,HVG_top2,marker,HEG_top2_sd_folds,HEG_top2_sd_seeds,HVG_top2_sd_folds,"
        "HVG_top2_sd_seeds,marker_sd_folds,marker_sd_seeds,n_constant,n_genes,n_ranked,n_folds,n_seeds,k,k_used_min,markers_found,"
        "markers_listed,markers_missing,note"
    )


def test_empty_marker_set_is_nan_and_printed_as_a_dash(scores):
    without = scores.assign(is_marker=False)
    table = averages.mean_table(without, top=(2,))
    assert np.isnan(table["marker"].iloc[0])
    assert table["markers_found"].iloc[0] == 0
    assert "| – |" in markdown(without)
    assert "–" in console(without)
    assert " & -- & " in latex(without)


def test_markers_outside_the_panel_are_listed(scores):
    text = markdown(scores, markers={"READ": ["D", "RND"], "COAD": ["X"]})
    assert "* Markers: 1 of 3 measured; missing: E, RND" in text


@pytest.mark.parametrize("lay_out", [layout.markdown, layout.latex, layout.console])
def test_random_weights_in_place_of_others_have_a_mark_and_a_legend(tmp_path, lay_out):
    scores = pd.concat([arena({"A": 0.2, "Plain": 0.1}), arena({"Random": 0.3}, note=FELL_BACK)], ignore_index=True)
    tables.write_table(table1(averages.mean_table(scores, (50,)), 50), tmp_path / "table1.csv")
    mark = r"$\dagger$" if lay_out is layout.latex else "†"
    text = lay_out(tables.read_page(tmp_path / "table1.csv"))
    assert f"Random{mark}" in text
    assert f"{mark}Random: {FELL_BACK}" in text
    assert text.count(mark) == 2
    written = pd.read_csv(tmp_path / "table1.csv", keep_default_na=False)
    assert written.set_index("predictor")["note"].to_dict() == {"A": "", "Plain": "", "Random": FELL_BACK}


def test_remarks_name_small_banks_small_panels_and_notes():
    scores = pd.concat(
        [
            arena({"CMRCNet-500": 0.3}, k=500, k_used=283),
            arena({"BLEEP-50": 0.2}, k=50, note="encoder without pretrained weights"),
        ]
    )
    text = markdown(scores, top=50)
    remarks = [
        "CMRCNet-500: bank smaller than K: whole bank used (k_used=283)",
        "HEG top 50: 4 measured HVG, all of them taken",
        "HVG top 50: 4 measured HVG, all of them taken",
        "Markers: 1 of 2 measured; missing: E",
        "BLEEP-50: encoder without pretrained weights",
    ]
    assert [line[2:] for line in text.splitlines() if line.startswith("* ")] == [*remarks, "1 fold, 1 seed"]
    assert [line[2:] for line in console(scores, top=50).splitlines()[-5:]] == remarks
    assert r"\noindent READ. " + "; ".join(remarks).replace("_", r"\_") + r".\par}" in latex(scores, top=50)
    assert "all of them taken" not in markdown(scores, top=2)


def test_latex_merges_equal_remarks_of_consecutive_cohorts():
    scores = pd.concat(
        [arena({"A": 0.2}, cohort=cohort, note=note) for cohort, note in zip("WXYZ", "aabb", strict=True)]
    )
    text = latex(scores)
    assert r"\noindent W, X. Markers: 1 of 2 measured; missing: E; A: a.\par" in text
    assert r"\noindent Y, Z. Markers: 1 of 2 measured; missing: E; A: b.\par" in text


# --- Ranks


def test_best_method_is_bold_and_second_underlined_but_never_a_control():
    scores = arena({"A": 0.2, "B": 0.4, "C": 0.3, "Oracle": 0.9})
    text = markdown(scores)
    assert line_of(text, "| B ") == "| B | **0.400** | **0.400** | **0.400** | 0 of 4 |"
    assert line_of(text, "| C ") == "| C | <u>0.300</u> | <u>0.300</u> | <u>0.300</u> | 0 of 4 |"
    assert line_of(text, "| A ") == "| A | 0.200 | 0.200 | 0.200 | 0 of 4 |"
    assert line_of(text, "| *Oracle*") == "| *Oracle* | 0.900 | 0.900 | 0.900 | 0 of 4 |"
    assert line_of(console(scores), "  B ").count("*") == 3
    assert "*" not in line_of(console(scores), "  C ")
    assert "*" not in line_of(console(scores), "(Oracle)")
    text = latex(scores)
    assert texreader.marked(line_of(text, "B & "), "textbf") == ["0.400"] * 3
    assert texreader.marked(line_of(text, "C & "), "underline") == ["0.300"] * 3
    assert not texreader.COMMAND.search(line_of(text, "A & "))
    assert [command for command, _ in texreader.COMMAND.findall(line_of(text, "Oracle} & "))] == ["textit"]


def test_methods_with_the_same_printed_value_share_a_place():
    text = markdown(arena({"A": 0.30001, "B": 0.30002, "C": 0.1}))
    assert line_of(text, "| A ").count("**0.300**") == line_of(text, "| B ").count("**0.300**") == 3
    assert line_of(text, "| C ").count("<u>0.100</u>") == 3


def test_ranks_are_per_cohort_and_protocol():
    scores = pd.concat([arena({"A": 0.5, "B": 0.4}), arena({"A": 0.1, "B": 0.2}, protocol="patient")])
    paper, patient = markdown(scores).split("### `patient`")
    assert "| A | **0.500**" in paper
    assert "| B | **0.200**" in patient


def test_no_minus_at_a_rounded_zero():
    assert "-0.000" not in markdown(arena({"A": -0.0001}))


# --- LaTeX

AWKWARD = r"A_B&C%#{x}~^<>|$\d"


def test_latex_says_what_the_csv_says(tmp_path):
    """Table 1 of two cohorts, both protocols and awkward names, read back from LaTeX."""
    rng = np.random.default_rng(0)
    scores = pd.concat(
        [
            rows(
                predictor,
                fold,
                seed,
                f"S{fold}",
                rng.normal(0, 0.4, 4),
                protocol=protocol,
                cohort=cohort,
                k=9,
                k_used=3,
            )
            for cohort in ("READ", AWKWARD)
            for protocol in ("paper", "patient")
            for predictor in ("CMRCNet-50", AWKWARD, "Oracle")
            for fold in (0, 1)
            for seed in (0, 1)
        ]
    )
    tables.write_table(table1(averages.mean_table(scores, (2,)), 2), tmp_path / "table1.csv")
    found = texreader.read((tmp_path / "table1.tex").read_text())
    csv = pd.read_csv(tmp_path / "table1.csv")
    assert len(csv) == 2 * 2 * 3
    assert (csv[["HEG_top2", "HVG_top2", "marker"]] < 0).any().any()
    for _, row in csv.iterrows():
        cells = found[row["protocol"]].cells(row["cohort"])[row["predictor"]]
        for heading, column in {"HEG top 2": "HEG_top2", "HVG top 2": "HVG_top2", "marker": "marker"}.items():
            expected = f"{round(row[column], 3):.3f} ± {row[column + '_sd_folds']:.3f}"
            assert cells[heading] == expected
    assert {table.label for table in found.values()} == {"tab:table1-paper", "tab:table1-patient"}
    assert all("2 folds, 2 seeds" in heading for table in found.values() for heading, _ in table.parts)


def test_latex_escapes_special_characters_in_names():
    line = line_of(latex(arena({AWKWARD: 0.2, "B": 0.3})), r"A\_B")
    name = line.split(" & ")[0]
    assert name == (
        r"A\_B\&C\%\#\{x\}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}\$\textbackslash{}d"
    )


def numbers(*columns, rows=1):
    """Return a page of one block with these columns."""
    row = Row([Cell("name"), *(Cell(f"0.{place:03}") for place in range(len(columns)))])
    block = Block(
        "READ", "paper", [Column("Predictor", numeric=False), *map(Column, columns)], [row] * rows, [], ("1 fold",)
    )
    return Page("x", "Title", ["Legend."], [block])


def test_wide_tables_are_turned_and_wider_ones_continued_below():
    # eight characters a column with what goes between, twelve for the names
    assert 12 + 8 * 12 <= layout.LINE < 12 + 8 * 14
    assert 12 + 8 * 19 <= layout.TURNED_LINE < 12 + 8 * 21
    for n_columns, turned, parts in ((12, False, 1), (14, True, 1), (19, True, 1), (21, False, 2), (45, True, 3)):
        columns = [f"c{place:03}" for place in range(n_columns)]
        text = layout.latex(numbers(*columns))
        table = texreader.read(text)["paper"]
        assert (r"\begin{landscape}" in text) == turned
        assert len(table.parts) == parts
        assert table.cells("READ")["name"] == {f"c{place:03}": f"0.{place:03}" for place in range(n_columns)}


def test_no_part_of_a_table_is_wider_than_the_page():
    long = "x" * 60
    columns = [*"abcdef", *(f"{long}{place}" for place in range(4))]
    table = texreader.read(layout.latex(numbers(*columns)))["paper"]
    # halves would be 12 + 5 * 8 and 12 + 8 + 4 * 64 characters; thirds 12 + 4 * 8, 12 + 2 * 8 + 64 and 12 + 3 * 64
    assert [len(columns) - 1 for _, (columns, _) in table.parts] == [3, 3, 2, 2]
    assert list(table.cells("READ")["name"]) == columns


def test_a_file_without_tables_says_why():
    page = Page("table4", "models", ["Legend."], [], "This run has 0 % of them.", "Table 4")
    assert layout.latex(page).splitlines()[-1] == r"\noindent Table 4: models. This run has 0 \% of them."
    assert layout.markdown(page).splitlines() == ["# Table 4: models", "", "Legend.", "", "This run has 0 % of them."]
    assert layout.console(page) == "This run has 0 % of them.\n"


# --- Markdown and terminal


def test_markdown_escapes_names_that_look_like_markup():
    cells = [Cell("a|b"), Cell("H*02*1", BEST, " 0.5"), Cell("<u>", SECOND)]
    block = Block(
        "READ", "paper", [Column("P|Q", numeric=False), Column("x"), Column("y")], [Row(cells)], [], ("1 fold",)
    )
    text = layout.markdown(Page("x", "Title", ["See ", Cell("bold", BEST)], [block]))
    assert "| P\\|Q | x | y |" in text
    assert "| a\\|b | **H\\*02\\*1** 0.5 | <u>\\<u></u> |" in text
    assert "See **bold**" in text


def test_the_terminal_shows_table1_in_columns(scores, tmp_path):
    control = scores.assign(predictor="Oracle", kind="control", pcc=-0.25, k=0, k_used=0, note="made from the truth")
    both = pd.concat([scores, control])
    tables.write_table(table1(averages.mean_table(both, (2,)), 2), tmp_path / "table1.csv")
    done = run("table1.csv", folder=tmp_path)
    assert done.stdout.splitlines() == [
        "READ, paper protocol (mean PCC ± sd over 2 folds)",
        "                      HEG top 2        HVG top 2           marker",
        "  CMRCNet-50     0.550 ± 0.071*   0.450 ± 0.071*   0.425 ± 0.247*",
        "  (Oracle)      -0.250 ± 0.000   -0.250 ± 0.000   -0.250 ± 0.000 ",
        "  CMRCNet-50: bank smaller than K: whole bank used (k_used=40)",
        "  Markers: 1 of 2 measured; missing: E",
        "  Oracle: made from the truth",
    ]


def run(*arguments, folder):
    """Call the command of the installed package in a folder that is not the repository."""
    return subprocess.run(
        [sys.executable, "-m", "spotwise.reporting.tables", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "no file given; name a table such as"),
        (["table1.csv"], "table1.csv: file: found nothing, expected a table that a run has written"),
        (["table2.csv"], "table2.csv: content: found no column 'cohort', expected the columns of table2"),
        (["notes.txt"], "notes.txt: name: found 'notes', expected one of table1"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, arguments, line):
    (tmp_path / "table2.csv").write_text("a,b\n1,2\n")
    done = run(*arguments, folder=tmp_path)
    assert done.returncode != 0
    assert not done.stdout
    (message,) = done.stderr.splitlines()
    assert line in message


def test_the_command_explains_itself(tmp_path):
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Print a table of a run." in done.stdout


@pytest.mark.parametrize("column", ["HEG_top2", "k"])
def test_text_among_numbers_is_refused_with_its_column(scores, tmp_path, column):
    path = tmp_path / "table1.csv"
    table = table1(averages.mean_table(scores, top=(2,)), 2).astype({column: object})
    table.loc[0, column] = "many"
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=rf"table1\.csv: {column}: found 'many', expected numbers"):
        tables.read_page(path)


def test_a_file_of_another_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"tabel1\.csv: name: found 'tabel1', expected .*; did you mean 'table1'"):
        tables.read_page(tmp_path / "tabel1.csv")


def test_written_table_reads_back(scores, tmp_path):
    table = table1(averages.mean_table(scores, top=(2,)), 2)
    tables.write_table(table, tmp_path / "table1.csv")
    back = tables.read_table(tmp_path / "table1.csv")
    pd.testing.assert_frame_equal(back, table, check_exact=False, atol=1e-6, check_dtype=False)
    assert (tmp_path / "table1.md").read_text() == layout.markdown(page1(table))
    assert (tmp_path / "table1.tex").read_text() == layout.latex(page1(table))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table1.csv", "table1.md", "table1.tex"]
