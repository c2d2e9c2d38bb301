"""Claims about the targets of the HEST benchmark: log(1 + counts) of a task's genes, in the order of the patches."""

import json

import anndata
import h5py
import numpy as np
import pytest

from benchtask import LISTED, SPOTS, write_bench_task
from spotwise.data.bench_layout import read_task
from spotwise.data.bench_targets import assemble_targets, read_targets, write_targets
from spotwise.errors import InputError


@pytest.fixture
def task(tmp_path):
    return write_bench_task(tmp_path / "IDC", px=8)


def assembled(task):
    return assemble_targets(read_task(task.parent, task.name))


def refusal(task):
    with pytest.raises(InputError) as error:
        assembled(task)
    told = str(error.value)
    assert "\n" not in told
    return told.replace(f"{task}", "IDC")


def change(path, alter):
    adata = anndata.read_h5ad(path)
    adata = alter(adata) if callable(alter) else adata
    adata.write_h5ad(path)


def test_targets_are_logarithms_of_raw_counts_in_the_order_of_patches_and_genes(task):
    targets, warnings = assembled(task)
    assert not warnings
    for slide in SPOTS:
        with h5py.File(task / f"patches/{slide}.h5") as file:
            barcodes = [label.decode() for label in file["barcode"][:].ravel()]
        raw = anndata.read_h5ad(task / f"adata/{slide}.h5ad")[barcodes, LISTED].X
        assert list(targets.slides[slide].barcode) == barcodes
        np.testing.assert_allclose(targets.slides[slide].targets, np.log(1 + raw.astype(np.float64)), rtol=1e-12)


def test_counts_of_pseudo_spots_are_read_from_any_type_of_number(task):
    before = assembled(task)[0].slides["S1"].targets

    def as_integers(adata):
        adata.X = adata.X.astype(np.uint16)
        return adata

    change(task / "adata/S1.h5ad", as_integers)
    np.testing.assert_array_equal(assembled(task)[0].slides["S1"].targets, before)


def test_spots_without_a_patch_are_left_out_and_counted(task):
    targets, _ = assembled(task)
    assert targets.facts["n_spots_without_patch"] == 3
    assert targets.facts["n_spots"] == sum(SPOTS.values()) - 3
    assert targets.facts["slides"]["S2"] == {"n_spots": SPOTS["S2"] - 3, "n_spots_without_patch": 3}


def test_a_patch_without_a_spot_is_refused_as_the_files_are_of_two_slides(task):
    change(task / "adata/S3.h5ad", lambda adata: adata[4:].copy())
    assert refusal(task).startswith("IDC/patches/S3.h5: barcode: found 4 barcodes of no spot, e.g. '000x002'")


def test_a_gene_that_a_slide_lacks_is_refused(task):
    change(task / "adata/S4.h5ad", lambda adata: adata[:, [gene for gene in adata.var_names if gene != "G20"]].copy())
    assert refusal(task) == "IDC/adata/S4.h5ad: var index: found no 'G20', expected each listed gene once"


@pytest.mark.filterwarnings("ignore:.*not unique")
def test_a_gene_that_a_slide_has_twice_is_refused(task):
    def twice(adata):
        adata.var_names = ["G21" if gene == "G20" else gene for gene in adata.var_names]
        return adata

    (task / "var_50genes.json").write_text(json.dumps({"genes": ["G21"]}))
    change(task / "adata/S4.h5ad", twice)
    assert refusal(task).startswith("IDC/adata/S4.h5ad: var index: found 'G21' 2 times among 60 features")


def test_normalised_expression_is_refused(task):
    def normalised(adata):
        adata.X = np.log1p(adata.X / 10)
        return adata

    change(task / "adata/S1.h5ad", normalised)
    assert refusal(task).startswith("IDC/adata/S1.h5ad: X: found ")
    assert "raw counts" in refusal(task)


@pytest.mark.filterwarnings("ignore:.*not unique")
def test_a_repeated_barcode_is_refused(task):
    def repeated(adata):
        adata.obs_names = ["001x000" if name == "000x000" else name for name in adata.obs_names]
        return adata

    change(task / "adata/S1.h5ad", repeated)
    assert refusal(task).startswith("IDC/adata/S1.h5ad: obs index: found '001x000' twice")


def test_targets_are_read_as_they_were_written(task, tmp_path):
    targets, _ = assembled(task)
    write_targets(tmp_path / "targets.h5", targets)
    again = read_targets(tmp_path / "targets.h5")
    assert (again.genes, again.folds, again.facts) == (targets.genes, targets.folds, targets.facts)
    for name, slide in targets.slides.items():
        for field in ("barcode", "targets", "spatial"):
            np.testing.assert_array_equal(getattr(again.slides[name], field), getattr(slide, field))
