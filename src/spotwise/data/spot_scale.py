"""The scale of the spots: their pitch against their technology, their diameter and other sources of the pixel size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spotwise.constants import SPATIAL
from spotwise.data.coordinates import FIELD, MAX_SCALE, scale_factors
from spotwise.data.hest import number
from spotwise.data.pixel_size import PixelSize
from spotwise.data.spot_array import array_pitch, is_regular, spot_pitch
from spotwise.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

# Distances in um between neighbouring spots or bins of the technologies that HEST holds. It pools the bins of Visium
# HD to 128 um and Xenium's transcripts to 100 um; "Spatial Transcriptomics" is also said of Visium.
TECHNOLOGIES = {
    "visiumhd": (2.0, 8.0, 16.0, 128.0),
    "visium": (100.0,),
    "xenium": (100.0,),
    "spatialtranscriptomics": (100.0, 150.0, 200.0),
}
VISIUM_DIAMETER_UM, HD_BIN_UM, HEST_HD_BIN_UM = 55.0, 2.0, 128.0
_PITCH_TOLERANCE = 0.2  # rows of an array are compressed by up to a tenth if tissue was cut at an angle
_DIAMETER_TOLERANCE = 0.05
_LEAST_PITCH_PX = 1.5


class Stated(NamedTuple):
    """What the metadata says of the spots, in um; ``technology`` is "" if unknown."""

    pitch: float | None
    diameter: float | None
    technology: str


def stated_spots(metadata: Mapping[str, object], technology: str, source: object) -> Stated:
    """Read pitch, diameter and technology of the spots, or raise `InputError`.

    ``st_technology`` comes before the ``technology`` of the sample sheet.
    """
    named = metadata.get("st_technology")
    return Stated(
        number(metadata, "inter_spot_dist", source, "the distance between spots in micrometres"),
        number(metadata, "spot_diameter", source, "the diameter of a spot in micrometres"),
        named.strip() if isinstance(named, str) and named.strip() else technology,
    )


class Expected(NamedTuple):
    """Pitches in um that a slide may have, and what says so."""

    pitches: tuple[float, ...]
    reason: str

    def nearest(self, found: float) -> float:
        """Return the pitch that is nearest as a factor."""
        return min(self.pitches, key=lambda pitch: _factor(found, pitch))


def expected_pitch(stated: Stated, factors: Mapping[str, float]) -> Expected | None:
    """Return the pitches that a slide may have, None if nothing tells.

    The pitch of Visium is that of its array, whatever is stated. Bins may have any size that is stated, but HEST states
    the instrument's 2 um of Visium HD and pools them.
    """
    pitch, reason = stated.pitch, "inter_spot_dist in the metadata"
    if pitch is None and "bin_size_um" in factors:
        pitch, reason = factors["bin_size_um"], 'bin_size_um in uns["spatial"]'
    letters = "".join(character for character in stated.technology.lower() if character.isalnum())
    letters = "spatialtranscriptomics" if letters == "st" else letters
    name = next((name for name in TECHNOLOGIES if name in letters), None)
    if name is None and pitch is None and stated.diameter == VISIUM_DIAMETER_UM:
        return Expected(TECHNOLOGIES["visium"], f"Visium, by its spots of {VISIUM_DIAMETER_UM:g} um")
    unstated = "" if name == "visium" or pitch else " without inter_spot_dist"
    of_technology = Expected(TECHNOLOGIES[name], f"{stated.technology}{unstated}") if name else None
    if pitch is None or name == "visium":
        return of_technology
    if name == "visiumhd" and pitch == HD_BIN_UM:
        return Expected((HD_BIN_UM, HEST_HD_BIN_UM), reason)
    if name == "spatialtranscriptomics" and _factor(pitch, of_technology.nearest(pitch)) > MAX_SCALE:
        return of_technology
    return Expected((pitch,), reason)


class Difference(NamedTuple):
    """Two sources that do not agree."""

    is_error: bool
    found: str
    expected: str
    field: str = FIELD


def check_scale(
    counts: AnnData, pixel: PixelSize, stated: Stated, slide_size: tuple[int, int] | None, source: object
) -> tuple[dict[str, object], list[str]]:
    """Compare the pitch of the spots with all that the files say about it.

    A pitch that is not the expected one, or below the diameter of a spot, means that coordinates and pixel size do not
    belong together: patches would show another area than that of their spots.

    Parameters
    ----------
    counts, source
        Kept spots, with ``obsm["spatial"]``, and ``obs["array_row"]``, ``obs["array_col"]``, ``uns["spatial"]`` if
        known, and their file for messages.
    pixel, slide_size
        Size of a pixel, and of the slide in pixels if it is known.
    stated
        From the metadata.

    Returns
    -------
    facts, warnings
        ``pitch_px``, ``pitch_um`` and ``expected_pitch_um`` for ``qc.json``, and what differs by less than `MAX_SCALE`.

    Raises
    ------
    InputError
        Two sources differ by a factor of more than `MAX_SCALE`, or spots overlap.
    """
    if counts.n_obs < 2:
        return {}, []
    spatial = np.asarray(counts.obsm[SPATIAL], dtype=np.float64)
    factors = scale_factors(counts.uns)
    expected = expected_pitch(stated, factors)
    on_array = array_pitch(counts)
    pitches = [pitch for pitch in (on_array, spot_pitch(spatial)) if pitch]
    pitch = max(pitches)
    if expected:
        pitch = min(pitches, key=lambda one: _factor(one * pixel.um, expected.nearest(one * pixel.um)))
    is_grid = on_array is not None or is_regular(spatial)  # unlike cells and beads
    spots = _Spots(spatial, pitch, pixel, expected, factors, is_grid, slide_size)
    differences = list(spots.differences(stated))
    for difference in differences:
        if difference.is_error:
            raise InputError(source, difference.field, difference.found, difference.expected)
    facts = {"pitch_px": pitch, "pitch_um": pitch * pixel.um, "expected_pitch_um": expected and list(expected.pitches)}
    return facts, [difference.found for difference in differences]


class _Spots(NamedTuple):
    """Spots of one slide."""

    spatial: np.ndarray
    pitch: float  # px
    pixel: PixelSize
    expected: Expected | None
    factors: Mapping[str, float]  # of uns["spatial"]
    is_grid: bool
    slide_size: tuple[int, int] | None

    def differences(self, stated: Stated) -> Iterator[Difference]:
        """Yield what does not agree with the pitch or the pixel size."""
        if self.pitch < _LEAST_PITCH_PX:
            expected = "pixels of level 0, not positions on the array or shares of the slide"
            yield Difference(True, f"spots {self.pitch:.3g} px apart", expected)
        um = self.pitch * self.pixel.um
        spots = f"spots {um:.4g} um apart ({self.pitch:.4g} px at {self.pixel.um:.4g} um/px)"
        nearest = self.expected.nearest(um) if self.expected else um
        fits = self.expected is not None and _factor(um, nearest) <= MAX_SCALE
        if _factor(um, nearest) > 1 + _PITCH_TOLERANCE:
            wanted = f"{' or '.join(f'{one:g}' for one in self.expected.pitches)} um ({self.expected.reason})"
            off = f"{wanted}, which is a factor of {_factor(um, nearest):.3g}{self._hint(um / nearest)}"
            yield Difference(
                not fits and self.is_grid, spots if not fits and self.is_grid else f"{spots}, not {wanted}", off
            )
        if fits and stated.pitch and _factor(um, stated.pitch) > 1 + _PITCH_TOLERANCE and stated.pitch != nearest:
            yield Difference(False, f"{spots}, inter_spot_dist in the metadata is {stated.pitch:g} um", "")
        if stated.diameter and um < (1 - _DIAMETER_TOLERANCE) * stated.diameter:
            expected = f"no overlap: check coordinates and pixel size{self._hint(um / stated.diameter)}"
            found = f"{spots}, less than the spot_diameter of {stated.diameter:g} um in the metadata"
            yield Difference(not fits and self.is_grid, found, expected)
        width = self.factors.get("spot_diameter_fullres", 0.0)
        if self.pitch < (1 - _DIAMETER_TOLERANCE) * width:
            found = f'{spots}, less than the spot_diameter_fullres of {width:.4g} px in uns["spatial"]'
            expected = f"both in pixels of level 0{self._hint(self.pitch / width)}"
            yield Difference(self.is_grid and self._fits_enlarged(width / self.pitch), found, expected)
        yield from self._pixel_sizes(fits)

    def _pixel_sizes(self, pitch_fits: bool) -> Iterator[Difference]:
        """Yield other sizes of a pixel, which are errors unless the pitch or the slide's size disprove them."""
        others = {
            "the slide's tags": self.pixel.embedded,
            'microns_per_pixel in uns["spatial"]': self.factors.get("microns_per_pixel"),
        }
        for name, other in others.items():
            if other is None or _factor(other, self.pixel.um) <= MAX_SCALE:
                continue
            too_small = other < self.pixel.um and self._fits_enlarged(self.pixel.um / other)
            found = f"{self.pixel.um:.4g} um in the metadata and {other:.4g} um in {name}"
            remedy = (
                "the coordinates fit a smaller picture" if pitch_fits else "inter_spot_dist in the metadata decides"
            )
            expected = f"one size of a pixel; {remedy}"
            yield Difference(not pitch_fits or too_small, f"a pixel of {found}", expected, "pixel size")

    def _fits_enlarged(self, factor: float) -> bool:
        """Tell whether the spots would lie on the slide with coordinates ``factor`` times as large."""
        return self.slide_size is None or bool((self.spatial.max(axis=0) * factor <= self.slide_size).all())

    def _hint(self, ratio: float) -> str:
        """Name the mistake that explains a pitch of ``ratio`` times the right one, if there is one."""
        explanations = (
            ("coordinates look like pixels of the hires picture", self.factors.get("tissue_hires_scalef")),
            ("coordinates look like pixels of the lowres picture", self.factors.get("tissue_lowres_scalef")),
            ("coordinates look like micrometres", self.pixel.um),
            ("the pixel size in the slide's tags fits", self.pixel.embedded and self.pixel.um / self.pixel.embedded),
        )
        for text, explained in explanations:
            if explained and math.isclose(ratio, explained, rel_tol=_PITCH_TOLERANCE / 2):
                return f"; {text}"
        return ""


def _factor(one: float, other: float) -> float:
    """Return by which factor two positive numbers differ, at least 1."""
    return max(one / other, other / one)
