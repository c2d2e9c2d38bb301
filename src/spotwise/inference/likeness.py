"""Likeness of a slide to the training slides: scale, stain and tissue, in numbers and in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from spotwise.constants import IMAGES, PATCH_UM
from spotwise.data.nuclear_size import MIN_NUCLEI, Nuclei, measure_nuclei
from spotwise.data.patch_files import match_patches, read_patches_index
from spotwise.data.patches import PATCH_UM_PER_PX, field_reader
from spotwise.data.stain_statistics import LAGS, TEXTURES, WIDTH, stain_statistics
from spotwise.errors import InputError, first_line
from spotwise.runtime.files import atomic

if TYPE_CHECKING:
    import pandas as pd

PER_SLIDE, IN_ALL = 500, 20_000  # patches in a reference, at most
MEASURED = 100  # spots of a slide at which nuclei are measured
AT_ONCE = 64  # patches in memory per thread
UNLIKE_PERCENTILE = 99  # of the distances of training patches left out: beyond, a spot is unlike
# Shares of unlike spots above which a slide is unlike, or far off. Slides of her2st have at most 0.16, their patient
# left out of the reference; a slide of skin from another scanner has 0.93 and more.
MAX_SHARE_UNLIKE, FAR_OFF = 0.25, 0.5
FEW_PATIENTS = 5  # below, the range of patients is uncertain
# Between sizes of nuclei: above, the pixel size is in doubt. It is at most 1.14 between patients of her2st, 1.26 for
# the skin, and 1.8 to 2.3 where the pixel size of her2st is stated twice too small or too large.
MAX_SCALE_FACTOR = 1.5
FACTORS = 2.0 ** (np.arange(-4, 5) / 2)  # of the side of a patch at which nuclei are measured

PATIENT_LEFT_OUT, SLIDE_LEFT_OUT, PATCH_LEFT_OUT = "patient", "slide", "patch"
STAIN, TEXTURE, BOTH = "stain", "texture", "both"

_FINEST_LAG = 2  # index into `LAGS`: finer texture is that of the scanner
_MIN_DENSITY = 0.01  # keeps the logarithm of a texture finite
_MAD = 1.4826  # standard deviations of a normal distribution in a median absolute deviation
_MIN_SPREAD = 1e-3
_ROWS = 256  # of a block of distances


@dataclass(frozen=True)
class Reference:
    """Patches of the training slides, described by their stain and texture.

    Attributes
    ----------
    statistics
        (M, WIDTH) float32 numbers of :func:`spotwise.data.stain_statistics.stain_statistics`.
    slide
        (M,) index into ``slides``.
    distances
        For `STAIN`, `TEXTURE` and `BOTH` the distances (M,) of each patch to the nearest one of other patients, or of
        other slides or patches where there are no others, as ``left_out`` says.
    radii_px
        (S,) radius of the nuclei of each slide, NaN where too few were found.
    """

    statistics: np.ndarray
    slide: np.ndarray
    slides: list[str]
    patients: list[str]
    left_out: str
    distances: Mapping[str, np.ndarray]
    radii_px: np.ndarray


def describe_cohort(
    patches: Mapping[str, Path], patients: Mapping[str, str], output: Path, threads: int = 1
) -> dict[str, object]:
    """Describe the patches of the training slides, and how far apart they lie.

    Of each slide at most `PER_SLIDE` patches are described, evenly spread over its file, and at most `IN_ALL` in all.

    Parameters
    ----------
    patches, patients
        Patch file and patient of each training slide, by its name.
    output
        Reference to write, as safetensors.

    Returns
    -------
    dict
        For the log: numbers of slides, patients and patches, what is left out for the distances, and the radius of the
        nuclei.

    Raises
    ------
    InputError
        A patch file cannot be read, or all files hold one patch together.
    """
    per_slide = min(PER_SLIDE, max(1, IN_ALL // len(patches)))
    parts, radii = [], []
    for path in patches.values():
        barcodes, _, _ = read_patches_index(path)
        parts.append(_describe(path, _spread(len(barcodes), per_slide), threads))
        with h5py.File(path) as file:
            radii.append(measure_nuclei(file[IMAGES][_spread(len(barcodes), MEASURED)]).radius_px)
    statistics = np.concatenate(parts)
    if len(statistics) < 2:
        raise InputError(", ".join(map(str, patches.values())), IMAGES, "one patch", "two or more, to compare")
    slide = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    left_out, group = _groups(slide, [patients[name] for name in patches])
    spaces = {name: _Space.of(statistics, name) for name in (STAIN, TEXTURE, BOTH)}
    distances = {name: space.distances_between(statistics, group) for name, space in spaces.items()}
    notes = {"slides": list(patches), "patients": [patients[name] for name in patches], "left_out": left_out}
    arrays = {"statistics": statistics, "slide": slide, "radii_px": np.array(radii)}
    arrays |= {f"distance_{name}": values for name, values in distances.items()}
    with atomic(output) as temporary:
        save_file(arrays, temporary, {"reference": json.dumps(notes)})
    n_patients = len(set(notes["patients"]))
    counts = {"slides": len(parts), "patients": n_patients, "patches": len(statistics)}
    return {**counts, "left_out": left_out, "nuclear_radius_um": (np.array(radii) * PATCH_UM_PER_PX).round(2).tolist()}


def read_reference(path: Path) -> Reference:
    """Read what `describe_cohort` wrote, or raise `InputError`."""
    try:
        with safe_open(path, "numpy") as file:
            notes = json.loads(file.metadata()["reference"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
        distances = {name: arrays[f"distance_{name}"] for name in (STAIN, TEXTURE, BOTH)}
        reference = Reference(
            arrays["statistics"], arrays["slide"], distances=distances, radii_px=arrays["radii_px"], **notes
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        expected = "the reference of a final model, as this version writes it: make the final model again"
        raise InputError(path, "reference", f"an unreadable file ({first_line(error)})", expected) from error
    if reference.statistics.shape[1:] != (WIDTH,):
        found, expected = f"{reference.statistics.shape[1:]} numbers a patch", f"{WIDTH}: make the final model again"
        raise InputError(path, "statistics", found, expected)
    return reference


def compare_slide(
    patches: Path,
    slide: Path,
    centres: np.ndarray,
    barcodes: Sequence[str],
    um_per_px: float,
    reference: Path,
    threads: int = 1,
    patient: str = "",
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Compare a slide with the training slides.

    Parameters
    ----------
    patches
        Patch file of the slide.
    slide, centres, barcodes, um_per_px
        The slide, the (N, 2) centres of its spots in level-0 pixels, their barcodes and the pixel size of level 0.
    reference
        File of `describe_cohort`.
    patient
        The slide's patient, "" if unknown.

    Returns
    -------
    table
        Per patch, in the order of the file: ``barcode``; ``distance`` to the nearest training patch; ``similarity``,
        the share in (0, 1] of training patches that lie at least as far from those of other patients; ``unlike``,
        whether fewer than 1 % of them do.
    verdict
        ``scale``, ``stain`` and ``tissue``, each with ``alike`` (None where it cannot be judged), ``words`` and
        numbers; ``spots`` and ``reference`` with numbers; ``alike``, ``far_off`` and ``words`` (list of str) of the
        whole.

    Raises
    ------
    InputError
        The patches, the slide or the reference cannot be read.
    """
    import pandas as pd

    known = read_reference(reference)
    found, _, _ = read_patches_index(patches)
    statistics = _describe(patches, np.arange(len(found)), threads)
    distance = {name: _Space.of(known.statistics, name).distances(statistics) for name in (STAIN, TEXTURE, BOTH)}
    unlike = {name: values > _limit(known, name) for name, values in distance.items()}
    similarity = _share_as_far(known.distances[BOTH], distance[BOTH])
    table = pd.DataFrame(
        {"barcode": found, "distance": distance[BOTH], "similarity": similarity, "unlike": unlike[BOTH]}
    )
    rows = np.flatnonzero(match_patches(found, barcodes, patches) >= 0)
    with_patch = np.asarray(centres, dtype=float)[rows]
    parts = {
        "scale": _judge_scale(_measure_sizes(slide, with_patch, um_per_px), um_per_px, known.radii_px),
        STAIN: _judge_share(_STAIN_WORDS, unlike[STAIN], distance[STAIN], known.distances[STAIN]),
        "tissue": _judge_share(_TISSUE_WORDS, unlike[TEXTURE], distance[TEXTURE], known.distances[TEXTURE]),
    }
    n_unlike = int(unlike[BOTH].sum())
    spots = {"n": len(found), "n_unlike": n_unlike, "share_unlike": round(n_unlike / len(found), 4)}
    return table, _verdict(parts, spots, known, patient)


# --- description ------------------------------------------------------------------------------------------------------


def _spread(n: int, most: int) -> np.ndarray:
    """Choose at most ``most`` of ``n`` rows, evenly spread and ascending."""
    return np.linspace(0, n - 1, min(most, n)).astype(int)


def _describe(path: Path, rows: np.ndarray, threads: int) -> np.ndarray:
    """Compute the statistics (n, WIDTH) of rows of a patch file, a few patches at a time."""
    blocks = np.array_split(rows, -(-len(rows) // AT_ONCE))
    with h5py.File(path) as file, ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda block: stain_statistics(file[IMAGES][block]), blocks)))


def _groups(slide: np.ndarray, patients: Sequence[str]) -> tuple[str, np.ndarray]:
    """Return what is left out, and the group (M,) of each patch, within which distances do not count."""
    if len(set(patients)) > 1:
        return PATIENT_LEFT_OUT, np.unique(patients, return_inverse=True)[1][slide]
    if len(patients) > 1:
        return SLIDE_LEFT_OUT, slide
    return PATCH_LEFT_OUT, np.arange(len(slide))


# --- distances --------------------------------------------------------------------------------------------------------


def _stain_numbers(statistics: np.ndarray) -> np.ndarray:
    """Select the colours: means, spreads, percentiles and correlations."""
    return np.delete(statistics, np.r_[TEXTURES], axis=1)


def _texture_numbers(statistics: np.ndarray) -> np.ndarray:
    """Compute how texture grows with distance, relative to the farthest, which no change of stain alters."""
    texture = np.log(statistics[:, TEXTURES].reshape(-1, len(LAGS), 3) + _MIN_DENSITY)[:, _FINEST_LAG:]
    return (texture[:, :-1] - texture[:, -1:]).reshape(len(statistics), -1)


_NUMBERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    STAIN: (_stain_numbers,),
    TEXTURE: (_texture_numbers,),
    BOTH: (_stain_numbers, _texture_numbers),
}


@dataclass(frozen=True)
class _Space:
    """Space in which patches are compared: numbers standardised over the reference, each kind of equal weight."""

    kinds: tuple[Callable[[np.ndarray], np.ndarray], ...]
    centres: list[np.ndarray]
    scales: list[np.ndarray]
    points: np.ndarray  # (M, D) of the reference

    @classmethod
    def of(cls, statistics: np.ndarray, name: str) -> _Space:
        kinds = _NUMBERS[name]
        numbers = [kind(statistics) for kind in kinds]
        centres = [np.median(values, axis=0) for values in numbers]
        scales = [
            (_MAD * np.median(np.abs(values - centre), axis=0) + _MIN_SPREAD) * np.sqrt(len(centre) * len(kinds))
            for values, centre in zip(numbers, centres, strict=True)
        ]
        space = cls(kinds, centres, scales, np.empty((0, 0)))
        return cls(kinds, centres, scales, space.place(statistics))

    def place(self, statistics: np.ndarray) -> np.ndarray:
        placed = zip(self.kinds, self.centres, self.scales, strict=True)
        return np.concatenate([(kind(statistics) - centre) / scale for kind, centre, scale in placed], axis=1)

    def distances(self, statistics: np.ndarray) -> np.ndarray:
        """Compute the distance (n,) float32 of patches to the nearest one of the reference."""
        return _nearest(self.place(statistics), self.points)

    def distances_between(self, statistics: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Compute the distance (M,) float32 of each patch to the nearest one of another group."""
        return _nearest(self.place(statistics), self.points, group)


def _nearest(queries: np.ndarray, points: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """Find the distance (n,) of queries to the nearest point, of another group if these are the points themselves."""
    queries, points = queries.astype(np.float64), points.astype(np.float64)
    squares = (points**2).sum(axis=1)
    found = np.empty(len(queries), dtype=np.float32)
    for start in range(0, len(queries), _ROWS):
        block = slice(start, start + _ROWS)
        squared = (queries[block] ** 2).sum(axis=1)[:, None] + squares - 2 * queries[block] @ points.T
        if group is not None:
            squared[group[block, None] == group] = np.inf
        found[block] = np.sqrt(np.maximum(squared.min(axis=1), 0))
    return found


def _limit(known: Reference, name: str) -> float:
    return float(np.percentile(known.distances[name], UNLIKE_PERCENTILE))


def _share_as_far(distances: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Compute the share (n,) of ``distances`` at least as large, each found one counted in."""
    nearer = np.searchsorted(np.sort(distances), found, side="left")
    return (len(distances) - nearer + 1) / (len(distances) + 1)


# --- verdict ----------------------------------------------------------------------------------------------------------


def _measure_sizes(slide: Path, centres: np.ndarray, um_per_px: float) -> list[Nuclei]:
    """Measure nuclei around some spots in squares of `FACTORS` times the side of a patch, each as large in pixels."""
    chosen = centres[_spread(len(centres), MEASURED)]
    sizes = []
    for factor in FACTORS:
        with field_reader(slide, chosen, um_per_px, PATCH_UM * factor) as read:
            sizes.append(measure_nuclei(read(range(len(chosen)))))
    return sizes


def scale_factor(radii: np.ndarray, expected: float) -> float:
    """Find by what factor squares have to grow for their nuclei to be as large as expected.

    Parameters
    ----------
    radii
        Radius of nuclei in pixels at each of `FACTORS`, NaN where it is not known.
    expected
        Radius in the training slides.

    Returns
    -------
    float
        The factor nearest to 1 at which the radius, interpolated, is the expected one; an end of `FACTORS` where it
        lies beyond; NaN without a radius at factor 1.
    """
    steps, stated = np.log2(FACTORS), len(FACTORS) // 2
    excess = np.log2(radii / expected)
    if not np.isfinite(excess[stated]):
        return float("nan")
    crossings = [
        first + (last - first) * a / (a - b)
        for first, last, a, b in zip(steps, steps[1:], excess, excess[1:], strict=False)
        if a >= 0 >= b and a > b
    ]
    if crossings:
        return float(2 ** min(crossings, key=abs))
    return float(FACTORS[-1] if excess[stated] > 0 else FACTORS[0])


def _judge_scale(sizes: Sequence[Nuclei], um_per_px: float, radii_px: np.ndarray) -> dict[str, object]:
    known = radii_px[np.isfinite(radii_px)]
    stated = sizes[len(FACTORS) // 2]
    expected = float(np.median(known)) if len(known) else float("nan")
    factor = scale_factor(np.array([size.radius_px for size in sizes]), expected)
    numbers: dict[str, object] = {"n_nuclei": stated.n, "um_per_px": um_per_px}
    if not np.isfinite(factor):
        where = "this slide" if len(known) else "the training slides"
        words = f"the scale cannot be judged: fewer than {MIN_NUCLEI} nuclei were found in {where}"
        return {"alike": None, "words": words, **numbers}
    here, there = stated.radius_px * PATCH_UM_PER_PX, expected * PATCH_UM_PER_PX
    fitting = um_per_px / factor
    alike = 1 / MAX_SCALE_FACTOR <= factor <= MAX_SCALE_FACTOR
    at = f"at {um_per_px:.3g} um/px"
    measured = f"{at} its nuclei have a radius of {here:.1f} um, those of the training slides {there:.1f} um"
    if alike:
        words = f"the scale is that of the training slides: {measured}"
    else:
        seems, fold = ("reduced", 1 / factor) if factor < 1 else ("enlarged", factor)
        beyond = factor in (FACTORS[0], FACTORS[-1])
        fit = f"{'More' if factor < 1 else 'Less'} than" if beyond else "About"
        words = (
            f"the scale looks wrong: {measured}. The slide looks {seems} {'at least' if beyond else 'about'} "
            f"{fold:.2g}-fold: are its pixels really {um_per_px:.3g} um? {fit} {fitting:.2g} um would fit"
        )
    numbers |= {"nuclear_radius_um": round(here, 3), "training_radius_um": round(there, 3)}
    numbers |= {"factor": round(factor, 3), "fitting_um_per_px": round(fitting, 4)}
    return {"alike": alike, "words": words, **numbers}


_STAIN_WORDS = (
    "the stain is within what the training slides show",
    "the stain is unlike that of the training slides",
    "colours",
)
_TISSUE_WORDS = (
    "the tissue has a texture that the training slides show, too",
    "the tissue, or the sharpness of the picture, is unlike the training slides",
    "a texture",
)


def _judge_share(
    words: tuple[str, str, str], unlike: np.ndarray, distances: np.ndarray, known: np.ndarray
) -> dict[str, object]:
    share = float(unlike.mean())
    alike = share <= MAX_SHARE_UNLIKE
    said = f"{words[not alike]} ({100 * share:.0f} % of the spots have {words[2]} beyond the range of training)"
    ratio = float(np.median(distances) / max(np.median(known), _MIN_SPREAD))
    return {"alike": alike, "words": said, "share_unlike": round(share, 4), "distance_ratio": round(ratio, 3)}


def _verdict(
    parts: dict[str, dict[str, object]], spots: dict[str, object], known: Reference, patient: str
) -> dict[str, object]:
    n_patients = len(set(known.patients))
    alike = all(part["alike"] is not False for part in parts.values()) and spots["share_unlike"] <= MAX_SHARE_UNLIKE
    shares = [spots["share_unlike"], parts[STAIN]["share_unlike"], parts["tissue"]["share_unlike"]]
    far_off = parts["scale"]["alike"] is False or max(shares) > FAR_OFF
    words = [
        f"{100 * spots['share_unlike']:.0f} % of {spots['n']} spots lie farther from the training patches than 99 % of "
        f"training patches lie from those of another {known.left_out}"
    ]
    words += [part["words"] for part in parts.values()]
    if far_off:
        words.insert(0, "this slide is far from those trained on: do not trust its predictions")
    elif not alike:
        words.insert(0, "this slide differs from those trained on: doubt its predictions")
    else:
        words.insert(0, "this slide looks like those trained on")
    if n_patients == 1:
        words.append("all training slides are of one patient: how far patients differ is not known")
    elif n_patients < FEW_PATIENTS:
        words.append(f"the training slides are of {n_patients} patients only: how far patients differ is uncertain")
    if patient in known.patients:
        words.append(f"it is of patient {patient}, as training slides are: other patients are predicted less well")
    reference = {
        "slides": len(known.slides),
        "patients": n_patients,
        "patches": len(known.statistics),
        "left_out": known.left_out,
    }
    return {**parts, "spots": spots, "reference": reference, "alike": alike, "far_off": far_off, "words": words}
