"""Claims about score files: what is written comes back, and readers take the columns and predictors they need."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from handmade import prediction
from spotwise.errors import InputError
from spotwise.evaluation.score_files import SCORE_COLUMNS, read_scores, write_scores
from spotwise.evaluation.scores import score_prediction
from spotwise.inference.prediction_files import read_prediction


def test_scores_survive_the_way_through_files(tmp_path):
    rng = np.random.default_rng(3)
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.h5ad")
        prediction(rng.random((6, 3)), rng.random((6, 3)), run={"seed": seed, "note": "plain"}).write_h5ad(paths[-1])
    parts = [score_prediction(read_prediction(path)) for path in paths]
    scores = pd.concat(parts, ignore_index=True)
    assert list(scores.columns) == list(SCORE_COLUMNS)
    assert scores["seed"].tolist() == [0, 0, 0, 1, 1, 1]
    one, two = tmp_path / "scores" / "a.parquet", tmp_path / "scores" / "b.parquet"
    write_scores(scores[:3], one)
    write_scores(scores[3:], two)
    pd.testing.assert_frame_equal(read_scores([one, two]), scores)
    assert sorted(path.name for path in one.parent.iterdir()) == ["a.parquet", "b.parquet"]
    pd.testing.assert_frame_equal(read_scores([two, one], ["ssim"])[:3], scores[["ssim"]][3:].reset_index(drop=True))
    both = scores.assign(predictor=["A", "A", "A", "B", "B", "C"])
    write_scores(both, one)
    pd.testing.assert_frame_equal(
        read_scores([one], ["predictor", "seed"], ["C", "A"]),
        both.loc[[0, 1, 2, 5], ["predictor", "seed"]].reset_index(drop=True),
    )
    with pytest.raises(InputError, match=r"a\.parquet: columns: .*also hvg_recovery"):
        read_scores([one], ["ssim", "hvg_recovery"])


def test_importing_score_files_and_tables_stays_light():
    heavy = "{'torch', 'scanpy', 'anndata', 'matplotlib', 'scipy'}"
    code = f"import sys, spotwise.reporting.tables; print({heavy} & set(sys.modules))"
    path = ":".join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert done.stdout.strip() == "set()", done.stderr
