"""Patches and expression of a fold's spots, in batches on the training device.

Patches are read once and stay as uint8 on the device, in the machine's memory, or in a mapped file. Augmentation and
normalisation run on the device, a batch at a time, so that no data loader is needed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch

from spotwise.constants import IMAGES, TRAIN, VAL
from spotwise.data.features import features_of
from spotwise.data.folds import Fold
from spotwise.errors import InputError
from spotwise.models.augmentation import AUGMENTATIONS
from spotwise.models.batch import Batch, Context, Exemplars, Neighbours
from spotwise.models.images import augment, normalise, resize
from spotwise.runtime.memory import Free, alone, free_host, mapped
from spotwise.training import neighbourhoods

logger = logging.getLogger(__name__)

IMAGES_ONLY = Context()
READ_AT_ONCE = 256  # patches of 150 kB, about 40 MB


class Spots:
    """n spots of one fold.

    Parameters
    ----------
    fold, rows
        The fold, and (n,) rows of it.
    patches, embeddings
        ``patches.h5`` by sample, and embedded patches for exemplars.
    device
        Device of the batches.
    memory
        ``device``, ``host`` (the machine's memory) or ``map`` (a mapped file, which takes no memory that others need);
        ``auto`` is the first of them that patches fill less than half of. Batches do not depend on it.
    context
        What the method requests beside images and expression.
    observed
        ``False`` for spots to predict, whose expression is not read.
    exemplar_rows
        (M,) rows of ``fold`` of the possible exemplars, all of them training spots.
    scratch
        Folder of the mapped file, which vanishes with the process; by default the system's temporary folder.
    """

    def __init__(
        self,
        fold: Fold,
        rows: np.ndarray,
        patches: Mapping[str, Path],
        device: torch.device,
        memory: str = "auto",
        context: Context = IMAGES_ONLY,
        observed: bool = True,
        exemplar_rows: np.ndarray | None = None,
        embeddings: Mapping[str, Path] | None = None,
        scratch: Path | None = None,
    ):
        self.device, self.context = device, context
        self.n = len(rows)
        self._neighbours: _Surroundings | None = None
        held = rows  # of the patches: the n spots, then their neighbours in other roles
        if context.neighbours and observed:
            self._neighbours = _Surroundings(fold, rows, context.neighbours, device)
            held = self._neighbours.held
        shape = (len(held), *_patch_shape(fold, held, patches, context.image_px))
        self.images = _allocate(shape, device, memory, scratch)  # (n + neighbours in other roles, H, W, 3) uint8
        _read_patches(self.images, fold, held, patches, context.image_px)
        self.expression = torch.from_numpy(fold.expression[rows]).to(device) if observed else None  # (n, G)
        self.position = torch.from_numpy(fold.array[rows])  # (n, 2)
        self.spatial, self.sample = fold.spatial[rows], fold.sample[rows]
        self._exemplars: _ExemplarBank | None = None
        if context.exemplars:
            self._exemplars = _ExemplarBank(fold, rows, exemplar_rows, embeddings, context.exemplars, device)

    def __len__(self) -> int:
        return self.n

    def batch(self, index: torch.Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return a batch on the device.

        ``index`` (B,) holds the positions of the spots. Images are augmented with ``generator``, on the CPU, if given.
        """
        images = self._at(index)
        if generator is not None and self.context.augment is None:
            images = augment(images, generator)
        images = normalise(images)
        if generator is not None and self.context.augment is not None:
            images = AUGMENTATIONS[self.context.augment](images, generator)
        return Batch(
            images,
            None if self.expression is None else self.expression[index.to(self.device)],
            self.position[index].to(self.device),
            None if self._neighbours is None else self._around(index),
            None if self._exemplars is None else self._exemplars.of(index),
            index.to(self.device),
        )

    def training_batches(self, size: int, generator: torch.Generator) -> list[torch.Tensor]:
        """Draw the batches of one epoch with a CPU ``generator``, as indices.

        Batches of ``size`` spots, or the method's windows. An incomplete last batch is left out (released code), as a
        contrastive loss depends on the batch size.
        """
        if self.context.window:
            seed = int(torch.randint(2**31, (1,), generator=generator))
            windows = neighbourhoods.random_windows(
                self.spatial, self.sample, self.context.window, np.random.default_rng(seed)
            )
            return [torch.from_numpy(rows) for rows in windows]
        size = min(size, len(self))
        return list(torch.randperm(len(self), generator=generator).split(size)[: len(self) // size])

    def fixed_batches(self, size: int) -> list[torch.Tensor]:
        """Return fixed batches that hold every spot once, as indices.

        Batches are the method's tiles, or random spots of one slide, in which a contrastive loss finds its hardest
        negatives. Each slide is divided into as few batches of at most ``size`` as possible, of equal sizes.
        """
        if self.context.window:
            return [torch.from_numpy(r) for r in neighbourhoods.tiles(self.spatial, self.sample, self.context.window)]
        generator, batches = torch.Generator().manual_seed(0), []
        for slide in dict.fromkeys(self.sample):
            rows = torch.from_numpy(np.flatnonzero(self.sample == slide))
            order = rows[torch.randperm(len(rows), generator=generator)]
            batches += order.tensor_split(math.ceil(len(rows) / size))
        return batches

    def contents(self) -> Iterator[torch.Tensor]:
        """Yield patches, and features where they are used, which decide a training together with the fold."""
        yield self.images
        if self._exemplars is not None:
            yield from (self._exemplars.queries, self._exemplars.keys)

    def _at(self, index: torch.Tensor) -> torch.Tensor:
        images = self.images.index_select(0, index.to(self.images.device))  # on a CPU faster than indexing
        if images.device.type != self.device.type:
            images = images.pin_memory()  # copied to the device asynchronously
        return images.to(self.device, non_blocking=True)

    def _around(self, index: torch.Tensor) -> Neighbours:
        near = self._neighbours.near[index]
        images = normalise(self._at(near.flatten()))
        return Neighbours(images.unflatten(0, near.shape), self._neighbours.expression_of(index))


class _Surroundings:
    """The nearest spots of each spot on its slide, whether they train or validate.

    ``held`` are the rows of a fold whose patches are needed: the n spots, then their neighbours in the other role.
    ``near`` (n, neighbours) are positions in them. Training does not see the expression of a validation spot. As a
    neighbour, it has that of the training spot nearest to it.
    """

    def __init__(self, fold: Fold, rows: np.ndarray, n: int, device: torch.device):
        roles = set(fold.role[rows])
        pool = fold.rows(TRAIN, VAL, *roles)
        pool = pool[np.isin(fold.sample[pool], fold.sample[rows])]
        spatial, sample = fold.spatial[pool], fold.sample[pool]
        of_rows = np.searchsorted(pool, rows)
        near = neighbourhoods.spatial_neighbours(spatial, sample, n)[of_rows]
        self.held = np.concatenate([rows, np.setdiff1d(pool[near], rows)])
        place = np.empty(len(fold.sample), dtype=np.int64)
        place[self.held] = np.arange(len(self.held))
        self.near = torch.from_numpy(place[pool[near]])
        known = np.isin(fold.role[pool], [TRAIN, *roles])
        measured = pool[neighbourhoods.nearest_known(spatial, sample, known)][near]  # rows of the fold
        values, inverse = np.unique(measured, return_inverse=True)
        self._expression = torch.from_numpy(fold.expression[values]).to(device)
        self._measured = torch.from_numpy(inverse.reshape(near.shape))

    def expression_of(self, index: torch.Tensor) -> torch.Tensor:
        """Return the expression (B, neighbours, G) around the spots ``index`` (B,)."""
        return self._expression[self._measured[index].to(self._expression.device)]


class _ExemplarBank:
    """Frozen features of spots and possible exemplars, and the exemplars of each spot."""

    def __init__(
        self,
        fold: Fold,
        rows: np.ndarray,
        bank: np.ndarray,
        embeddings: Mapping[str, Path],
        k: int,
        device: torch.device,
    ):
        queries, keys = features_of(fold, rows, embeddings), features_of(fold, bank, embeddings)
        place = {row: number for number, row in enumerate(bank)}
        same = np.array([place.get(row, -1) for row in rows])
        owner = fold.owner()
        self.nearest = torch.from_numpy(neighbourhoods.exemplars(queries, owner[rows], keys, owner[bank], k, same))
        self.queries, self.keys = torch.from_numpy(queries).to(device), torch.from_numpy(keys).to(device)
        self.expression = torch.from_numpy(fold.expression[bank]).to(device)

    def of(self, index: torch.Tensor) -> Exemplars:
        near = self.nearest[index].to(self.keys.device)
        return Exemplars(self.queries[index.to(self.keys.device)], self.keys[near], self.expression[near])


def _patch_shape(fold: Fold, rows: np.ndarray, patches: Mapping[str, Path], px: int | None) -> tuple[int, int, int]:
    """Return the shape (H, W, 3) of the patches of all slides, with the side ``px`` if given."""
    shape: tuple[int, int, int] | None = None
    for sample in dict.fromkeys(fold.sample[rows]):
        with h5py.File(patches[sample]) as file:
            stored = file[IMAGES].shape[1:]
        here = stored if px is None else (px, px, stored[2])
        if here != (shape or here):
            raise InputError(patches[sample], IMAGES, stored, f"{shape} as the other slides")
        shape = here
    return shape


def _read_patches(
    images: torch.Tensor, fold: Fold, rows: np.ndarray, patches: Mapping[str, Path], px: int | None
) -> None:
    """Fill ``images`` (n, H, W, 3) with the patches of ``rows``, resized to the side ``px`` if given.

    Files are read front to back in large blocks, one at a time.
    """
    for sample in dict.fromkeys(fold.sample[rows]):
        here = np.flatnonzero(fold.sample[rows] == sample)
        wanted = fold.patch[rows[here]]
        with h5py.File(patches[sample]) as file:
            stored = file[IMAGES]
            for start in range(0, len(stored), READ_AT_ONCE):
                inside = (wanted >= start) & (wanted < start + READ_AT_ONCE)
                if inside.any():
                    block = stored[start : start + READ_AT_ONCE][wanted[inside] - start]
                    block = torch.from_numpy(block if px is None else resize(block, px))
                    images[torch.from_numpy(here[inside]).to(images.device)] = block.to(images.device)


def _allocate(shape: tuple[int, ...], device: torch.device, memory: str, scratch: Path | None) -> torch.Tensor:
    """Allocate a uint8 tensor for patches, and log where and why."""
    size = math.prod(shape)
    with alone():  # or two jobs would both take the memory that both see free
        on_device = Free(torch.cuda.mem_get_info(device)[0], "the device's memory") if device.type == "cuda" else None
        on_host = free_host()
        place = choose_place(size, on_device, on_host) if memory == "auto" else memory
        free = ", ".join(f"{free.bytes / 1e9:.2f} GB of {free.of}" for free in (on_device, on_host) if free)
        logger.info("%d patches (%.2f GB), memory %s: %s; free: %s", shape[0], size / 1e9, memory, place, free)
        if place != "map":
            # Written at once, unlike `torch.zeros`, whose pages would still count as free
            return torch.empty(shape, dtype=torch.uint8, device=device if place == "device" else "cpu").zero_()
    return torch.from_numpy(mapped(shape, np.uint8, scratch, "patches", "free some, or set training.memory: host"))


def choose_place(size: int, device: Free | None, host: Free) -> str:
    """Choose ``device`` (a GPU), ``host`` or ``map``, the first with more than twice ``size`` bytes free."""
    if device is not None and size < device.bytes / 2:
        return "device"
    return "host" if size < host.bytes / 2 else "map"
