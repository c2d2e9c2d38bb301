"""Claims about slides larger than memory: they pass a block at a time, and what does not fit is told in one line."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from spotwise.runtime import files

pytestmark = pytest.mark.long

SOURCE = str(Path(files.__file__).parents[2])
MB = 2**20
PATCHES = 8_000  # 1,200 MB
GROUPS = Path("/sys/fs/cgroup/memory")

CHILD = """
import re, resource, sys
from pathlib import Path
import h5py, numpy as np
from spotwise.runtime.job import job
{imports}
megabytes = 2**20

def confine(allowed):
    "Let the process take that many megabytes beyond what it holds; files mapped into it do not count."
    held = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + allowed * megabytes,) * 2)

with job("job.log"):
{body}
"""


def run(folder, imports, body, group=None):
    join = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n" if group else ""
    return subprocess.run(
        [sys.executable, "-c", join + CHILD.format(imports=imports, body=textwrap.indent(body, "    "))],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


EXTRACT = f"""
confine(500)
spots = np.random.default_rng(0).uniform(200, 3800, size=({PATCHES}, 2))
extract_patches(Path("slide.tif"), spots, [f"spot{{number}}" for number in range({PATCHES})], 0.5, Path("patches.h5"))
"""


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """1.2 GB of patches, cut in 500 MB of memory."""
    import numpy as np
    import tifffile

    folder = tmp_path_factory.mktemp("large")
    noise = np.random.default_rng(0).integers(0, 256, size=(4000, 4000, 3), dtype=np.uint8)
    tifffile.imwrite(folder / "slide.tif", noise, tile=(256, 256))
    done = run(folder, "from spotwise.data.slides import extract_patches", EXTRACT)
    assert done.returncode == 0, done.stderr
    assert (folder / "patches.h5").stat().st_size > PATCHES * 224 * 224 * 3
    return folder


SPOTS = """
import torch
from spotwise.runtime import devices
from spotwise.data.folds import Fold
from spotwise.training.dataset import Spots
from spotwise.training.loop import _hash_of
"""
READ = f"""
n = {PATCHES}
text = np.full(n, "A", dtype=object)
fold = Fold(
    np.array(["G"], dtype=object), np.zeros(1, bool), np.ones((n, 1), np.float32), text, text, text, text,
    np.random.default_rng(0).permutation(n), np.zeros((n, 2)), np.zeros((n, 2), int), np.ones(n), "c", "paper", 0,
)
spots = Spots(fold, np.arange(n), {{"A": Path("patches.h5")}}, torch.device("cpu"), memory, scratch=Path())
for index in spots.training_batches(64, torch.Generator().manual_seed(0)):
    spots.batch(index)
print(_hash_of(spots))
"""


@pytest.fixture(scope="module")
def hashed(patches):
    """What all patches of the slide come to where memory is no matter."""
    done = run(patches, SPOTS, f"memory = 'host'\n{READ}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_epoch_over_a_slide_larger_than_memory_passes_by_a_mapped_file(patches, hashed):
    done = run(patches, SPOTS, f"memory = 'map'\nconfine(500)\n{READ}")
    assert (done.returncode, done.stdout) == (0, hashed), done.stderr
    assert {path.name for path in patches.iterdir()} == {"slide.tif", "patches.h5", "job.log"}


def test_the_same_slide_held_in_memory_ends_in_one_line_with_the_remedy(patches):
    body = f"""
memory = 'host'
confine(500)
with devices.explain_out_of_memory(devices.FREE_GPU_MEMORY):
{textwrap.indent(READ, "    ")}
"""
    done = run(patches, SPOTS, body)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: out of memory (")
    assert done.stderr.endswith("or keep patches on disk with training.memory: map\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not os.access(GROUPS, os.W_OK), reason="needs to make a control group of version 1")
@pytest.mark.parametrize(("memory", "code"), [("auto", 0), ("host", -9)])
def test_in_a_control_group_auto_takes_the_mapped_file_and_lives(patches, hashed, memory, code):
    group = GROUPS / f"spotwise-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(1000 * MB))
        done = run(patches, SPOTS, f"memory = {memory!r}\n{READ}", group)
    finally:
        group.rmdir()
    assert done.returncode == code, done.stderr
    if memory == "auto":
        assert done.stdout == hashed
        assert "memory auto: map; free: 0." in (patches / "job.log").read_text()


RETRIEVE = """
random = np.random.default_rng(0)
embeddings = random.standard_normal((30_000, 64), dtype=np.float32)
bank = Embeddings.of(embeddings, np.arange(30_000))
queries = Embeddings.of(embeddings[:20_000] + 1, np.arange(20_000))
expression = random.random((30_000, 20), dtype=np.float32)
confine(2000)
predicted, _ = retrieve(queries, bank, expression, 50)
print(predicted.shape)
"""


def test_retrieval_never_holds_all_similarities(tmp_path):
    """All of them would be 2,400 MB, and what is computed from them several times that."""
    done = run(tmp_path, "from spotwise.inference.retrieval import Embeddings, retrieve", RETRIEVE)
    assert (done.returncode, done.stdout) == (0, "(20000, 20)\n"), done.stderr


# --- counts -----------------------------------------------------------------------------------------------------------

SPOTS_OF_SLIDE, GENES = 4_000, 12_500  # 25 million counts that are not zero: 200 MB as CSR and as a dense matrix
ALLOWED = 64
SCRIPTS = Path(files.__file__).parents[3] / "workflow_scripts"

PREPARE = """
import runpy
import anndata
import scipy.spatial  # as what is loaded on first use takes memory of its own, and OpenBLAS waits for ever for it
from spotwise.data import expression, folds, hest, slides
class Named(dict):
    __getattr__ = dict.__getitem__
def script(name, **parts):
    runpy.run_path(f"{scripts}/{name}.py", {"snakemake": Named(log=["script.log"], **parts)})
def prepare():
    names = dict(counts="counts.h5ad", lognorm="lognorm.h5ad", thumbnail="small.png", qc="qc.json")
    params = Named(min_counts=10, target_sum=None, outside="refuse")
    script("prepare_expression", input=Named(counts="S1.h5ad", metadata="S1.json"), output=Named(names), params=params,
           wildcards=Named(sample="S1"))
def assemble():
    plan = dict(fold="1", train=("S1",), test=(), validation="spots", validation_slide=None)
    params = Named(plan=plan, samples=["S1"], patients={"S1": "P"}, hvg_per_slide=500, markers=["G7"], target_sum=None,
                   validation_fraction=0.2)
    script("assemble_fold", input=Named(counts=["counts.h5ad"], lognorm=["lognorm.h5ad"], patches=["patches.h5"]),
           output=Named(panel="panel.tsv", markers="markers.tsv", fold="fold.h5"), params=params,
           wildcards=Named(cohort="c", protocol="paper"))
"""
MADE = ("counts.h5ad", "lognorm.h5ad", "qc.json", "panel.tsv", "fold.h5")


def prepare(folder, body, group=None):
    return run(folder, f"scripts = {str(SCRIPTS)!r}\n{PREPARE}", body, group)


def write_slide(folder, form, counts):
    """One slide's counts in a form, and the patches of ten of its spots."""
    import anndata
    import h5py
    import numpy as np
    import pandas as pd
    from scipy import sparse

    names = [f"spot{number}" for number in range(SPOTS_OF_SLIDE)]
    genes = [f"G{number}" for number in range(GENES - 2)] + ["BLANK_0001", "G5"]
    spatial = np.random.default_rng(1).uniform(0, 1000, size=(SPOTS_OF_SLIDE, 2))
    as_form = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda matrix: matrix.toarray()}[form]
    obs, var = pd.DataFrame(index=names), pd.DataFrame(index=genes)
    anndata.AnnData(as_form(counts), obs=obs, var=var, obsm={"spatial": spatial}).write_h5ad(folder / "S1.h5ad")
    size = {"fullres_px_width": 1000, "fullres_px_height": 1000, "pixel_size_um_estimated": 0.5}
    (folder / "S1.json").write_text(json.dumps({"id": "S1", "species": "Homo sapiens", **size}))
    with h5py.File(folder / "patches.h5", "w") as file:
        file["img"] = np.zeros((10, 224, 224, 3), np.uint8)
        file["barcode"] = np.array(names[5:15], dtype="S")


@pytest.fixture(scope="module")
def slide_counts():
    import numpy as np
    from scipy import sparse

    random = np.random.default_rng(0)
    depth = random.uniform(0.2, 1.2, size=(SPOTS_OF_SLIDE, 1))
    blocks = [random.poisson(depth[rows : rows + 500], (500, GENES)) for rows in range(0, SPOTS_OF_SLIDE, 500)]
    return sparse.vstack([sparse.csr_matrix(block, dtype=np.float32) for block in blocks], format="csr")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, slide_counts):
    """What the slide comes to where memory is no matter."""
    folder = tmp_path_factory.mktemp("expression")
    write_slide(folder, "csr", slide_counts)
    done = prepare(folder, "prepare()\nassemble()")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_counts_of_a_slide_three_times_as_large_as_memory_are_prepared_by_blocks(
    tmp_path, slide_counts, prepared, form
):
    assert 8 * slide_counts.nnz > 3 * ALLOWED * MB * 0.95
    write_slide(tmp_path, form, slide_counts)
    assert prepare(tmp_path, f"confine({ALLOWED})\nanndata.read_h5ad('S1.h5ad')").returncode == 1  # the limit is real
    for step in ("prepare()", "assemble()"):
        done = prepare(tmp_path, f"confine({ALLOWED})\n{step}")
        assert done.returncode == 0, done.stderr
    for name in MADE:
        assert (tmp_path / name).read_bytes() == (prepared / name).read_bytes(), name
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "tmp"))]


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.skipif(not os.access(GROUPS, os.W_OK), reason="needs to make a control group of version 1")
def test_in_a_control_group_counts_that_do_not_fit_lie_in_mapped_files(tmp_path, slide_counts, prepared):
    """Of 300 MB libraries take more than half; counts and log-normalised values alone would take 290 MB."""
    write_slide(tmp_path, "csr", slide_counts)
    group = GROUPS / f"spotwise-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(300 * MB))
        assert prepare(tmp_path, "expression.normalise(anndata.read_h5ad('S1.h5ad').copy())", group).returncode == -9
        done = prepare(tmp_path, "prepare()\nassemble()", group)
    finally:
        group.rmdir()
    assert done.returncode == 0, done.stderr
    for name in MADE:
        assert (tmp_path / name).read_bytes() == (prepared / name).read_bytes(), name
