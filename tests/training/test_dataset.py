"""Claims about patches in memory: the right ones at the right rows, from any kind of memory."""

import errno
import logging
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from spotwise.constants import IMAGES, TEST, TRAIN, VAL
from spotwise.data.centring import centre_slides
from spotwise.errors import InputError, SetupError
from spotwise.models.augmentation import AUGMENTATIONS
from spotwise.models.batch import Context
from spotwise.models.images import augment, normalise
from spotwise.runtime.memory import Free
from spotwise.training import checkpoints, dataset
from spotwise.training.checkpoints import hash_tensors
from spotwise.training.dataset import Spots, choose_place

CPU = torch.device("cpu")


# --- reading ----------------------------------------------------------------------------------------------------------


def brute_force(fold, rows, files):
    """One patch at a time."""
    found = []
    for row in rows:
        with h5py.File(files[fold.sample[row]]) as file:
            found.append(file[IMAGES][fold.patch[row]])
    return np.stack(found)


@pytest.mark.parametrize("at_once", [1, 5, 256])
def test_patches_stand_at_the_rows_of_their_spots(fold, patch_files, monkeypatch, at_once):
    monkeypatch.setattr(dataset, "READ_AT_ONCE", at_once)
    rows = np.random.default_rng(0).permutation(len(fold.barcode))  # all slides interleaved
    read = Spots(fold, rows, patch_files, CPU)
    assert len(read) == len(rows)
    np.testing.assert_array_equal(read.images.numpy(), brute_force(fold, rows, patch_files))
    np.testing.assert_array_equal(read.expression.numpy(), fold.expression[rows])


def test_slides_with_patches_of_different_sizes_are_refused(fold, patch_files):
    with h5py.File(patch_files["B"], "a") as file:
        del file[IMAGES]
        file[IMAGES] = np.zeros((40, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"B.h5: img: found \(16, 16, 3\), expected \(32, 32, 3\)"):
        Spots(fold, fold.bank, patch_files, CPU)


def test_only_the_files_of_the_requested_slides_are_read(fold, patch_files):
    rows = fold.rows(TEST, sample="C")
    read = Spots(fold, rows, {"C": patch_files["C"]}, CPU)
    np.testing.assert_array_equal(read.images.numpy(), brute_force(fold, rows, patch_files))


def test_a_batch_without_a_generator_is_not_turned(fold, patch_files):
    rows = fold.bank
    index = torch.tensor([4, 0, 40, 4])
    batch = Spots(fold, rows, patch_files, CPU).batch(index)
    expected = normalise(torch.from_numpy(brute_force(fold, rows[index.numpy()], patch_files)))
    assert torch.equal(batch.images, expected)
    np.testing.assert_array_equal(batch.expression.numpy(), fold.expression[rows[index.numpy()]])


def test_a_batch_with_a_generator_is_turned_and_keeps_its_expression(fold, patch_files):
    read = Spots(fold, fold.bank, patch_files, CPU)
    index = torch.arange(len(read)).flip(0)
    batch = read.batch(index, torch.Generator().manual_seed(7))
    expected = normalise(augment(read.images[index], torch.Generator().manual_seed(7)))
    assert torch.equal(batch.images, expected)
    assert not torch.equal(batch.images, read.batch(index).images)
    assert torch.equal(batch.expression, read.expression[index])
    assert torch.equal(batch.index, index)


def test_a_method_may_augment_normalised_images_in_its_own_way(fold, patch_files, monkeypatch):
    def darker(given, generator):
        return given - torch.rand(1, generator=generator)

    monkeypatch.setitem(AUGMENTATIONS, "darker", darker)
    read = Spots(fold, fold.bank, patch_files, CPU, context=Context(augment="darker"))
    index = torch.tensor([5, 2, 2])
    plain = read.batch(index).images
    assert torch.equal(plain, normalise(read.images[index]))
    shade = torch.rand(1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(read.batch(index, torch.Generator().manual_seed(3)).images, plain - shade)


@pytest.mark.parametrize("px", [None, 20])
def test_batches_are_the_same_bit_for_bit_from_memory_and_from_a_mapped_file(fold, patch_files, tmp_path, px):
    context = Context(image_px=px, neighbours=3)
    index = torch.tensor([5, 0, 40, 41, 7])
    batches = {}
    for memory in ("auto", "device", "host", "map"):
        read = Spots(fold, fold.bank, patch_files, CPU, memory, context, scratch=tmp_path)
        batches[memory] = read.batch(index, torch.Generator().manual_seed(0))
        assert hash_tensors(*read.contents()) == hash_tensors(
            *Spots(fold, fold.bank, patch_files, CPU, context=context).contents()
        )
    for batch in batches.values():
        assert torch.equal(batch.images, batches["host"].images)
        assert torch.equal(batch.neighbours.images, batches["host"].neighbours.images)
        assert torch.equal(batch.expression, batches["host"].expression)
    assert not list(tmp_path.glob("tmp*"))  # the file has no name that a killed process could leave behind


# --- neighbours -------------------------------------------------------------------------------------------------------


def true_neighbours(fold, row, n):
    """Sort the spots of the slide by distance, whatever their role, one at a time."""
    slide = np.flatnonzero(fold.sample == fold.sample[row])
    return slide[np.argsort([np.hypot(*(fold.spatial[other] - fold.spatial[row])) for other in slide])][:n]


@pytest.mark.parametrize("memory", ["host", "map"])
@pytest.mark.parametrize("role", [TRAIN, VAL])
def test_a_spot_has_its_true_neighbours_whether_they_train_or_validate(fold, patch_files, tmp_path, role, memory):
    rows = fold.rows(role)
    read = Spots(fold, rows, patch_files, CPU, memory, Context(neighbours=6), scratch=tmp_path)
    assert len(read) == len(rows)
    mixed = 0
    for index, row in enumerate(rows):
        near = true_neighbours(fold, row, 6)
        mixed += len(set(fold.role[near])) == 2
        found = read.batch(torch.tensor([index])).neighbours
        expected = normalise(torch.from_numpy(brute_force(fold, near, patch_files)))
        assert torch.equal(found.images[0], expected)
        known = fold.role[near] != VAL if role == TRAIN else np.ones(6, dtype=bool)
        np.testing.assert_array_equal(found.expression[0].numpy()[known], fold.expression[near[known]])
    assert mixed > 4


def test_a_validation_neighbour_has_the_expression_of_its_nearest_training_spot_in_training(fold, patch_files):
    rows = fold.rows(TRAIN)
    found = Spots(fold, rows, patch_files, CPU, context=Context(neighbours=6)).batch(torch.arange(len(rows))).neighbours
    replaced = 0
    for index, row in enumerate(rows):
        for place, near in enumerate(true_neighbours(fold, row, 6)):
            ranked = true_neighbours(fold, near, len(fold.sample))
            source = next(other for other in ranked if fold.role[other] == TRAIN)
            assert (source == near) == (fold.role[near] == TRAIN)
            np.testing.assert_array_equal(found.expression[index, place].numpy(), fold.expression[source])
            replaced += source != near
    assert replaced


def test_expression_of_validation_spots_takes_no_part_in_training(fold, patch_files):
    """Neither that of a fifth of a slide at random nor that of a block, at whose rim training spots have neighbours."""
    block = np.where(fold.role == TEST, TEST, np.where(fold.spatial[:, 0] > 7000, VAL, TRAIN)).astype(object)
    for role in (fold.role, block):
        split = replace(fold, role=role)
        other = split.expression.copy()
        other[split.role != TRAIN] = np.nan
        rows = split.rows(TRAIN)
        index = torch.arange(len(rows))
        one, two = (
            Spots(used, rows, patch_files, CPU, context=Context(neighbours=6)).batch(index)
            for used in (split, replace(split, expression=other))
        )
        assert torch.equal(one.neighbours.expression, two.neighbours.expression)
        assert torch.equal(one.neighbours.images, two.neighbours.images)
        assert torch.equal(one.expression, two.expression)


def test_a_whole_validation_slide_has_neighbours_of_its_own(fold, patch_files):
    role = np.select([fold.sample == "A", fold.sample == "B"], [TRAIN, VAL], TEST).astype(object)
    whole = replace(fold, role=role)
    for used, slide in ((TRAIN, "A"), (VAL, "B")):
        rows = whole.rows(used)
        read = Spots(whole, rows, {slide: patch_files[slide]}, CPU, context=Context(neighbours=6))
        assert len(read.images) == len(rows)


# --- batches of validation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "of_a", "of_b"), [(64, [30], [25]), (16, [15, 15], [13, 12]), (10, [10] * 3, [9, 8, 8])]
)
def test_a_fixed_batch_is_of_one_slide_and_every_spot_is_in_one(fold, patch_files, size, of_a, of_b):
    read = Spots(fold, fold.bank, patch_files, CPU)
    batches = read.fixed_batches(size)
    slides = [set(read.sample[index.numpy()]) for index in batches]
    assert all(len(slide) == 1 for slide in slides)
    for slide, sizes in (("A", of_a), ("B", of_b)):
        assert [len(index) for index, of in zip(batches, slides, strict=True) if of == {slide}] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(len(read)))
    assert all(torch.equal(one, two) for one, two in zip(batches, read.fixed_batches(size), strict=True))


def test_spots_of_a_fixed_batch_are_spread_over_their_slide(fold, patch_files):
    """As in the released code, whose validation spots stand in the order in which they were drawn."""
    first, *_ = Spots(fold, fold.bank, patch_files, CPU).fixed_batches(10)
    assert np.ptp(first.numpy()) > 15
    assert (np.diff(first.numpy()) < 0).any()


# --- hash and memory --------------------------------------------------------------------------------------------------


def test_all_patches_decide_the_hash_however_many_are_hashed_at_once(fold, patch_files, monkeypatch):
    read = Spots(fold, fold.bank, patch_files, CPU)
    whole = hash_tensors(*read.contents())
    monkeypatch.setattr(checkpoints, "HASHED_AT_ONCE", 7)
    assert hash_tensors(*read.contents()) == whole
    read.images[-1, -1, -1, -1] ^= 1
    assert hash_tensors(*read.contents()) != whole


def test_a_map_takes_disk_and_no_memory(fold, patch_files, tmp_path):
    mapped = Spots(fold, fold.bank, patch_files, CPU, "map", scratch=tmp_path).images
    lines = Path("/proc/self/maps").read_text().splitlines()
    address = mapped.data_ptr()
    here = next(
        line for line in lines if int(line.split("-")[0], 16) <= address < int(line.split("-")[1].split()[0], 16)
    )
    assert str(tmp_path) in here
    assert here.split()[1] == "rw-s"  # shared with the file: pages go back to it when memory is short


@pytest.mark.parametrize(
    ("size", "device", "host", "place"),
    [
        (4, 10, 100, "device"),
        (5, 10, 100, "host"),  # half of it is not less than half
        (49, None, 100, "host"),
        (4, None, 100, "host"),
        (50, 10, 100, "map"),
        (50, None, 100, "map"),
        (0, 0, 0, "map"),
    ],
)
def test_patches_go_to_the_first_memory_that_they_fill_less_than_half_of(size, device, host, place):
    assert choose_place(size, None if device is None else Free(device, "the device's"), Free(host, "host")) == place


def test_auto_goes_by_what_is_free_and_the_log_says_why(fold, patch_files, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dataset, "free_host", lambda: Free(300_000, "SLURM's allocation"))
    with caplog.at_level(logging.INFO):
        read = Spots(fold, fold.bank, patch_files, CPU, scratch=tmp_path)  # 55 x 32 x 32 x 3 = 168,960 bytes
    assert caplog.messages == ["55 patches (0.00 GB), memory auto: map; free: 0.00 GB of SLURM's allocation"]
    np.testing.assert_array_equal(read.images.numpy(), brute_force(fold, fold.bank, patch_files))


CONTENDER = """
import logging, re, sys, time
from pathlib import Path
import torch
from spotwise.runtime.memory import Free
from spotwise.training import dataset

MB = 2**20

def resident(process):
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", Path(f"/proc/{process}/status").read_text())[1])

def free_host():
    "Measure a machine that has 500 MB for the processes which it is given."
    free = 500 * MB - sum(resident(process) - before for process, before in others.items())
    time.sleep(0.5)
    return Free(free, "a small machine")

dataset.free_host = free_host
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
print(resident("self"), flush=True)
others = {int(process): int(before) for process, before in (part.split(":") for part in sys.stdin.readline().split())}
images = dataset._allocate((200, MB), torch.device("cpu"), sys.argv[1], Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("first", "places"), [("auto", ["host", "map"]), ("host", ["host", "map"])])
def test_two_jobs_do_not_both_take_the_memory_that_both_see_free(tmp_path, first, places):
    """200 MB are less than half of 500 MB, but not of the 300 MB that one job leaves."""
    environment = os.environ | {"PYTHONPATH": str(Path(dataset.__file__).parents[2]), "TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    jobs = [subprocess.Popen([sys.executable, "-c", CONTENDER, how, str(tmp_path)], **pipes) for how in (first, "auto")]
    try:
        known = " ".join(f"{job.pid}:{int(job.stdout.readline())}" for job in jobs)
        for job in jobs:
            job.stdin.write(known + "\n")
            job.stdin.flush()
            if first == "host" and job is jobs[0]:
                time.sleep(0.2)
        lines = [[*iter(job.stdout.readline, "ready\n")] for job in jobs]
    finally:
        for job in jobs:
            job.communicate()
    said = "".join(line for of_job in lines for line in of_job)
    assert sorted(re.findall(r"memory \w+: (\w+);", said)) == places
    assert said.count("waiting until another job has taken its memory\n") == 1


def test_a_full_disk_under_a_map_is_one_line(fold, patch_files, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SetupError, match=rf"{tmp_path}: No space left on device: .*training.memory: host"):
        Spots(fold, fold.bank, patch_files, CPU, "map", scratch=tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory", ["auto", "device", "host", "map"])
def test_batches_do_not_depend_on_the_memory_of_the_patches(fold, patch_files, memory):
    index = torch.arange(10)
    device = torch.device("cuda")
    here = Spots(fold, fold.bank, patch_files, CPU).batch(index, torch.Generator().manual_seed(0))
    there = Spots(fold, fold.bank, patch_files, device, memory).batch(index, torch.Generator().manual_seed(0))
    assert there.images.device.type == there.expression.device.type == "cuda"
    torch.testing.assert_close(there.images.cpu(), here.images)
    assert torch.equal(there.expression.cpu(), here.expression)


# --- expression of other spots ----------------------------------------------------------------------------------------


def test_neighbours_and_exemplars_have_the_centred_expression_of_their_fold(fold, patch_files, embedded):
    used = centre_slides(fold)
    rows, context = used.rows(TRAIN), Context(neighbours=4, exemplars=3)
    spots = Spots(used, rows, patch_files, CPU, context=context, exemplar_rows=rows, embeddings=embedded)
    batch = spots.batch(torch.arange(len(rows)))
    known = {row.tobytes() for row in used.expression[rows]}
    for seen in (batch.neighbours.expression, batch.exemplars.expression):
        assert {row.tobytes() for row in seen.flatten(0, 1).numpy()} <= known
    of_a_tested_slide = fold.rows(TEST, sample="C")
    spots = Spots(
        used, of_a_tested_slide, patch_files, CPU, context=context, observed=False, exemplar_rows=rows,
        embeddings=embedded,
    )  # fmt: skip
    seen = spots.batch(torch.arange(len(of_a_tested_slide))).exemplars.expression
    assert {row.tobytes() for row in seen.flatten(0, 1).numpy()} <= known
