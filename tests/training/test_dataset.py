"""Claims about patches in memory: the right ones at the right rows, turned fairly, normalised by the formula."""

import errno
import logging
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from spotwise.constants import IMAGES, TEST
from spotwise.errors import InputError, SetupError
from spotwise.models.augmentation import AUGMENTATIONS
from spotwise.models.batch import Context
from spotwise.models.images import augment, normalise, turn
from spotwise.runtime.memory import Free
from spotwise.training import dataset, loop
from spotwise.training.dataset import Spots, choose_place
from spotwise.training.loop import _hash_of

CPU = torch.device("cpu")


def images(n, side=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, size=(n, side, side, 3), dtype=np.uint8))


def symmetries(image):
    """The eight symmetries of the square, by numpy."""
    return [np.rot90(flipped, turns) for flipped in (image, image[:, ::-1]) for turns in range(4)]


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_the_eight_codes_are_the_eight_symmetries_of_the_square():
    image = images(1)
    turned = {turn(image, code)[0].numpy().tobytes() for code in range(8)}
    assert turned == {np.ascontiguousarray(one).tobytes() for one in symmetries(image[0].numpy())}
    assert len(turned) == 8


def which_symmetry(before, after):
    """For each image, which of its eight symmetries it became."""
    found = []
    for old, new in zip(before.numpy(), after.numpy(), strict=True):
        same = [number for number, one in enumerate(symmetries(old)) if np.array_equal(one, new)]
        assert len(same) == 1, "no symmetry of its own image"
        found.append(same[0])
    return np.array(found)


def test_every_image_is_turned_within_itself_and_every_symmetry_is_as_likely():
    before = images(2000, side=4)
    after = augment(before, torch.Generator().manual_seed(0))
    counts = np.bincount(which_symmetry(before, after), minlength=8)
    assert chisquare(counts).pvalue > 0.01


def test_images_are_turned_independently_of_each_other():
    before = images(2000, side=4)
    found = which_symmetry(before, augment(before, torch.Generator().manual_seed(1)))
    pairs = np.bincount(8 * found[:-1:2] + found[1::2], minlength=64)
    assert chisquare(pairs).pvalue > 0.01


def test_augmentation_follows_its_seed():
    first, again, other = (augment(images(50), torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augmentation_leaves_its_input_alone():
    before = images(50)
    augment(before, torch.Generator().manual_seed(0))
    assert torch.equal(before, images(50))


# --- normalisation ----------------------------------------------------------------------------------------------------


def test_normalisation_is_imagenets():
    patches = images(3)
    expected = (patches.numpy() / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    normalised = normalise(patches)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert torch.equal(patches, images(3))


def test_normalisation_is_by_what_it_is_told():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (images(3).numpy() / 255.0 - mean) / std
    np.testing.assert_allclose(normalise(images(3), mean, std).numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


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


def test_only_the_files_of_the_asked_slides_are_read(fold, patch_files):
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
        assert _hash_of(read) == _hash_of(Spots(fold, fold.bank, patch_files, CPU, context=context))
    for batch in batches.values():
        assert torch.equal(batch.images, batches["host"].images)
        assert torch.equal(batch.neighbours.images, batches["host"].neighbours.images)
        assert torch.equal(batch.expression, batches["host"].expression)
    assert not list(tmp_path.glob("tmp*"))  # the file has no name that a killed process could leave behind


def test_all_patches_decide_the_hash_however_many_are_hashed_at_once(fold, patch_files, monkeypatch):
    read = Spots(fold, fold.bank, patch_files, CPU)
    whole = _hash_of(read)
    monkeypatch.setattr(loop, "HASHED_AT_ONCE", 7)
    assert _hash_of(read) == whole
    read.images[-1, -1, -1, -1] ^= 1
    assert _hash_of(read) != whole


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


def test_a_full_disk_under_a_map_is_one_line(fold, patch_files, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SetupError, match=rf"{tmp_path}: No space left on device: .*training.memory: host"):
        Spots(fold, fold.bank, patch_files, CPU, "map", scratch=tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory", ["auto", "device", "host", "map"])
def test_batches_are_the_same_wherever_patches_live(fold, patch_files, memory):
    index = torch.arange(10)
    device = torch.device("cuda")
    here = Spots(fold, fold.bank, patch_files, CPU).batch(index, torch.Generator().manual_seed(0))
    there = Spots(fold, fold.bank, patch_files, device, memory).batch(index, torch.Generator().manual_seed(0))
    assert there.images.device.type == there.expression.device.type == "cuda"
    torch.testing.assert_close(there.images.cpu(), here.images)
    assert torch.equal(there.expression.cpu(), here.expression)
