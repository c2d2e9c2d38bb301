"""The layout of HEST-1k: paths of a sample's files, and their readers.

The dataset is described in Jaume et al., HEST-1k, NeurIPS 2024; :mod:`spotwise.data.hub` downloads it.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from numbers import Real
from pathlib import Path

from spotwise.errors import InputError
from spotwise.runtime.input_files import known_content, unreadable

SLIDE_SUFFIXES = (
    *(".tif", ".tiff", ".ome.tif", ".ome.tiff", ".svs", ".ndpi", ".scn", ".mrxs", ".svslide", ".bif", ".vms", ".dcm"),
    ".czi",
)
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".webp")
TO_TILED_TIFF = "vips tiffsave {source} {target} --tile --pyramid --compression deflate"
_LAYOUT = "a folder in HEST's layout (data.root)"
XENIUM_BIN_UM = 100.0  # side of HEST's pseudo-Visium bins, for which it leaves spot_diameter blank


@dataclass(frozen=True)
class SampleFiles:
    """Paths of a sample's files in HEST's layout."""

    counts: Path
    patches: Path
    hest_slide: Path  # as HEST names it
    metadata: Path

    @property
    def slide(self) -> Path:
        """The slide with any of `SLIDE_SUFFIXES` in upper or lower case, `hest_slide` if there is none.

        Raises
        ------
        InputError
            There are several.
        """
        found = [path for path in self.named_alike() if self._suffix(path) in SLIDE_SUFFIXES]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise InputError(self.hest_slide.parent, "slide", names, "one slide of a sample: move the others away")
        return found[0] if found else self.hest_slide

    def named_alike(self) -> list[Path]:
        """List the files in ``wsis`` that are named as the sample, with any suffix."""
        folder, beginning = self.hest_slide.parent, f"{self.hest_slide.stem}."
        try:
            names = _listed(folder, os.stat(folder).st_mtime_ns)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unreadable(folder, "folder", error, "a folder with the slides") from None
        return [folder / name for name in names if name.startswith(beginning)]

    def _suffix(self, path: Path) -> str:
        return path.name.removeprefix(self.hest_slide.stem).lower()


@lru_cache(maxsize=4)
def _listed(folder: Path, modified_ns: int) -> list[str]:
    """List a folder once for all samples, and again when it has changed."""
    return sorted(os.listdir(folder))


def sample_files(root: str | Path, sample: str) -> SampleFiles:
    """Locate a sample's files."""
    root = Path(root)
    return SampleFiles(
        counts=root / "st" / f"{sample}.h5ad",
        patches=root / "patches" / f"{sample}.h5",
        hest_slide=root / "wsis" / f"{sample}.tif",
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


def other_sample_warning(metadata: Mapping[str, object], n_spots: int, n_genes: int) -> str | None:
    """Describe metadata that state another number of spots and of genes than a file of counts has, if they do."""
    stated = metadata.get("spots_under_tissue"), metadata.get("nb_genes")
    if not all(isinstance(one, int | float) and one > 0 for one in stated):
        return None
    if stated[0] == n_spots or stated[1] == n_genes:
        return None
    found = f"{n_spots} spots and {n_genes} features, the metadata state {stated[0]:g} and {stated[1]:g}"
    return f"the counts have {found}: are both of one sample?"


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
        _require(root, sample, files.counts)
        if images == "none":
            continue
        _require(root, sample, files.metadata)
        if images == "patches" or (images == "auto" and os.path.lexists(files.patches)):
            _require(root, sample, files.patches)
        elif os.path.lexists(slide := files.slide):
            _require(root, sample, slide)
        else:
            raise _no_slide(root, sample, files, "" if images == "slides" else f" and no patches/{sample}.h5")


def _require(root: str | Path, sample: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise unreadable(path, "link", error, "a file") from None
        raise InputError(root, f"files of {sample}", f"no {path.relative_to(root).as_posix()}", _LAYOUT) from None
    except OSError as error:
        raise unreadable(path, "file", error, "a file of the sample") from None


def _no_slide(root: str | Path, sample: str, files: SampleFiles, patches: str) -> InputError:
    """Say under which names a slide is found, and how a picture becomes one."""
    expected = f"the slide as wsis/{sample} with {', '.join(SLIDE_SUFFIXES)}, in upper or lower case"
    found = f"no slide wsis/{files.hest_slide.name}{patches}"
    for path in files.named_alike():
        found = f"wsis/{path.name}, which is no slide,{patches}" if patches else f"wsis/{path.name}, which is no slide"
        if path.suffix.lower() in _PICTURE_SUFFIXES:
            expected = f"a slide: {TO_TILED_TIFF.format(source=path, target=files.hest_slide)}"
            break
    return InputError(root, f"files of {sample}", found, expected)


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
