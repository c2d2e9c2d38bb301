"""Targets of the HEST benchmark: the logarithm of the raw counts of a task's genes, for every spot with a patch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from spotwise.constants import BARCODES, SPATIAL
from spotwise.data.bench_layout import BenchFold, BenchTask
from spotwise.data.count_values import checked_counts
from spotwise.data.counts_reader import read_counts
from spotwise.data.patch_files import match_patches, read_patches_index
from spotwise.errors import InputError
from spotwise.runtime import hdf5


@dataclass(frozen=True)
class BenchSlide:
    """Spots of a slide that have a patch, in the order of the patches.

    Attributes
    ----------
    barcode
        (N,) barcodes.
    targets
        (N, G) logarithm of 1 + counts, of the task's genes in their order, float64.
    spatial
        (N, 2) spot centres in pixels of the slide's level 0.
    n_spots
        Spots in the file of counts, with or without a patch.
    """

    barcode: np.ndarray
    targets: np.ndarray
    spatial: np.ndarray
    n_spots: int


@dataclass(frozen=True)
class BenchTargets:
    """Genes, folds and slides of a task."""

    genes: tuple[str, ...]
    folds: tuple[BenchFold, ...]
    slides: Mapping[str, BenchSlide]

    @property
    def facts(self) -> dict[str, object]:
        """Numbers of slides and spots, and the slides of each fold."""
        with_patch = {sample: len(slide.barcode) for sample, slide in self.slides.items()}
        return {
            "n_genes": len(self.genes),
            "n_slides": len(self.slides),
            "n_spots": sum(with_patch.values()),
            "n_spots_without_patch": sum(one.n_spots for one in self.slides.values()) - sum(with_patch.values()),
            "slides": {
                sample: {"n_spots": n, "n_spots_without_patch": self.slides[sample].n_spots - n}
                for sample, n in with_patch.items()
            },
            "folds": [vars(fold) for fold in self.folds],
        }


def assemble_targets(task: BenchTask) -> tuple[BenchTargets, list[str]]:
    """Read counts and barcodes of every slide, and warnings about them.

    Counts are not normalised to the spots' totals. Every patch counts; spots without a patch are left out.

    Raises
    ------
    InputError
        A file is malformed, does not hold raw counts, lacks a gene, or a patch belongs to no spot.
    """
    slides, warnings = {}, []
    for sample, path in task.counts.items():
        slides[sample], found = _read_slide(path, task.patches[sample], task.genes)
        warnings += [f"{sample}: {warning}" for warning in found]
    return BenchTargets(task.genes, task.folds, slides), warnings


def _read_slide(path: Path, patches: Path, genes: tuple[str, ...]) -> tuple[BenchSlide, list[str]]:
    barcodes, _, _ = read_patches_index(patches)
    spots = read_counts(path)
    if not spots.obs_names.is_unique:
        raise InputError(path, "obs index", f"{spots.obs_names[spots.obs_names.duplicated()][0]!r} twice", "each once")
    counts, warnings = checked_counts(spots, path)
    features = list(spots.var_names)
    for gene in genes:
        if features.count(gene) != 1:
            found = f"{gene!r} {features.count(gene)} times among {len(features)} features"
            raise InputError(path, "var index", found if gene in features else f"no {gene!r}", "each listed gene once")
    columns = [features.index(gene) for gene in genes]
    row_of_patch = match_patches(barcodes, spots.obs_names, patches)
    rows = np.flatnonzero(row_of_patch >= 0)
    rows = rows[np.argsort(row_of_patch[rows])]  # as the patches stand
    spatial = np.asarray(spots.obsm[SPATIAL], dtype=np.float64)[rows]
    targets = np.log1p(counts[rows][:, columns].toarray().astype(np.float64))
    return BenchSlide(barcodes, targets, spatial, spots.n_obs), warnings


def write_targets(path: str | Path, targets: BenchTargets) -> None:
    """Write the targets of a task as HDF5, atomically: a group per slide, and genes and folds as attributes."""
    with hdf5.create(path) as file:
        file.attrs["genes"] = json.dumps(targets.genes)
        file.attrs["folds"] = json.dumps([vars(fold) for fold in targets.folds])
        for sample, slide in targets.slides.items():
            group = file.create_group(sample, track_order=True)
            group.create_dataset(BARCODES, data=slide.barcode.astype(object), dtype=h5py.string_dtype())
            group.create_dataset("targets", data=slide.targets, compression="gzip")
            group.create_dataset(SPATIAL, data=slide.spatial)
            group.attrs["n_spots"] = slide.n_spots


def read_targets(path: str | Path) -> BenchTargets:
    """Read what `write_targets` has written."""
    with h5py.File(path) as file:
        folds = [BenchFold(tuple(one["train"]), tuple(one["test"])) for one in json.loads(file.attrs["folds"])]
        slides = {
            sample: BenchSlide(
                group[BARCODES].asstr()[:], group["targets"][:], group[SPATIAL][:], int(group.attrs["n_spots"])
            )
            for sample, group in file.items()
        }
        return BenchTargets(tuple(json.loads(file.attrs["genes"])), tuple(folds), slides)
