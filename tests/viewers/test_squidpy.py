"""Predictions open over their slide in squidpy, without arguments; in an environment of its own, as it is heavy."""

import json
import subprocess
from pathlib import Path

import anndata
import numpy as np
import pytest

from inference.test_slide_anndata import over_its_slide, sample, unsequenced  # noqa: F401
from spotwise.inference.slide_anndata import SlideView, write_slide_prediction

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".squidpy/bin/python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="squidpy has an environment of its own: make test-squidpy")


def test_squidpy_draws_both_kinds_of_prediction_without_arguments(fold, sample, unsequenced, tmp_path):  # noqa: F811
    predicted = fold.expression[fold.sample == "C"]
    over_its_slide(fold, predicted, SlideView.read(*sample), tmp_path).write_h5ad(tmp_path / "C.h5ad")
    write_slide_prediction(*unsequenced)
    files = [tmp_path / "C.h5ad", unsequenced[0]]
    command = [PYTHON, Path(__file__).with_name("draw.py"), *files]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={"MPLCONFIGDIR": str(tmp_path)})
    for path, line in zip(files, done.stdout.splitlines(), strict=True):
        adata, drawn = anndata.read_h5ad(path), json.loads(line)
        (library,) = adata.uns["spatial"].values()
        assert drawn["picture"][:2] == list(library["images"]["hires"].shape[:2])
        centres = adata.obsm["spatial"] * library["scalefactors"]["tissue_hires_scalef"]
        np.testing.assert_allclose(drawn["spots"], centres, atol=0.01)
