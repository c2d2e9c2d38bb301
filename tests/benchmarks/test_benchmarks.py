"""Claims about the benchmarks: the references compute what spotwise computes, and times are measured properly."""

import os
from dataclasses import replace
from datetime import datetime

import h5py
import numpy as np
import pytest
import torch

from benchmarks import correlation, demo, expression, large_bank, patches, planning, retrieval, startup, training
from benchmarks.machine import Machine
from benchmarks.table import AtLeast, AtMost, Limit, Row, markdown
from benchmarks.timing import Ratio, Times, in_turns, peak_memory, total
from spotwise.data.patches import extract_patches
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.models.similarity_search import average, nearest

SMALL = retrieval.Size(queries=60, bank=3_000, dimensions=32, genes=20)


@pytest.mark.parametrize("k", [5, 200])
def test_retrieval_equals_the_published_way(k):
    given = retrieval.inputs(SMALL)
    expected = retrieval.published(*given, k)
    for threads in (1, 2):
        np.testing.assert_allclose(retrieval.product(*given, k, threads), expected, rtol=1e-4, atol=1e-6)


def test_the_gather_is_k_times_the_mean():
    queries, bank, values = retrieval.inputs(SMALL)
    matches = nearest(queries, bank, 7)
    np.testing.assert_allclose(retrieval.gather(values, matches), 7 * average(values, matches), rtol=1e-5)


def test_a_bank_mapped_from_files_gives_what_one_in_memory_gives(tmp_path):
    large_bank.write_bank(tmp_path, SMALL)
    queries, bank, values = large_bank.mapped(tmp_path)
    assert isinstance(bank, np.memmap)
    assert isinstance(values, np.memmap)
    assert values.shape == (SMALL.bank, SMALL.genes)
    values = np.arange(values.size, dtype=np.float32).reshape(values.shape)
    in_memory = retrieval.product(queries, np.array(bank), values, 50)
    np.testing.assert_array_equal(retrieval.product(queries, bank, values, 50, 2), in_memory)
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, rtol=1e-5)


def test_pcc_equals_scipy_gene_by_gene():
    given = correlation.inputs(200, 300)
    np.testing.assert_allclose(pearson_per_gene(*given)[0], correlation.gene_by_gene(*given), rtol=0, atol=1e-6)


def test_lognorm_and_panel_of_clean_counts_equal_those_of_scanpys_calls():
    raw = expression.slide(150, 400, faultless=True)
    adata = expression.scanpy_alone(raw, 50)
    lognorm, panel = expression.product(raw, 50)
    assert list(lognorm.obs_names) == list(adata.obs_names)
    np.testing.assert_allclose(lognorm.X.toarray(), adata.X.toarray(), rtol=1e-5)
    assert list(panel["gene"]) == sorted(adata.var_names[adata.var["highly_variable"]])


def test_the_slide_of_the_benchmark_needs_cleaning():
    raw = expression.slide(300, 6_100)
    lognorm, _ = expression.product(raw, 50)
    assert lognorm.n_obs < raw.n_obs
    assert lognorm.n_vars == raw.n_vars - 3 - 3  # controls, and second features


@pytest.mark.parametrize(("um_per_px", "pitch_um"), [(0.5, 100.0), (0.27, 200.0), (0.25, 120.0)])
def test_patches_equal_those_read_spot_by_spot(tmp_path, um_per_px, pitch_um):
    spots = patches.Spots("", 3, pitch_um, um_per_px)
    centres = spots.centres()
    patches.write_slide(tmp_path / "slide.tif", spots)
    patches.spot_by_spot(tmp_path / "slide.tif", centres, um_per_px, tmp_path / "theirs.h5")
    found = {}
    for threads in (1, 2):
        extract_patches(
            tmp_path / "slide.tif", centres, list(map(str, range(9))), um_per_px, tmp_path / "ours.h5", threads=threads
        )
        with h5py.File(tmp_path / "ours.h5") as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
            for name in ("coords", "barcode"):
                np.testing.assert_array_equal(ours[name][()], theirs[name][()])
            found[threads] = ours["img"][()]
            # theirs knows nothing beyond the patch, nor halves of a pixel of the level
            difference = np.abs(found[threads].astype(int) - theirs["img"][()])[:, 4:-4, 4:-4]
            assert difference.mean() < 3
    np.testing.assert_array_equal(found[1], found[2])


def test_each_needed_tile_is_decoded_once(tmp_path):
    # 0.5 um/px: patches of 224 px around (140, 340, 540): tiles of 256 px 0-0, 0-1 and 1-2 along either edge
    spots = patches.Spots("", 3, 100.0, 0.5)
    patches.write_slide(tmp_path / "slide.tif", spots)
    assert patches.tiles_once(tmp_path / "slide.tif", spots.centres(), 0.5) == 9
    assert patches.tiles_once(tmp_path / "slide.tif", spots.centres()[:1], 0.5) == 1


SMALL_MODEL = training.Case(
    "",
    "BLEEP",
    {"encoder": "vit", "encoder_dim": 16, "encoder_depth": 1, "encoder_heads": 2, "projection_dropout": 0.0},
    batch=6,
    steps=1,
    genes=12,
)


@pytest.fixture
def stepping(tmp_path):
    """Make the same untrained model again, unaugmented, ready to step."""

    def make(**changes):
        made = training.Training(replace(SMALL_MODEL, **changes), tmp_path, torch.device("cpu"), 1)
        made.run.options = made.run.options.model_copy(update={"augment": False})
        return made

    return make


@pytest.mark.parametrize("side", ["fixed", "loaded"])
def test_steps_of_both_references_equal_those_of_the_loop(stepping, side):
    loop, other = stepping(), stepping()
    for group in other.run.optimiser.param_groups:
        group["lr"] = loop.run.rates[0]
    generator = torch.Generator().manual_seed(0)  # as the loop's, which draws only the order if unaugmented
    dataset = training.PatchByPatch(other.patches, other.fold, augmented=False)
    for _ in range(3):
        [order] = other.spots.training_batches(6, generator)
        if side == "fixed":
            other.batch = other.spots.batch(order)
            loss = other.fixed()
        else:
            loss = other.loaded(torch.utils.data.DataLoader(dataset, 6, sampler=order.tolist()))
        assert loss == pytest.approx(loop.epoch()["train_total"], rel=1e-6)


def test_an_epoch_of_each_side_takes_as_many_steps(stepping):
    taken = {}
    for side in ("epoch", "fixed", "loaded"):
        made = stepping(steps=3)
        step = made.run.optimiser.step
        calls = []
        made.run.optimiser.step = lambda calls=calls, step=step: (calls.append(1), step())
        made.loaded(made.loader(0)) if side == "loaded" else getattr(made, side)()
        taken[side] = len(calls)
    assert taken == {"epoch": 3, "fixed": 3, "loaded": 3}


def test_the_loader_yields_the_same_patches_under_the_same_symmetries(stepping):
    made = stepping(steps=4)
    ours = made.spots.batch(torch.arange(24))
    plain = training.PatchByPatch(made.patches, made.fold, augmented=False)
    for spot in range(24):
        image, expression = plain[spot]
        torch.testing.assert_close(image, ours.images[spot])
        torch.testing.assert_close(expression, ours.expression[spot])
    turned = training.PatchByPatch(made.patches, made.fold)
    seen = set()
    for spot in range(24):
        image = turned[spot][0]
        either = [ours.images[spot], ours.images[spot].flip(2)]
        symmetries = [torch.rot90(one, turns, (1, 2)) for one in either for turns in range(4)]
        same = [number for number, one in enumerate(symmetries) if torch.allclose(one, image, atol=1e-6)]
        assert len(same) == 1
        seen |= set(same)
    assert len(seen) > 4


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_yields_every_spot_once(stepping, workers):
    made = stepping(steps=4)
    shown = torch.cat([expression for _, expression in made.loader(workers)])
    expected = torch.from_numpy(made.fold.expression)
    torch.testing.assert_close(shown[shown[:, 0].argsort()], expected[expected[:, 0].argsort()])


def test_the_planned_run_has_the_jobs_of_its_configuration(tmp_path):
    # 5 slides in one cohort: 5 folds x 2 protocols x 8 trained methods x 3 seeds, and 2 fitted methods once a fold
    done = planning.jobs_planned("--configfile", planning.write_configuration(tmp_path, 5))
    assert done["generate_sample"] == 5
    assert done["train"] == 5 * 2 * 8 * 3
    assert done["fit_frozen"] == 5 * 2 * 2
    assert done["predict_test_slides"] == 2 * 8


def test_the_bare_workflow_has_as_many_jobs(tmp_path):
    planning.write_bare(tmp_path, 41)
    done = planning.jobs_planned("--snakefile", "Snakefile", "--cores", "1", folder=tmp_path)
    assert done == {"first": 20, "second": 20, "all": 1, "total": 41}


def test_growth_is_one_where_planning_is_linear():
    jobs = [10, 20, 40]
    linear = [Times((5 + 0.1 * n,) * 2, (3 + 0.2 * n,) * 2) for n in jobs]
    assert vars(planning.growth(linear, jobs)) == pytest.approx({"value": 1, "low": 1, "high": 1, "cpu": 1})
    quadratic = [Times((5 + n * n,), (3 + n * n,)) for n in jobs]
    assert planning.growth(quadratic, jobs).value == pytest.approx(2)  # (1600 - 400) / 20 over (400 - 100) / 10


def test_the_start_of_a_job_is_snakemakes_preamble_and_the_scripts_imports(tmp_path):
    script = tmp_path / "one.py"
    script.write_text("import json\nfrom pathlib import Path\nprint('at work')\n")
    code = startup.start(script)
    assert "snakemake preamble start" in code
    assert code.endswith("import json\nfrom pathlib import Path")
    startup.run(code + "\nprint(snakemake.config['run'])", outcome=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "demo\n"


def test_light_scripts_are_those_that_import_no_torch(tmp_path):
    for name, code in {"a": "import json", "b": "import torch", "c": "import spotwise.training.loop"}.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert [path.stem for path in startup.light(sorted(tmp_path.glob("*.py")))] == ["a"]


def test_processes_are_timed_separately(tmp_path):
    wall, cpu = startup.run("import time\ntime.sleep(0.5)\nprint(1)", outcome=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "1\n"
    assert cpu < 0.4 < 0.5 < wall
    wall, cpu = startup.run("import time\nwhile time.process_time() < 0.5: pass", outcome=tmp_path / "out")
    assert 0.5 <= cpu < wall + 0.1


@pytest.fixture
def finished(tmp_path):
    """Write the logs of a run of 100 s on 2 cores, with two jobs of 50 and 75 s of work."""
    begun = datetime(2026, 1, 2, 3, 4, 5).timestamp()
    jobs = []
    for number, (after, wall, cpu, start) in enumerate([(60, 50, 40, 10), (99, 75, 60, 15)]):
        log = tmp_path / f"{number}.log"
        log.write_text(
            "2026-01-02 03:04:30,000 INFO 7 spots\n2026-01-02 03:04:30,000 INFO "
            f"done in {wall}.000 s, {cpu}.000 s of CPU time, after {start}.000 s of CPU time to start, 249 MB at most\n"
        )
        os.utime(log, (begun + after, begun + after))
        jobs.append(log)
    snakemake = tmp_path / "2026-01-02T030405.000000.snakemake.log"
    snakemake.write_text("Provided cores: 2\nFinished jobid: 0 (Rule: all)\nElapsed time: 0:01:40.000000\n")
    other = tmp_path / "2026-01-02T020000.000000.snakemake.log"
    other.write_text("Provided cores: 2\nElapsed time: 0:10:00.000000\n")
    return jobs, [other, snakemake]


def test_the_overhead_of_the_demo_is_the_time_outside_the_jobs(finished):
    row = demo.row(*finished)
    assert row.ratio.value == pytest.approx((2 * 100 - 125) / 125)
    assert row.ratio.cpu == pytest.approx((10 + 15) / (40 + 60))
    assert "2 jobs: 125 s of work in 100 s on 2 cores" in row.note


@pytest.mark.parametrize(
    "fault", ["no job", "a job of another run", "an unfinished job", "jobs without times", "an unfinished run"]
)
def test_the_demo_is_measured_only_if_one_run_made_all_of_it(finished, fault):
    jobs, snakemake = finished
    if fault == "no job":
        jobs = []
    elif fault == "a job of another run":
        os.utime(jobs[0], (0, 0))
    elif fault in ("an unfinished job", "jobs without times"):
        within = jobs[0].stat().st_mtime
        for log in jobs if fault == "jobs without times" else jobs[1:]:
            log.write_text("INFO 7 spots\n")
            os.utime(log, (within, within))
    else:
        snakemake[1].write_text("Provided cores: 2\n")
    cells = demo.row(jobs, snakemake).cells()
    assert cells[1:6] == ["", "", "", "≤ 0.4", "not measured"]
    assert "make demo" in cells[-1]


def test_the_log_of_a_job_ends_with_the_line_that_the_benchmark_reads(tmp_path, monkeypatch):
    code = "import time\nfrom spotwise.runtime.job import job\nwith job('job.log'): time.sleep(0.3)"
    monkeypatch.chdir(tmp_path)
    startup.run(code, outcome=tmp_path / "out")
    done = demo.work([tmp_path / "job.log"])
    assert done.jobs == 1
    assert 0.3 <= done.wall < 2
    assert done.cpu < 0.2
    assert 0 < done.start < 10


def test_preparation_of_a_repeat_is_not_timed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def spend(seconds):
        now[0] += seconds

    times = in_turns({"a": lambda: spend(1), "b": lambda: spend(2)}, 2, before=lambda: spend(30))
    assert {name: each.wall for name, each in times.items()} == {"a": (1, 1), "b": (2, 2)}
    assert now == [6 * 30 + 3 + 6]


def test_repeats_are_taken_in_turns_after_a_first_round():
    ran = []
    times = in_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, 2)
    assert ran == ["a", "b"] * 3
    assert len(times["a"].wall) == len(times["b"].cpu) == 2
    in_turns({"c": lambda: ran.append("c")}, 2, first_round=False)
    assert ran[6:] == ["c", "c"]


def test_ratios_compare_consecutive_runs():
    ratio = Ratio.of(Times((2, 9, 4), (2, 2, 2)), Times((1, 3, 4), (1, 4, 4)))
    assert (ratio.value, ratio.low, ratio.high, ratio.cpu) == (2, 1, 3, 0.5)
    assert total(Times((1, 2), (3, 4)), Times((10, 20), (30, 40))) == Times((11, 22), (33, 44))


def allocate(mib):
    return lambda: np.ones(int(mib) * 2**20, np.uint8)


def test_peak_memory_is_that_of_the_function():
    before, peak = peak_memory("test_benchmarks", "allocate", 200)
    assert peak - before == pytest.approx(200 * 2**20, rel=0.05)


def test_the_table_says_whether_and_by_how_much_targets_are_missed():
    machine = Machine(cores=2, flops=1e9, bandwidth=1e9, load=3.0)
    rows = [
        Row("work", "time", Ratio(3.0, 2.0, 4.0, 2.5), AtMost(1.5), Limit("1 GB", 0.5, 1.0), "why"),
        Row("work", "gain", Ratio(3.0, 3.0, 3.0), AtLeast(2)),
    ]
    text = markdown(machine, rows, 60)
    assert "| work | time | 3 | 2-4 | 2.5 | ≤ 1.5 | **missed**, 2.00x off | 1 GB: 0.5 s; took 1 s, 2.0x | why |" in text
    assert "|  | gain | 3 |  |  | ≥ 2 | met |  |  |" in text
    assert "Other processes ran" in text
    assert machine.seconds(flops=2e9, n_bytes=1e9) == 3
