"""Folds: the spots, panel and roles that training, retrieval and scoring read from ``fold.h5``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from spotwise.constants import (
    FINAL,
    PAPER,
    PATIENT,
    SPATIAL,
    SPECIES,
    TEST,
    TOTAL_COUNTS,
    TRAIN,
    VAL,
)
from spotwise.data.patch_files import join_patches
from spotwise.data.spot_array import array_positions
from spotwise.errors import InputError
from spotwise.runtime import hdf5

if TYPE_CHECKING:
    from anndata import AnnData

    from spotwise.data.sample_sheet import FoldPlan


@dataclass(frozen=True)
class Fold:
    """One fold of N spots and G genes."""

    genes: np.ndarray  # (G,) symbols of the panel, sorted
    is_hvg: np.ndarray  # (G,) bool, chosen as highly variable, so that it may enter the lists of HEG and HVG
    is_marker: np.ndarray  # (G,) bool, in the panel in any case
    expression: np.ndarray  # (N, G) float32, log-normalised; NaN if a test slide does not measure a gene of the panel
    sample: np.ndarray  # (N,) slide
    patient: np.ndarray  # (N,)
    barcode: np.ndarray  # (N,)
    role: np.ndarray  # (N,) `train`, `val` or `test`
    patch: np.ndarray  # (N,) int64 row of the spot's patch in its slide's patches.h5
    spatial: np.ndarray  # (N, 2) spot centres (x, y), level-0 pixels
    array: np.ndarray  # (N, 2) int64 row and column of the spot on its slide's array
    total_counts: np.ndarray  # (N,) float32 counts of the spot over all genes
    cohort: str
    protocol: str
    fold: int

    def rows(self, *roles: str, sample: str | None = None) -> np.ndarray:
        """Find the ascending rows of spots with one of ``roles``."""
        chosen = np.isin(self.role, roles)
        if sample is not None:
            chosen &= self.sample == sample
        return np.flatnonzero(chosen)

    @property
    def bank(self) -> np.ndarray:
        """Find the rows that may be retrieved, with those for validation as released."""
        return self.rows(TRAIN, VAL)

    def owner(self) -> np.ndarray:
        """Return the group (N,) of each spot for cross-validation within training.

        It is the patient under the patient protocol or of a whole cohort if there are several, otherwise the slide.
        """
        several = len(set(self.patient[self.bank])) > 1
        return self.patient if self.protocol in (PATIENT, FINAL) and several else self.sample

    def reference(self, sample: str) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean and variance (G,) float64 that choose the evaluation genes.

        Under the paper protocol this is the test slide itself, as in the released code. Under the patient protocol it
        is the training slides with equal weights, and the variance within slides, so that batch effects do not count.
        """
        slides = [sample] if self.protocol == PAPER else sorted(set(self.sample[self.bank]))
        roles = (TEST,) if self.protocol == PAPER else (TRAIN, VAL)
        blocks = [self.expression[self.rows(*roles, sample=slide)].astype(np.float64) for slide in slides]
        return np.mean([b.mean(axis=0) for b in blocks], axis=0), np.mean([b.var(axis=0) for b in blocks], axis=0)


@dataclass(frozen=True)
class SlideSpots:
    """The N spots with a patch of one slide, with F genes.

    ``expression`` is (N, F) log-normalised, dense or CSR; ``genes`` (F,); the rest as in :class:`Fold`.
    """

    genes: np.ndarray
    expression: object
    barcode: np.ndarray
    patch: np.ndarray
    spatial: np.ndarray
    array: np.ndarray
    total_counts: np.ndarray


def spots_with_patches(lognorm: AnnData, patches: str | Path, genes: Sequence[str] | None = None) -> SlideSpots:
    """Join the spots of a slide to their patches by barcode.

    Parameters
    ----------
    lognorm, patches
        Log-normalised slide with the barcodes that cleaning dropped, and its ``patches.h5``. Spots without a patch and
        patches of dropped spots are left out.
    genes
        Genes to keep if the slide measures them; all by default.

    Raises
    ------
    InputError
        As :func:`spotwise.data.patch_files.join_patches`.
    """
    row = join_patches(patches, lognorm).rows
    kept = np.flatnonzero(row >= 0)
    columns = np.flatnonzero(lognorm.var_names.isin(genes if genes is not None else lognorm.var_names))
    return SlideSpots(
        genes=lognorm.var_names.to_numpy(dtype=object)[columns],
        expression=sparse.csr_matrix(lognorm.X)[kept][:, columns],
        barcode=lognorm.obs_names.to_numpy(dtype=object)[kept],
        patch=row[kept],
        spatial=lognorm.obsm[SPATIAL][kept],
        array=array_positions(lognorm)[kept],
        total_counts=lognorm.obs[TOTAL_COUNTS].to_numpy()[kept],
    )


def check_one_species(counts: Mapping[str, str | Path]) -> None:
    """Raise `InputError` if slides (sample -> ``counts.h5ad``) differ in a known species."""
    known: dict[str, str] = {}
    for sample, path in counts.items():
        with h5py.File(path) as file:
            species = file["uns"][SPECIES].asstr()[()]
        if species:
            known.setdefault(species, sample)
    if len(known) > 1:
        (usual, of), (species, sample), *_ = known.items()
        raise InputError(f"metadata of {sample}", "species", repr(species), f"{usual!r}, as of {of}")


def assemble_fold(
    plan: FoldPlan,
    cohort: str,
    protocol: str,
    slides: Mapping[str, SlideSpots],
    patient_of: Mapping[str, str],
    panel: pd.DataFrame,
    validation_fraction: float,
) -> Fold:
    """Join the slides of a fold and assign a role to every spot.

    Parameters
    ----------
    plan
        The training, validation and test slides; there may be no test slide.
    slides, patient_of
        All slides of ``plan`` and their patients, by sample id.
    panel
        ``gene``, ``n_slides_hvg`` and ``is_marker``, as :func:`spotwise.data.genes.select_genes` returns it.
    validation_fraction
        Share of spots held out unless validation is a whole slide, the same spots for every seed.

    Raises
    ------
    InputError
        A training slide lacks a gene of the panel, or there is no spot to train or to validate on.
    """
    genes = panel["gene"].to_numpy(dtype=object)
    parts = []
    for sample in (*plan.train, *plan.test):
        slide = slides[sample]
        role = np.full(len(slide.barcode), TEST, dtype=object)
        if sample in plan.train:
            role[:] = TRAIN
            role[_validation_spots(plan, sample, slide, validation_fraction)] = VAL
        parts.append(
            {
                "expression": _on_panel(slide, genes, sample, may_lack=sample in plan.test),
                "sample": np.full(len(role), sample, dtype=object),
                "patient": np.full(len(role), patient_of[sample], dtype=object),
                "role": role,
                "total_counts": np.asarray(slide.total_counts, dtype=np.float32),
                **{name: getattr(slide, name) for name in ("barcode", "patch", "spatial", "array")},
            }
        )
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for role in (TRAIN, VAL, TEST) if plan.test else (TRAIN, VAL):
        if not (joined["role"] == role).any():
            raise InputError(f"{cohort}/{protocol}/fold{plan.fold}", "spots", f"no {role} spot", "at least one")
    return Fold(
        genes=genes,
        is_hvg=panel["n_slides_hvg"].to_numpy() > 0,
        is_marker=panel["is_marker"].to_numpy(bool),
        cohort=cohort,
        protocol=protocol,
        fold=plan.fold,
        **joined,
    )


def _on_panel(slide: SlideSpots, genes: Sequence[str], sample: str, may_lack: bool) -> np.ndarray:
    """Select the panel's expression (N, G) float32, NaN for genes not measured."""
    column = pd.Index(slide.genes).get_indexer(genes)
    measured = column >= 0
    if not (measured.all() or may_lack):
        lacking = np.asarray(genes)[~measured][0]
        raise InputError(sample, "genes", f"{lacking} missing", "every gene of the panel in every training slide")
    expression = np.full((len(slide.barcode), len(genes)), np.nan, dtype=np.float32)
    values = slide.expression[:, column[measured]]
    expression[:, measured] = values.toarray() if sparse.issparse(values) else values
    return expression


def _validation_spots(plan: FoldPlan, sample: str, slide: SlideSpots, fraction: float) -> np.ndarray:
    """Choose the validation spots of a training slide, the same for every seed."""
    n = len(slide.barcode)
    if plan.validation == "spots":
        entropy = [0, plan.fold, plan.train.index(sample)]
        return np.random.default_rng(entropy).permutation(n)[: round(fraction * n)]
    if sample != plan.validation_slide:
        return np.empty(0, dtype=np.int64)
    if plan.validation == "slide":
        return np.arange(n)
    # A block at one end of the longer side of the tissue, so that few of its spots have a neighbour in training
    along = slide.spatial[:, np.ptp(slide.spatial, axis=0).argmax()]
    return np.argsort(-along, kind="stable")[: round(fraction * n)]


def write_fold(path: str | Path, fold: Fold) -> None:
    """Write ``fold.h5`` with the hash of its contents as attribute ``sha256``."""
    with hdf5.create(path) as file:
        for field in fields(Fold):
            value = getattr(fold, field.name)
            if isinstance(value, np.ndarray):
                dtype = h5py.string_dtype() if value.dtype == object else None
                file.create_dataset(field.name, data=value, dtype=dtype, compression="lzf" if value.ndim > 1 else None)
            else:
                file.attrs[field.name] = value
        file.attrs["sha256"] = content_hash(fold)


def read_fold(path: str | Path) -> Fold:
    """Read ``fold.h5``."""
    with h5py.File(path) as file:
        arrays = {
            name: (data.asstr() if h5py.check_string_dtype(data.dtype) else data)[:] for name, data in file.items()
        }
        return Fold(
            **arrays,
            cohort=file.attrs["cohort"],
            protocol=file.attrs["protocol"],
            fold=int(file.attrs["fold"]),
        )


def content_hash(fold: Fold) -> str:
    """Compute the SHA-256 over every array and attribute of a fold."""
    digest = hashlib.sha256()
    for field in fields(Fold):
        value = getattr(fold, field.name)
        digest.update(field.name.encode())
        if isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(str((value.dtype, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update("\0".join(map(str, np.atleast_1d(value))).encode())
    return digest.hexdigest()
