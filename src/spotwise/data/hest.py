"""The HEST-1k layout: where a sample's files lie, and how they are read.

The dataset is described in Jaume et al., HEST-1k, NeurIPS 2024; :mod:`spotwise.data.hub` downloads it.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spotwise.constants import SPATIAL
from spotwise.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

SLIDE_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".mrxs", ".svslide", ".bif", ".vms", ".dcm", ".czi")
XENIUM_BIN_UM = 100.0  # side of HEST's pseudo-Visium bins


@dataclass(frozen=True)
class SampleFiles:
    """Where one sample's files lie below a folder (or a repository) in the HEST layout."""

    counts: Path
    patches: Path
    slide: Path
    metadata: Path


def sample_files(root: str | Path, sample: str) -> SampleFiles:
    """The files of ``sample`` below ``root``; with ``root=""`` their paths in the repository.

    HEST's slides are ``.tif``; a local folder may hold a slide in a vendor's format under the same name.
    """
    root = Path(root)
    slides = [root / "wsis" / f"{sample}{suffix}" for suffix in SLIDE_SUFFIXES]
    return SampleFiles(
        counts=root / "st" / f"{sample}.h5ad",
        patches=root / "patches" / f"{sample}.h5",
        slide=next((path for path in slides if path.is_file()), slides[0]),
        metadata=root / "metadata" / f"{sample}.json",
    )


def read_metadata(path: str | Path) -> dict:
    """Read ``metadata/{sample}.json``.

    Raises
    ------
    InputError
        Where the file is missing, is no JSON object, or belongs to another sample than its name says.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "metadata", "no such file", "the sample's metadata as JSON")
    try:
        # HEST writes its index with a byte order mark, and files made from it inherit one
        content = path.read_text(encoding="utf-8-sig")
        metadata = json.loads(content, object_pairs_hook=partial(_each_once, path))
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "no UTF-8", "JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise InputError(path, f"line {error.lineno}", error.msg, "JSON") from None
    except RecursionError:
        raise InputError(path, "top level", "brackets without end", "a JSON object with HEST's keys") from None
    if not isinstance(metadata, dict):
        raise InputError(path, "top level", type(metadata).__name__, "a JSON object with HEST's keys")
    if metadata.get("id") != path.stem:
        raise InputError(path, "id", repr(metadata.get("id")), f"{path.stem!r}, as the file is named")
    return metadata


def _each_once(path: Path, pairs: Sequence[tuple[str, object]]) -> dict:
    """An object of JSON, of which Python would keep the last of two values of one key."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(path, key, "the key twice", "each key once")
    return dict(pairs)


def read_counts(path: str | Path) -> AnnData:
    """Open ``st/{sample}.h5ad`` as it is; :func:`spotwise.data.counts.clean_counts` judges its contents.

    The counts themselves, ``X``, stay in the file (``backed``), as they may be larger than memory.

    Raises
    ------
    InputError
        Where the file is missing, truncated, no HDF5 or no AnnData, or holds no X or no ``obsm["spatial"]``.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(path, "counts", "no such file", "the sample's counts as .h5ad")
    try:
        with h5py.File(path, "r") as handle:
            missing = [name for name in ("X", "obs", "var", f"obsm/{SPATIAL}") if name not in handle]
    except OSError as error:
        found = "a truncated file" if "truncated" in str(error) else "no HDF5"
        raise InputError(path, "file", f"{found} ({path.stat().st_size} bytes)", "a complete .h5ad") from None
    if missing:
        raise InputError(path, missing[0], "nothing", "an .h5ad with X, obs, var and obsm/spatial")

    import anndata

    try:
        with warnings.catch_warnings():
            # names that are not unique are dealt with in clean_counts
            warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
            return anndata.read_h5ad(path)
    except MemoryError:
        raise
    except Exception as error:
        # a damaged container surfaces as whatever its reader trips over: OSError, KeyError, ValueError, ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(path, "file", f"contents that cannot be read ({reason})", "a complete .h5ad") from None


def require_local(root: str | Path, samples: Sequence[str], images: str) -> None:
    """Check that a folder in HEST's layout holds what a run of ``samples`` needs.

    Parameters
    ----------
    root
        The folder.
    samples
        Sample ids.
    images
        ``patches``, ``slides``, ``auto``: either, or ``none``: counts are enough, without metadata.

    Raises
    ------
    InputError
        Naming the first file that is missing.
    """
    for sample in samples:
        files = sample_files(root, sample)
        pictures = {"patches": [files.patches], "slides": [files.slide], "auto": [files.patches, files.slide]}
        for choices in [[files.counts]] + ([[files.metadata], pictures[images]] if images != "none" else []):
            if not any(path.is_file() for path in choices):
                names = " or ".join(path.relative_to(root).as_posix() for path in choices)
                raise InputError(root, f"files of {sample}", f"no {names}", "a folder in HEST's layout (data.root)")


def slide_size(metadata: Mapping[str, object], source: object) -> tuple[int, int]:
    """Width and height of a slide at level 0, from its metadata.

    Raises
    ------
    InputError
        Where either is missing or no positive number.
    """
    size = []
    for key in ("fullres_px_width", "fullres_px_height"):
        value = metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
            raise InputError(source, key, repr(value), "the slide's size in pixels")
        size.append(int(value))
    return size[0], size[1]


def species_of(metadata: Mapping[str, object], source: object) -> str:
    """The species that metadata names; ``""`` where it names none.

    Raises
    ------
    InputError
        Where it is no text.
    """
    species = metadata.get("species")
    if species is None or species != species:  # a blank CSV cell reaches the JSON as NaN
        return ""
    if not isinstance(species, str):
        raise InputError(source, "species", repr(species), "text, or null")
    return species.strip()


def spot_diameter_um(metadata: Mapping[str, object]) -> float:
    """Diameter of a spot in micrometres; where HEST leaves it blank (Xenium) the 100 um of its pseudo-spots."""
    value = metadata.get("spot_diameter")
    known = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if known else XENIUM_BIN_UM


def thumbnail(adata: AnnData):
    """The slide's small picture that HEST keeps in ``uns["spatial"]``, as a PIL image; ``None`` where there is none."""
    from PIL import Image

    libraries = adata.uns.get(SPATIAL, {})
    for library in libraries.values() if isinstance(libraries, Mapping) else ():
        images = library.get("images", {}) if isinstance(library, Mapping) else {}
        picture = images.get("downscaled_fullres")
        if getattr(picture, "dtype", None) == "uint8" and picture.ndim == 3:
            return Image.fromarray(picture).convert("RGB")
    return None
