"""Claims about a full disk: one line that names the file, no partial file, and a rerun that succeeds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from outcome import leftovers, outcome
from running import own_copy, small

from spotwise.runtime import files

pytestmark = pytest.mark.long

SOURCE = str(Path(files.__file__).parents[2])
MB = 2**20


@pytest.fixture
def disk(tmp_path):
    """Mount a file system of 4 MB in memory that can be resized."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(megabytes, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={megabytes}m"]), "spotwise", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if (mounted := resize(4)).returncode:
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    disk = type("Disk", (), {"folder": folder, "resize": lambda size: resize(size, "remount").check_returncode()})
    yield disk
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


# What each job writes, more than fits on the disk
WRITERS = {
    "patches.h5": """
        import openslide
        from PIL import Image
        from spotwise.data.patches import extract_patches
        import tifffile
        tifffile.imwrite("../slide.tif", noise(2000, 2000, 3), tile=(256, 256))
        centres = np.indices((9, 9)).reshape(2, 81).T * 200 + 150
        extract_patches(Path("../slide.tif"), centres, np.arange(81).astype(str), 0.5, path)
    """,
    "last.pt": """
        import torch
        from spotwise.training.checkpoints import State
        State(path.parent, "").save({"model": torch.from_numpy(noise(8 * MB)), "step": 3})
    """,
    "bank.safetensors": """
        from spotwise.inference.retrieval import Embeddings, write_embeddings
        write_embeddings(path, Embeddings.of(noise(20_000, 256).astype(np.float32), np.arange(20_000)))
    """,
    "fold.h5": """
        from spotwise.data.folds import write_fold
        write_fold(path, some_fold())
    """,
    "prediction.h5ad": """
        from spotwise.inference.prediction_files import write_prediction
        fold = some_fold(genes=2000)
        write_prediction(path, fold, "A", fold.expression, {"predictor": "CMRCNet-50"})
    """,
    "scores.parquet": """
        import pandas as pd
        from spotwise.evaluation.score_files import write_scores
        write_scores(pd.DataFrame(noise(2 * MB, 8).astype(np.float64) ** 0.5).add_prefix("column"), path)
    """,
    "table.csv": """
        import pandas as pd
        from spotwise.evaluation.training_costs import write_costs
        write_costs(pd.DataFrame(noise(MB, 8)), path)
    """,
    "figure.png": """
        from PIL import Image
        from spotwise.runtime.files import atomic
        with atomic(path) as temporary:
            Image.fromarray(noise(2000, 2000, 3)).save(temporary)
    """,
    "qc.json": """
        from spotwise.runtime.files import write_json
        write_json(path, noise(2 * MB).tolist())
    """,
}
JOB = """
import sys
from pathlib import Path
import numpy as np
from spotwise.runtime.job import job
MB = 2**20
noise = lambda *shape: np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
path = Path(sys.argv[1])


def some_fold(n=2000, genes=1000):
    from spotwise.data.folds import Fold
    many, text = np.arange(n), np.full(n, "A", dtype=object)
    expression = np.random.default_rng(0).random((n, genes), dtype=np.float32)
    return Fold(
        np.array([f"G{{gene}}" for gene in range(genes)], dtype=object), *np.ones((2, genes), bool), expression, text,
        text, many.astype(str).astype(object), np.full(n, "test", dtype=object), many, np.zeros((n, 2)),
        np.zeros((n, 2), int), np.ones(n, np.float32), "demo", "paper", 0,
    )


with job("job.log"):
{body}
"""


def write(name, disk):
    body = "\n".join(line[4:] for line in WRITERS[name].splitlines())
    return subprocess.run(
        [sys.executable, "-c", JOB.format(body=body), name],
        cwd=disk.folder,
        env=os.environ | {"PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_reported_in_one_line_and_leaves_no_partial_file(disk, name):
    (disk.folder / name).write_bytes(b"old")
    done = write(name, disk)
    assert done.returncode == 1
    assert (
        done.stderr == f"Error: {name}: No space left on device: nothing was written; free some space, and run again\n"
    )
    assert (disk.folder / name).read_bytes() == b"old"
    assert {path.name for path in disk.folder.iterdir()} == {name, "job.log"}
    disk.resize(100)
    done = write(name, disk)
    assert (done.returncode, done.stderr) == (0, "")
    assert (disk.folder / name).stat().st_size > 4 * MB


@pytest.mark.workflow
def test_a_run_on_a_full_disk_continues_once_there_is_space(disk, tmp_path):
    repository = own_copy(tmp_path / "repository")
    wanted = "results/demo/models/demo/patient/CMRCNet/fold0/seed0/weights.safetensors"
    elsewhere = small(tmp_path / "elsewhere", repository)
    elsewhere.finish(wanted)
    disk.resize(100)
    pipeline = small(disk.folder / "run", repository)
    shutil.copytree(elsewhere.folder / "data", pipeline.folder / "data")
    used = sum(path.stat().st_size for path in pipeline.folder.rglob("*") if path.is_file())
    disk.resize(used // MB + 8)  # patches of both slides are 11 MB
    failed = pipeline.snakemake("--cores", "1", wanted)
    assert failed.returncode != 0
    lines = [line for line in failed.stdout.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert ": No space left on device" in lines[0]
    there = outcome(pipeline.folder)
    reference = outcome(elsewhere.folder)
    assert {name for name, digest in there.items() if reference[name] != digest} == set()
    disk.resize(100)
    pipeline.finish(wanted)
    assert outcome(pipeline.folder) == reference
    assert leftovers(pipeline.folder) == []
