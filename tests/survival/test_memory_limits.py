"""Claims about data larger than memory: patches are mapped from a file, and full memory is one line."""

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
    done = run(folder, "from spotwise.data.patches import extract_patches", EXTRACT)
    assert done.returncode == 0, done.stderr
    assert (folder / "patches.h5").stat().st_size > PATCHES * 224 * 224 * 3
    return folder


SPOTS = """
import torch
from spotwise.runtime import devices
from spotwise.data.folds import Fold
from spotwise.training.dataset import Spots
from spotwise.training.checkpoints import hash_tensors
"""
READ = f"""
n = {PATCHES}
text = np.full(n, "A", dtype=object)
fold = Fold(
    np.array(["G"], dtype=object), *np.ones((2, 1), bool), np.ones((n, 1), np.float32), text, text, text, text,
    np.random.default_rng(0).permutation(n), np.zeros((n, 2)), np.zeros((n, 2), int), np.ones(n), "c", "paper", 0,
)
spots = Spots(fold, np.arange(n), {{"A": Path("patches.h5")}}, torch.device("cpu"), memory, scratch=Path())
for index in spots.training_batches(64, torch.Generator().manual_seed(0)):
    spots.batch(index)
print(hash_tensors(*spots.contents()))
"""


@pytest.fixture(scope="module")
def hashed(patches):
    """Hash all patches of the slide with unlimited memory."""
    done = run(patches, SPOTS, f"memory = 'host'\n{READ}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_epoch_over_a_slide_larger_than_memory_works_with_a_mapped_file(patches, hashed):
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
def test_in_a_control_group_auto_selects_the_mapped_file_and_survives(patches, hashed, memory, code):
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
    """All similarities would take 2,400 MB, and computing with them several times that."""
    done = run(tmp_path, "from spotwise.inference.retrieval import Embeddings, retrieve", RETRIEVE)
    assert (done.returncode, done.stdout) == (0, "(20000, 20)\n"), done.stderr
