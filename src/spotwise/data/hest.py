"""The layout of HEST-1k: paths of a sample's files, and their readers.

The dataset is described in Jaume et al., HEST-1k, NeurIPS 2024; :mod:`spotwise.data.hub` downloads it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path

from spotwise.errors import InputError
from spotwise.runtime.input_files import known_content, unreadable

SLIDE_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".mrxs", ".svslide", ".bif", ".vms", ".dcm", ".czi")
XENIUM_BIN_UM = 100.0  # side of HEST's pseudo-Visium bins, for which it leaves spot_diameter blank


@dataclass(frozen=True)
class SampleFiles:
    """Paths of a sample's files in HEST's layout."""

    counts: Path
    patches: Path
    slide: Path
    metadata: Path


def sample_files(root: str | Path, sample: str) -> SampleFiles:
    """Locate a sample's files, with its slide in any of `SLIDE_SUFFIXES`."""
    root = Path(root)
    slides = [root / "wsis" / f"{sample}{suffix}" for suffix in SLIDE_SUFFIXES]
    return SampleFiles(
        counts=root / "st" / f"{sample}.h5ad",
        patches=root / "patches" / f"{sample}.h5",
        slide=next((path for path in slides if path.is_file()), slides[0]),
        metadata=root / "metadata" / f"{sample}.json",
    )


def read_metadata(path: str | Path) -> dict:
    """Read ``metadata/{sample}.json``, or raise `InputError` if it is invalid."""
    path = Path(path)
    expected = "the sample's metadata as JSON"
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise unreadable(path, "metadata", error, expected) from None
    try:
        content = stored.decode("utf-8-sig")  # HEST's index and files made from it have a byte order mark
        metadata = json.loads(content, object_pairs_hook=partial(_each_once, path))
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "a byte that is not UTF-8", "JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        if placeholder := known_content(stored):
            found, remedy = placeholder
            raise InputError(path, "metadata", found, f"{expected}; {remedy}") from None
        raise InputError(path, f"line {error.lineno}", error.msg, "JSON") from None
    except RecursionError:
        raise InputError(path, "top level", "brackets nested too deeply", "a JSON object with HEST's keys") from None
    if not isinstance(metadata, dict):
        raise InputError(path, "top level", type(metadata).__name__, "a JSON object with HEST's keys")
    if metadata.get("id") != path.stem:
        raise InputError(path, "id", repr(metadata.get("id")), f"{path.stem!r}, as the file is named")
    return metadata


def _each_once(path: Path, pairs: Sequence[tuple[str, object]]) -> dict:
    """Refuse repeated keys, of which Python would keep the last."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise InputError(path, key, "a repeated key", "each key once")
    return dict(pairs)


def require_local(root: str | Path, samples: Sequence[str], images: str) -> None:
    """Raise `InputError` unless a local folder has a run's files.

    ``images`` is ``patches``, ``slides``, ``auto`` for either, or ``none`` for counts alone, without metadata.
    """
    for sample in samples:
        files = sample_files(root, sample)
        pictures = {"patches": [files.patches], "slides": [files.slide], "auto": [files.patches, files.slide]}
        for choices in [[files.counts]] + ([[files.metadata], pictures[images]] if images != "none" else []):
            if not any(path.is_file() for path in choices):
                for path in choices:
                    if path.is_symlink():
                        raise unreadable(path, "link", FileNotFoundError(), "a file")
                names = " or ".join(path.relative_to(root).as_posix() for path in choices)
                raise InputError(root, f"files of {sample}", f"no {names}", "a folder in HEST's layout (data.root)")


def number(metadata: Mapping[str, object], key: str, source: object, expected: str) -> float | None:
    """Read a positive number, None if it is absent, or raise `InputError`.

    A blank cell of a table reaches the JSON as NaN or null; text is refused, also text of digits.
    """
    value = metadata.get(key)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if value is None or (isinstance(value, str) and not value.strip()) or (is_number and math.isnan(value)):
        return None
    if not is_number or not 0 < value < math.inf:
        raise InputError(source, key, repr(value), f"{expected}, as a positive number")
    return float(value)


def slide_size(metadata: Mapping[str, object], source: object) -> tuple[int, int]:
    """Read width and height of level 0 in pixels, or raise `InputError`."""
    size = []
    for key in ("fullres_px_width", "fullres_px_height"):
        value = number(metadata, key, source, "the slide's size in pixels")
        if value is None or value != int(value):
            raise InputError(source, key, repr(metadata.get(key)), "the slide's size in whole pixels")
        size.append(int(value))
    return size[0], size[1]


def species_of(metadata: Mapping[str, object], source: object) -> str:
    """Read the species, "" if there is none, or raise `InputError`."""
    species = metadata.get("species")
    if species is None or species != species:  # a blank CSV cell reaches the JSON as NaN
        return ""
    if not isinstance(species, str):
        raise InputError(source, "species", repr(species), "text, or null")
    return species.strip()


def spot_diameter_um(metadata: Mapping[str, object], source: object) -> float:
    """Read the diameter of a spot in micrometres, by default `XENIUM_BIN_UM`."""
    return number(metadata, "spot_diameter", source, "the diameter of a spot in micrometres") or XENIUM_BIN_UM
