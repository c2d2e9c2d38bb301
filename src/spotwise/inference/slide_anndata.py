"""Predictions as AnnData that scanpy and squidpy draw over their slide without arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from PIL import Image

from spotwise.constants import PROVENANCE, SPATIAL
from spotwise.data import hest
from spotwise.data.spot_array import spot_pitch
from spotwise.errors import InputError
from spotwise.runtime.hdf5 import write_anndata

PICTURE_PX = 600  # longest edge of the picture in a prediction of the cross-validation
SPOT_UM = 55.0  # diameter of a spot on a slide without counts; Visium's
SPOT_SHARE = 0.5  # of the spots' pitch where their size is unknown, as in Spatial Transcriptomics
LIKENESS_COLUMNS = ("similarity", "unlike")
RELIABILITY_COLUMNS = (
    *("is_hvg", "is_marker"),
    *("pcc", "pcc_low", "pcc_high", "ceiling", "positive_share", "n_slides", "n_units", "reliable"),
)
VERDICTS = ("is_hvg", "is_marker", "reliable")


@dataclass(frozen=True)
class SlideView:
    """Picture and scale of a slide with spots.

    Attributes
    ----------
    thumbnail
        The whole slide at low resolution; ``None`` without one, which gives a white picture.
    size
        Width and height of level 0 in pixels; ``None`` if unknown.
    spot_diameter
        In pixels of level 0; ``None`` if unknown.
    um_per_px
        Micrometres per pixel of level 0; ``None`` if unknown.
    """

    thumbnail: Path | None = None
    size: tuple[int, int] | None = None
    spot_diameter: float | None = None
    um_per_px: float | None = None

    @classmethod
    def read(cls, thumbnail: str | Path, qc: str | Path, metadata: str | Path | None = None) -> SlideView:
        """Read the view of a sample from its thumbnail, ``qc.json`` and HEST metadata; ``None`` without a slide."""
        um_per_px = json.loads(Path(qc).read_text(encoding="utf-8"))["um_per_px"]
        if metadata is None:
            return cls(um_per_px=um_per_px)
        stated = hest.read_metadata(metadata)
        diameter = hest.spot_diameter_um(stated, metadata) / um_per_px
        return cls(Path(thumbnail), hest.slide_size(stated, metadata), diameter, um_per_px)

    @cached_property
    def picture(self) -> np.ndarray | None:
        """Picture (H, W, 3) of the slide, uint8, at most `PICTURE_PX` wide and high."""
        if self.thumbnail is None or self.size is None:
            return None
        return _read_picture(self.thumbnail, self.size, PICTURE_PX)

    def under(self, adata: anndata.AnnData, name: str) -> None:
        """Lay the picture under the spots of ``adata``, whose slide is called ``name``."""
        spatial = np.asarray(adata.obsm[SPATIAL])
        diameter = self.spot_diameter or SPOT_SHARE * spot_pitch(spatial)
        width, height = self.size or np.ceil(spatial.max(axis=0) + diameter)
        picture = self.picture if self.picture is not None else _white(width, height, PICTURE_PX)
        metadata = {"um_per_px": self.um_per_px} if self.um_per_px else {}
        lay_under(adata, name, {"hires": picture}, float(width), diameter, metadata)


def read_views(
    samples: Sequence[str], thumbnails: Sequence[str], qc: Sequence[str], metadata: Sequence[str]
) -> dict[str, SlideView]:
    """Read the views of samples from their files, in one order; ``metadata`` is empty in a run without slides."""
    stated = metadata or [None] * len(samples)
    files = zip(samples, thumbnails, qc, stated, strict=True)
    return {sample: SlideView.read(*of_sample) for sample, *of_sample in files}


def lay_under(
    adata: anndata.AnnData,
    name: str,
    pictures: Mapping[str, np.ndarray],
    width: float,
    spot_diameter: float,
    metadata: Mapping[str, object],
) -> None:
    """Put pictures of a slide into ``uns["spatial"]``, where scanpy and squidpy look for them.

    Parameters
    ----------
    adata
        Its ``obsm["spatial"]`` are spot centres in pixels of level 0.
    name
        Name of the slide.
    pictures
        Whole slide (H, W, 3) uint8, ``hires`` and perhaps ``lowres``.
    width, spot_diameter
        Width of level 0 and diameter of a spot, in pixels of level 0.
    metadata
        Plain values.
    """
    scales = {f"tissue_{key}_scalef": picture.shape[1] / width for key, picture in pictures.items()}
    adata.uns[SPATIAL] = {
        name: {
            "images": dict(pictures),
            "scalefactors": {**scales, "spot_diameter_fullres": float(spot_diameter)},
            "metadata": dict(metadata),
        }
    }


def write_slide_prediction(
    path: str | Path,
    predicted: np.ndarray,
    genes: Sequence[str],
    spots: anndata.AnnData,
    likeness: pd.DataFrame,
    reliability: pd.DataFrame,
    hires: str | Path,
    lowres: str | Path,
    facts: Mapping[str, object],
) -> None:
    """Write the prediction ``.h5ad`` of a slide without counts.

    Parameters
    ----------
    path
        File to write.
    predicted, genes
        (N, G) log-normalised expression of the spots, and the symbols of its genes.
    spots
        N x 0 with ``obs`` and ``obsm["spatial"]`` of ``spots.h5ad``, and ``uns["spot_pitch_um"]``.
    likeness
        A row per spot with its ``barcode``, `LIKENESS_COLUMNS` and perhaps others; in any order, for N spots or more.
    reliability
        A row per gene, by its column or index ``gene``, with `RELIABILITY_COLUMNS`; in any order. Genes without a row
        have NaN, and are not reliable.
    hires, lowres
        Pictures of the whole slide.
    facts
        ``slide`` (name), ``width`` (of level 0 in pixels) and ``um_per_px``; these and all others, such as ``units``,
        ``predictor`` and ``cohort``, are kept in ``uns["spotwise"]``, without those that are ``None``.

    Raises
    ------
    ValueError
        The shape of ``predicted`` is not spots x genes.
    InputError
        A spot has no likeness.
    """
    if predicted.shape != (len(spots), len(genes)):
        raise ValueError(f"{predicted.shape} predicted for {len(spots)} spots and {len(genes)} genes")
    alike = likeness.set_index("barcode")[list(LIKENESS_COLUMNS)]
    if missing := [spot for spot in spots.obs_names if spot not in alike.index]:
        raise InputError("likeness", "barcode", f"no spot {missing[0]}", f"the {len(spots)} spots of {facts['slide']}")
    rated = reliability.set_index("gene") if "gene" in reliability.columns else reliability
    var = rated.reindex(pd.Index(genes, name="gene"))[list(RELIABILITY_COLUMNS)]
    values = {name: var[name].eq(True) if name in VERDICTS else var[name].astype(float) for name in var}
    content = anndata.AnnData(
        X=predicted.astype(np.float32),
        obs=spots.obs.join(alike).astype({"similarity": float, "unlike": bool}),
        var=pd.DataFrame(values).fillna({"n_slides": 0, "n_units": 0}).astype({"n_slides": int, "n_units": int}),
        obsm={SPATIAL: np.asarray(spots.obsm[SPATIAL], dtype=np.float64)},
        uns={PROVENANCE: _plain(facts)},
    )
    pictures = {"hires": _pixels(hires), "lowres": _pixels(lowres)}
    um_per_px = float(facts["um_per_px"])
    diameter_um = min(SPOT_UM, float(spots.uns["spot_pitch_um"]))
    metadata = {"um_per_px": um_per_px, "spot_diameter_um": diameter_um}
    lay_under(content, str(facts["slide"]), pictures, float(facts["width"]), diameter_um / um_per_px, metadata)
    write_anndata(path, content, "gzip")


def _read_picture(path: Path, size: tuple[int, int], longest_edge: int) -> np.ndarray:
    """Read a picture of a slide in the proportions of its ``size``; a stand-in of another shape is stretched."""
    scale = min(1.0, longest_edge / max(size))
    shape = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(shape, Image.Resampling.LANCZOS))


def _white(width: float, height: float, longest_edge: int) -> np.ndarray:
    scale = min(1.0, longest_edge / max(width, height))
    return np.full((max(1, round(height * scale)), max(1, round(width * scale)), 3), 255, dtype=np.uint8)


def _pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _plain(value: object) -> object:
    """Convert a value to what HDF5 holds: mappings without ``None``, lists of text or of numbers, others as JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    is_list = isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value)
    if is_list and len({isinstance(item, str) for item in value}) == 1:
        return np.array(value)
    if is_list and not value:
        return np.array([], dtype=str)
    return value if isinstance(value, str | bool | int | float | np.generic) else json.dumps(value, default=str)
