"""Claims about the benchmark at the paper's size, on cohorts of a hundred spots and on processes that do little."""

import json
import pickle
import subprocess
import sys
import time
from dataclasses import asdict, replace

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from benchmarks import memory_groups, scale, scale_data, scale_table
from benchmarks.job_watch import MB, Job, Watch, describe, read_jobs, resident_mb, size_mb, write_job
from benchmarks.scale_config import configuration, methods
from benchmarks.scale_data import SMALL, VISIUM, XENIUM, slides
from spotwise.config import prepare
from spotwise.data import hest
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import read_counts
from spotwise.data.patch_files import join_patches
from spotwise.data.patches import check_slide
from spotwise.data.pixel_size import pixel_size
from spotwise.data.spot_scale import check_scale, stated_spots
from spotwise.data.text_tables import read_rows
from spotwise.models.registry import REGISTRY

GROUPS = memory_groups.MemoryGroups.find()
limited = pytest.mark.skipif(GROUPS is None, reason="needs to make a control group of memory, as root can")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    scale_data.generate(folder, SMALL)
    return folder


# --- cohorts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slide", slides(SMALL), ids=lambda slide: slide.sample)
def test_a_generated_sample_passes_every_check_of_its_files(cohorts, slide):
    files = hest.sample_files(cohorts / "data", slide.sample)
    metadata = hest.read_metadata(files.metadata)
    size = hest.slide_size(metadata, files.metadata)
    raw = read_counts(files.counts)
    counts, qc = clean_counts(raw, slide.sample, size, 1, files.counts)
    assert counts.shape == (slide.spots, slide.genes)
    assert hest.other_sample_warning(metadata, *raw.shape) is None
    pixel = pixel_size(metadata, files.slide if slide.picture_px else None, files.metadata)
    _, warnings = check_scale(counts, pixel, stated_spots(metadata, "", files.metadata), size, files.counts)
    as_hest_states = ["spots 128 um apart (256 px at 0.5 um/px), inter_spot_dist in the metadata is 2 um"]
    assert warnings == (as_hest_states if slide.technology == "Visium HD" else [])
    assert (qc["warnings"], pixel.warnings) == ([], [])
    if slide.picture_px:
        _, warnings = check_slide(files.slide, counts.obsm["spatial"], pixel.um)
    else:
        joined = join_patches(files.patches, counts, pixel.um)
        warnings = joined.warnings
        assert sorted(joined.rows) == list(range(slide.spots))
    assert warnings == []


def test_counts_vary_within_and_between_genes_and_follow_the_picture(cohorts):
    files = hest.sample_files(cohorts / "data", "V1")
    counts = anndata.read_h5ad(files.counts)
    assert sparse.isspmatrix_csr(counts.X)
    values = counts.X.toarray()
    assert np.array_equal(values, values.round())
    share = np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4)
    with h5py.File(files.patches) as file:
        darkness = -file["img"][:].mean(axis=(1, 2, 3))
    varying = share[:, share.std(axis=0) > 0.1]
    correlation = np.corrcoef(darkness, varying.T)[0, 1:]
    assert (correlation > 0.4).sum() > 10
    assert (correlation < -0.4).sum() > 10
    assert (abs(correlation) < 0.15).sum() > 10
    # more scattered than Poisson counts of the same means
    mean, variance = values.mean(axis=0), values.var(axis=0)
    assert (variance[mean > 5] > 2 * mean[mean > 5]).mean() > 0.5


def test_no_two_patches_are_alike(cohorts):
    with h5py.File(hest.sample_files(cohorts / "data", "X1").patches) as file:
        images = file["img"][:]
        assert file["img"].chunks == (1, 224, 224, 3)
        assert file["img"].compression is None
    assert len({image.tobytes() for image in images}) == len(images)
    assert images.std(axis=(1, 2, 3)).min() > 10


def test_the_full_size_is_that_of_the_papers_cohorts():
    full = slides(scale_data.FULL)
    assert [(one.spots, one.genes) for one in full if one.cohort == VISIUM] == [(5_000, 33_900)] * 4
    assert [(one.spots, one.genes) for one in full if one.technology == "Xenium"] == [(25_000, 541), (3_900, 541)]
    [hd] = [one for one in full if one.technology == "Visium HD"]
    assert hd.spots == 300_000 // 16**2
    assert len({one.patient for one in full if one.cohort == XENIUM}) == 2


def test_many_genes_of_a_spot_are_counted_at_full_size():
    rng, patient = np.random.default_rng(0), np.random.default_rng(1)
    counts = scale_data.draw_counts(rng.random(40), 33_900, scale_data.DEPTHS["Visium"], rng, patient, 0)
    assert 3_000 < np.median(np.diff(counts.indptr)) < 5_000


def test_samples_that_are_there_are_kept(cohorts):
    files = hest.sample_files(cohorts / "data", "V2")
    before = files.counts.stat().st_mtime_ns
    assert scale_data.generate(cohorts, SMALL) == []
    files.metadata.unlink()
    assert scale_data.generate(cohorts, SMALL) == ["V2"]
    assert files.counts.stat().st_mtime_ns > before


# --- configuration ----------------------------------------------------------------------------------------------------


def test_the_configuration_is_valid_and_runs_every_registered_class(cohorts):
    config = configuration(cohorts, SMALL)
    prepare(config, "config.yaml")
    models = {entry.get("model", name) for name, entry in methods().items()}
    assert models == {name for name, entry in REGISTRY.items() if entry.kind != "control"}
    assert {name for name, entry in REGISTRY.items() if entry.kind == "control"} <= set(config["controls"])
    predicting = [name for name, entry in methods().items() if REGISTRY[entry.get("model", name)].predicts]
    tools = [entry for entry in config["external"].values() if XENIUM in entry.get("cohorts", [XENIUM])]
    assert len(predicting) + len(tools) >= 24  # panels of a figure of the largest slide
    assert any(entry.get("harmony") for entry in methods().values())
    assert any(entry.get("targets") == "slide_centred" for entry in methods().values())
    assert [row["sample"] for row in read_rows(cohorts / "samples.tsv", "a sheet", "samples", "", "sample")] == [
        one.sample for one in slides(SMALL)
    ]


# --- watch ------------------------------------------------------------------------------------------------------------


class Described:
    """As Snakemake pickles a job into its script."""

    def __init__(self, rule, mem_mb, folder):
        self.rule, self.threads, self.log = rule, 1, [f"{rule}.log"]
        self.wildcards, self.resources = {"sample": "V1"}, {"mem_mb": mem_mb}
        self.input, self.output = ["in"], ["out"]


def script(folder, rule, mem_mb, body):
    """Write a job as Snakemake does, which allocates and ends."""
    scripts = folder / ".snakemake" / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    path = scripts / f"tmpabc123.{rule}.py"
    described = pickle.dumps(Described(rule, mem_mb, folder), protocol=4)
    lines = [
        "if False:",
        f"    snakemake = pickle.loads({described});",
        "    from snakemake.logging import logger",
        body,
    ]
    path.write_text("\n".join(lines))
    (folder / "in").write_bytes(b"0" * 2_000_000)
    return path


def watched(folder, groups, *scripts):
    """Run scripts one after the other under a watch, and return their jobs and exit codes."""
    jobs = []
    watch = Watch(folder, groups, jobs.append)
    watch.start()
    codes = [subprocess.run([sys.executable, str(one)], cwd=folder, check=False).returncode for one in scripts]
    watch.stop()
    return jobs, codes


ALLOCATE = """
import time
time.sleep(0.5)
held = bytearray(150_000_000)
time.sleep(0.5)
open("out", "wb").write(b"0" * 3_000_000)
"""


def test_a_job_is_described_by_its_script_alone(tmp_path):
    job, inputs = describe(script(tmp_path, "score", 400, ""))
    assert (job.rule, job.wildcards, job.request_mb, job.threads) == ("score", {"sample": "V1"}, 400, 1)
    assert (job.log, job.outputs, inputs) == ("score.log", ["out"], ["in"])
    assert describe(tmp_path / "gone.py") is None
    (tmp_path / "other.py").write_text("print(1)")
    assert describe(tmp_path / "other.py") is None


def test_the_watch_sees_peak_and_files_of_a_job(tmp_path):
    [job], codes = watched(tmp_path, None, script(tmp_path, "score", 400, ALLOCATE))
    assert codes == [0]
    assert 150 < job.private_mb <= job.peak_mb < 220
    assert (job.input_mb, job.output_mb) == (2, 3)
    assert 1 < job.ended - job.began < 5
    assert not job.is_limited


def test_what_a_job_starts_is_no_job_of_its_own(tmp_path):
    forking = "import os, time\ntime.sleep(0.3)\nif not os.fork():\n    time.sleep(0.5)\n    os._exit(0)\nos.wait()\n"
    jobs, _ = watched(tmp_path, None, script(tmp_path, "score", 400, forking))
    assert [job.rule for job in jobs] == ["score"]
    assert jobs[0].peak_mb > 0


def test_processes_that_are_no_jobs_are_left_alone(tmp_path):
    other = script(tmp_path, "score", 400, ALLOCATE)
    (tmp_path / "elsewhere").mkdir()
    jobs, _ = watched(tmp_path / "elsewhere", None, other)
    assert jobs == []
    watch = Watch(tmp_path, None, jobs.append)
    watch.start()
    shell = f"true {other}; sleep 0.5"
    subprocess.run(["sh", "-c", shell], check=True)
    watch.stop()
    assert jobs == []


@limited
def test_a_job_above_its_request_is_killed_and_another_is_not(tmp_path):
    greedy, modest = script(tmp_path, "greedy", 100, ALLOCATE), script(tmp_path, "modest", 400, ALLOCATE)
    (first, second), codes = watched(tmp_path, GROUPS, greedy, modest)
    assert codes == [-9, 0]
    assert (first.rule, first.is_limited, first.is_killed) == ("greedy", True, True)
    assert (second.rule, second.is_limited, second.is_killed) == ("modest", True, False)
    time.sleep(0.1)
    assert not list(GROUPS.files.parent.glob(f"spotwise-{memory_groups.os.getpid()}-*"))


def test_groups_are_not_made_where_the_kernel_has_none(tmp_path):
    nowhere = replace(memory_groups.VERSIONS[0], parent=tmp_path)
    assert memory_groups.MemoryGroups.find((nowhere,)) is None
    assert list(tmp_path.iterdir()) == []


def test_memory_of_an_ended_process_is_none():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert resident_mb(process.pid) is None


def test_sizes_of_folders_and_missing_files_add_up(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"0" * 1000)
    (tmp_path / "a" / "b" / "two").write_bytes(b"0" * 2000)
    assert size_mb([tmp_path / "a", tmp_path / "a" / "one", tmp_path / "none"]) == pytest.approx(4000 / MB)


# --- table ------------------------------------------------------------------------------------------------------------

FACTS = scale_table.Facts(
    size=json.loads(json.dumps(asdict(SMALL))), planned={"score": 3, "audit": 1}, limited=True, cores=2, run_s=60,
    disk_mb={"predictions": [1500, 20], "logs": [0.5, 3], "models": [0, 0]}, peak_disk_mb=2000,
)  # fmt: skip


@pytest.fixture
def finished(tmp_path):
    """Two jobs that ended well and one that was killed, of three planned, with their logs and rules."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "some.smk").write_text(
        "rule score:\n    x\n\n\nuse rule score as score_retrieval with:\n    x\n\n\n"
        "if a:\n    rule fetch_sample:\n        x\n\nrule audit:\n"
    )
    made = []
    for sample, peak, killed in (("V1", 300, False), ("V2", 250, False), ("X1", 2000, True)):
        job = Job("score", {"sample": sample}, f"{sample}.log", 2000, 1, [], peak, peak - 50, True, killed, 0, 7)
        write_job(tmp_path / "jobs.jsonl", replace(job, input_mb=peak, output_mb=peak / 10))
        end = "INFO done in 5.000 s, 4.000 s of CPU time, after 1.000 s of CPU time to start, 120 MB at most\n"
        (tmp_path / f"{sample}.log").write_text(f"2026-01-01 00:00:00,000 {'INFO 3 spots' if killed else end}")
    made = read_jobs(tmp_path / "jobs.jsonl")
    return made, {job.log: scale_table.job_times(tmp_path / job.log) for job in made}, tmp_path / "rules"


def test_a_row_sums_times_and_takes_the_largest_of_the_rest(finished):
    jobs, times, rules = finished
    text = scale_table.markdown(FACTS, jobs, times, "* a machine", rules)
    assert "| score | Visium | 2 | 5 | 10 | 10 | 300 | 250 | 2,000 | 15% | 300 | 30.0 | V1 |" in text
    assert "| score | Xenium | 1 | 7 | 7 | 0 | 2,000 | 1,950 | 2,000 | 100% | 2,000 | 200.0 | X1 |" in text
    assert "| predictions | 1,500.0 | 20 |" in text
    assert "| models |" not in text
    assert "Killed: 1. Peaks above the request: 0." in text


def test_every_gap_has_a_reason(finished):
    text = scale_table.markdown(FACTS, *finished[:2], "", finished[2])
    gaps = text.partition("## Gaps")[2]
    assert "* `score` Xenium X1: killed at its limit of 2000 MB" in gaps
    assert "* `audit`: 1 of 1 jobs did not start: jobs before them failed." in gaps
    assert "* `fetch_sample`: no job: downloads from the hub." in gaps
    assert "* `score_retrieval`: no job: this configuration needs none." in gaps


def test_a_failed_job_is_told_by_its_own_last_error(tmp_path):
    log = tmp_path / "a.log"
    log.write_text(
        "2026-01-01 00:00:00,000 ERROR first\n2026-01-01 00:00:00,000 ERROR the table: found 3, expected 4\n"
    )
    assert scale_table.job_times(log) == (None, None, None, "the table: found 3, expected 4")
    assert scale_table.job_times(tmp_path / "none.log") == (None, None, None, "")


def test_the_log_of_a_job_is_read_as_the_job_writes_it(tmp_path):
    code = "from spotwise.runtime.job import job\nwith job('job.log'): held = b'0' * 150_000_000"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    times = scale_table.job_times(tmp_path / "job.log")
    assert times.wall >= 0
    assert 0 < times.cpu < 10
    assert 150 < times.peak_mb < 300
    assert times.error == ""


def test_the_help_names_the_parts(capsys):
    with pytest.raises(SystemExit):
        scale.main(["--help"])
    shown = capsys.readouterr().out
    assert all(part in shown for part in (*scale.PARTS, "--folder", "--small"))
    with pytest.raises(SystemExit):
        scale.main(["generate", "everything"])


def test_the_rules_of_the_workflow_are_all_found():
    rules = scale_table.rules_of(scale.ROOT / "rules")
    assert {"train", "train_structure", "score_retrieval", "draw_slide", "fetch_sample", "predict_slide"} <= set(rules)
