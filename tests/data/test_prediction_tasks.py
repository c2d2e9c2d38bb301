"""Claims about folds for other tools: what is needed to predict is there, and the truth of the test spots is not."""

import anndata
import h5py
import numpy as np

from spotwise.constants import TEST
from spotwise.data.prediction_tasks import prediction_task
from spotwise.runtime.hdf5 import write_anndata


def test_the_truth_of_the_test_spots_is_not_in_it(fold, tmp_path):
    write_anndata(tmp_path / "task.h5ad", prediction_task(fold, {}), "gzip")
    task = anndata.read_h5ad(tmp_path / "task.h5ad")
    tested = fold.role == TEST
    assert np.isnan(task.X[tested]).all()
    np.testing.assert_array_equal(task.X[~tested], fold.expression[~tested])
    with h5py.File(tmp_path / "task.h5ad") as file:
        names = []
        file.visit(names.append)
    assert not [name for name in names if "observed" in name or "counts" in name]  # depth is truth, too


def test_spots_genes_and_patches_are_those_of_the_fold(fold, tmp_path):
    patches = {sample: f"patches/{sample}.h5" for sample in ("A", "B", "C", "D")}
    write_anndata(tmp_path / "task.h5ad", prediction_task(fold, patches), "gzip")
    task = anndata.read_h5ad(tmp_path / "task.h5ad")
    assert task.obs_names.is_unique
    assert task.obs_names[0] == f"A:{fold.barcode[0]}"
    for name in ("barcode", "sample", "patient", "role"):
        assert task.obs[name].tolist() == getattr(fold, name).tolist()
    np.testing.assert_array_equal(task.obs["patch"], fold.patch)
    np.testing.assert_array_equal(task.obs[["array_row", "array_col"]], fold.array)
    np.testing.assert_array_equal(task.obsm["spatial"], fold.spatial)
    assert task.var_names.tolist() == fold.genes.tolist()
    np.testing.assert_array_equal(task.var["is_hvg"], fold.is_hvg)
    assert task.uns["patches"] == patches
    assert (task.uns["cohort"], task.uns["protocol"], task.uns["fold"]) == ("c", "patient", 0)


def test_the_fold_itself_is_not_changed(fold):
    before = fold.expression.copy()
    prediction_task(fold, {})
    np.testing.assert_array_equal(fold.expression, before)
