"""Claims about the layout of a task of the HEST benchmark, and about what is refused in it."""

import json
import shutil

import pytest

from benchtask import FOLDS, LISTED, SPOTS, write_bench_task, write_splits
from spotwise.data.bench_layout import TASK_FILES, BenchFold, read_task
from spotwise.errors import InputError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_bench_task(tmp_path_factory.mktemp("bench") / "IDC", px=8)


@pytest.fixture
def task(written, tmp_path):
    """Copy a task, to spoil it."""
    shutil.copytree(written, tmp_path / "IDC")
    return tmp_path / "IDC"


def refusal(task):
    with pytest.raises(InputError) as error:
        read_task(task.parent, task.name)
    told = str(error.value)
    assert "\n" not in told
    return told.replace(f"{task}", "IDC")


def test_folds_genes_and_files_are_those_that_the_task_lists(task):
    found = read_task(task.parent, "IDC")
    assert found.folds == tuple(BenchFold(tuple(train), tuple(test)) for train, test in FOLDS)
    assert list(found.genes) == LISTED
    assert list(found.counts) == ["S1", "S2", "S3", "S4"]
    assert found.patches["S3"] == task / "patches/S3.h5"
    assert {path.relative_to(task).as_posix() for path in found.files} == {
        path.relative_to(task).as_posix() for path in task.rglob("*.*")
    }


def test_a_byte_order_mark_and_further_columns_do_no_harm(task):
    path = task / "splits/test_0.csv"
    lines = path.read_text().splitlines()
    path.write_text("\ufeff" + "\n".join([f"{lines[0]},note", *(f"{line},x" for line in lines[1:])]), encoding="utf-8")
    (task / "splits/notes.txt").touch()
    assert read_task(task.parent, "IDC").folds[0].test == ("S3", "S4")


def test_slides_of_the_benchmark_that_no_split_names_are_not_read(task):
    write_splits(task, FOLDS[2:])
    for path in (task / "splits").glob("*_[12].csv"):
        path.unlink()
    assert set(read_task(task.parent, "IDC").counts) == {"S1", "S2"}


def test_the_protocol_needs_no_pictures_and_no_former_versions():
    needed = ["adata/TENX1.h5ad", "patches/TENX1.h5", "splits/train_0.csv", "splits/test_12.csv", "var_50genes.json"]
    needless = ["patches_vis/TENX1.png", "patches/vis/TENX1.png", "old/adata/TENX1.h5ad", "mean_50genes.json", "x.csv"]
    assert all(TASK_FILES.fullmatch(path) for path in needed)
    assert not any(TASK_FILES.fullmatch(path) for path in needless)


def test_a_missing_folder_names_the_setting_that_downloads_it(tmp_path):
    assert "no folder" in refusal(tmp_path / "IDC")
    assert "hest_bench.revision downloads it" in refusal(tmp_path / "IDC")


def test_an_empty_task_is_refused(tmp_path):
    (tmp_path / "IDC").mkdir()
    assert refusal(tmp_path / "IDC") == (
        "IDC/var_50genes.json: file: found no such file, expected the genes to predict as JSON"
    )


def test_a_task_without_splits_is_refused(task):
    shutil.rmtree(task / "splits")
    assert refusal(task) == (
        "IDC/splits: splits: found none, expected train_0.csv and test_0.csv, and so on for each fold"
    )


@pytest.mark.parametrize("name", ["train_2.csv", "test_1.csv", "train_0.csv"])
def test_a_missing_split_is_named(task, name):
    (task / "splits" / name).unlink()
    assert f"IDC/splits: splits: found no {name}, expected train_{{k}}.csv and test_{{k}}.csv" in refusal(task)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            ["sample_id,patches_path"],
            "columns: found sample_id, patches_path, expected sample_id, patches_path, exp",
        ),
        ([], "columns: found nothing"),
        (["sample_id,patches_path,expr_path"], "rows: found none, expected a slide in each row"),
        (["sample_id,patches_path,expr_path", "S3,patches/S3.h5"], "line 2, expr_path: found None"),
        (["sample_id,patches_path,expr_path", "S3,patches/S3.h5,adata/S9.h5ad"], "found adata/S9.h5ad, which does not"),
        (["sample_id,patches_path,expr_path", "S3,../S3.h5,adata/S3.h5ad"], "patches_path: found '../S3.h5', expected"),
        (["sample_id,patches_path,expr_path", "S3,/S3.h5,adata/S3.h5ad"], "patches_path: found '/S3.h5', expected"),
        (["sample_id,patches_path,expr_path", ",patches/S3.h5,adata/S3.h5ad"], "line 2: found ''"),
        (["sample_id,patches_path,expr_path", "a/b,patches/S3.h5,adata/S3.h5ad"], "line 2: found 'a/b'"),
        (["sample_id,patches_path,expr_path", *["S3,patches/S3.h5,adata/S3.h5ad"] * 2], "line 3: found S3 again"),
    ],
)
def test_a_malformed_split_is_refused(task, lines, told):
    (task / "splits/test_0.csv").write_text("\n".join(lines))
    assert refusal(task).startswith("IDC/splits/test_0.csv: ")
    assert told in refusal(task)


def test_a_slide_on_both_sides_of_a_fold_is_refused(task):
    write_splits(task, [(["S1", "S2"], ["S3", "S1"]), *FOLDS[1:]])
    assert refusal(task) == (
        "IDC/splits/test_0.csv: sample_id: found S1, which is trained on, expected other slides than those of "
        "train_0.csv"
    )


def test_a_slide_on_both_sides_of_a_fold_under_another_id_is_refused(task):
    path = task / "splits/test_2.csv"
    path.write_text("sample_id,patches_path,expr_path\nS9,patches/S2.h5,adata/S1.h5ad\n")
    assert "test_2.csv: S9: found the file of S2, which is trained on" in refusal(task)


def test_an_id_with_other_files_in_another_fold_is_refused(task):
    path = task / "splits/test_1.csv"
    path.write_text("sample_id,patches_path,expr_path\nS2,patches/S4.h5,adata/S2.h5ad\n")
    assert "patches_path of S2: found patches/S4.h5, expected patches/S2.h5, as in another split" in refusal(task)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "found an empty file"),
        ("{", "found no JSON"),
        ("version https://git-lfs.github.com/spec/v1", "found a Git LFS pointer"),
        (json.dumps(["G01"]), "found no list of genes (list)"),
        (json.dumps({}), "found no list of genes (an empty object)"),
        (json.dumps({"gene": ["G01"]}), "found no list of genes (gene)"),
        (json.dumps({"genes": []}), "found no list of genes"),
        (json.dumps({"genes": "G01"}), "found no list of genes"),
        (json.dumps({"genes": ["G01", "G02", "G01"]}), "gene 2: found 'G01' again"),
        (json.dumps({"genes": ["G01", 7]}), "gene 1: found 7"),
    ],
)
def test_a_malformed_list_of_genes_is_refused(task, text, told):
    (task / "var_50genes.json").write_text(text)
    assert refusal(task).startswith("IDC/var_50genes.json: gene")
    assert told in refusal(task)


def test_every_made_up_slide_is_in_some_fold():
    assert {slide for fold in FOLDS for part in fold for slide in part} == set(SPOTS)
