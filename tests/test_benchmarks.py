"""The references that `make bench` measures against compute what spotwise computes."""

import h5py
import numpy as np
import pytest

from benchmarks import correlation, expression, large_bank, patches, retrieval
from benchmarks.machine import Machine
from benchmarks.table import AtLeast, AtMost, Limit, Row, markdown
from benchmarks.timing import Ratio, Times, in_turns, peak_memory, total
from spotwise.metrics import pearson_per_gene
from spotwise.retrieval import approximately_nearest, average, nearest
from spotwise.slides import extract_patches

SMALL = retrieval.Size(queries=60, bank=3_000, dimensions=32, genes=20)


@pytest.mark.parametrize("k", [5, 200])
def test_retrieval_equals_the_published_way(k):
    given = retrieval.inputs(SMALL)
    expected = retrieval.published(*given, k)
    for threads in (1, 2):
        np.testing.assert_allclose(retrieval.product(*given, k, threads), expected, rtol=1e-4, atol=1e-6)


def test_the_gather_alone_is_k_times_the_mean():
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


@pytest.mark.long  # the index is compiled on first use
def test_the_approximate_index_finds_most_of_the_nearest_and_only_rows_of_the_bank():
    queries, bank, _ = retrieval.inputs(SMALL)
    found, exact = approximately_nearest(bank)(queries, 10), nearest(queries, bank, 10)
    assert found.shape == exact.shape
    assert found.dtype == exact.dtype
    assert (np.diff(found, axis=1) > 0).all()
    assert found.min() >= 0
    assert found.max() < SMALL.bank
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)]) > 0.8


def test_pcc_equals_scipy_gene_by_gene():
    given = correlation.inputs(200, 300)
    for threads in (1, 2):
        np.testing.assert_allclose(
            pearson_per_gene(*given, threads)[0], correlation.gene_by_gene(*given), rtol=0, atol=1e-6
        )


def test_lognorm_and_panel_equal_those_of_scanpys_calls_where_nothing_is_to_be_cleaned():
    raw = expression.slide(150, 400, faultless=True)
    adata = expression.scanpy_alone(raw, 50)
    lognorm, panel = expression.product(raw, 50)
    assert list(lognorm.obs_names) == list(adata.obs_names)
    np.testing.assert_allclose(lognorm.X.toarray(), adata.X.toarray(), rtol=1e-5)
    assert list(panel["gene"]) == sorted(adata.var_names[adata.var["highly_variable"]])


def test_the_slide_of_the_benchmark_has_what_cleaning_is_for():
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


def test_repeats_are_taken_in_turns_after_a_first_round():
    ran = []
    times = in_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, 2)
    assert ran == ["a", "b"] * 3
    assert len(times["a"].wall) == len(times["b"].cpu) == 2


def test_ratios_compare_neighbouring_runs():
    ratio = Ratio.of(Times((2, 9, 4), (2, 2, 2)), Times((1, 3, 4), (1, 4, 4)))
    assert (ratio.value, ratio.low, ratio.high, ratio.cpu) == (2, 1, 3, 0.5)
    assert total(Times((1, 2), (3, 4)), Times((10, 20), (30, 40))) == Times((11, 22), (33, 44))


def allocate(mib):
    return lambda: np.ones(int(mib) * 2**20, np.uint8)


def test_peak_memory_counts_what_the_function_holds():
    before, peak = peak_memory("test_benchmarks", "allocate", 200)
    assert peak - before == pytest.approx(200 * 2**20, rel=0.05)


def test_the_table_says_whether_targets_are_met_and_by_how_much_not():
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
