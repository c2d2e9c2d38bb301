"""The pitch of the spots agrees with their technology, diameter and pixel size, or the slide is refused."""

import anndata
import numpy as np
import pandas as pd
import pytest

from spotwise.data.pixel_size import PixelSize
from spotwise.data.spot_scale import check_scale, expected_pitch, stated_spots
from spotwise.errors import InputError

SIZE = (2000, 2000)
VISIUM, ST = {"st_technology": "Visium"}, {"st_technology": "Spatial Transcriptomics"}
HD, XENIUM = {"st_technology": "Visium HD"}, {"st_technology": "Xenium", "inter_spot_dist": float("nan")}
RNG = np.random.default_rng(0)


def square(step, edge=8):
    return np.indices((edge, edge)).reshape(2, -1).T[:, ::-1]


def placed(centres, factors=None, array=None):
    obs = pd.DataFrame(index=[f"s{row}" for row in range(len(centres))])
    if array is not None:
        obs["array_row"], obs["array_col"] = np.transpose(array)
    uns = {"spatial": {"ST": {"images": {}, "scalefactors": factors or {}}}}
    return anndata.AnnData(np.ones((len(centres), 1)), obs, obsm={"spatial": np.asarray(centres, float)}, uns=uns)


def grid(pitch_px, edge=8, **parts):
    row, column = np.indices((edge, edge)).reshape(2, -1)
    return placed(100 + pitch_px * np.stack([column, row], axis=1), **parts)


def staggered(pitch_px, edge=10, share=1.0):
    """Visium's array, of which a share of spots is there, as centres and array positions."""
    row, column = np.indices((edge, edge)).reshape(2, -1)
    array = np.stack([row, 2 * column + row % 2], axis=1)
    centres = pitch_px * np.stack([array[:, 1] / 2, array[:, 0] * np.sqrt(3) / 2], axis=1) + 50
    kept = RNG.permutation(len(row))[: round(share * len(row))]
    return centres[kept], array[kept]


def check(counts, metadata, um=0.5, embedded=None, technology="", size=SIZE):
    return check_scale(
        counts, PixelSize(um, embedded, []), stated_spots(metadata, technology, "m.json"), size, "S1.h5ad"
    )


def warned(*arguments, **options):
    return check(*arguments, **options)[1]


def refused(*arguments, **options):
    with pytest.raises(InputError) as error:
        check(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is right passes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pitch_um", "metadata"),
    [
        (100, VISIUM | {"inter_spot_dist": 100.0, "spot_diameter": 55.0}),
        (97, {"st_technology": "10x Visium CytAssist"}),
        (200, ST | {"inter_spot_dist": 200, "spot_diameter": 100}),
        (191, ST | {"inter_spot_dist": 200, "spot_diameter": 100}),
        (150, {"st_technology": "ST"}),
        (110, ST | {"inter_spot_dist": 110.0, "spot_diameter": 150.0}),  # as HEST states of GSE144239
        (2, HD), (8, HD), (16, {"st_technology": "visium_hd"}), (128, HD),
        (128, HD | {"inter_spot_dist": 2, "spot_diameter": 2}),  # as HEST states and pools
        (48, HD | {"inter_spot_dist": 48}),
        (100, XENIUM | {"spot_diameter": None}),
        (55, XENIUM | {"inter_spot_dist": 55.0}),
        (25, {"st_technology": "DBiT-seq", "spot_diameter": 25}),
        (500, {"st_technology": "of our own"}),
        (100, {"spot_diameter": 55}),
        (12, {}),
    ],
)  # fmt: skip
def test_a_pitch_of_the_technology_passes(pitch_um, metadata):
    facts, warnings = check(grid(pitch_um / 0.5), metadata)
    assert facts["pitch_um"] == pytest.approx(pitch_um)
    overlap = [warning for warning in warnings if "less than the spot_diameter of 150 um" in warning]
    assert warnings == overlap or pitch_um == 128


def test_the_facts_are_those_of_the_spots():
    assert check(grid(200), VISIUM)[0] == {"pitch_px": 200, "pitch_um": 100, "expected_pitch_um": [100]}
    assert check(grid(200), {})[0]["expected_pitch_um"] is None
    assert check(placed([[5, 5]]), VISIUM) == ({}, [])


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_missing_spots_do_not_change_the_pitch_of_an_array(share):
    centres, array = staggered(200, 12, share)
    facts, warnings = check(placed(centres, array=array), VISIUM)
    assert (facts["pitch_um"], warnings) == (pytest.approx(100), [])


@pytest.mark.parametrize(("edge", "share"), [(6, 0.1), (12, 0.05), (12, 0.15), (12, 0.3)])
def test_a_few_spots_of_an_array_without_positions_are_warned_about_at_most(edge, share):
    for _ in range(20):
        check(placed(staggered(200, edge, share)[0]), VISIUM)


def test_merged_bins_may_keep_the_positions_of_the_smallest():
    row, column = np.indices((8, 8)).reshape(2, -1)
    merged = placed(16 * np.stack([column, row], axis=1), array=np.stack([4 * row, 4 * column], axis=1))
    assert (
        warned(merged, HD)
        == warned(merged, HD | {"inter_spot_dist": 2})
        == warned(merged, {"inter_spot_dist": 8})
        == []
    )


def test_merged_bins_of_an_odd_number_too():
    row, column = np.indices((8, 8)).reshape(2, -1)
    merged = placed(12 * np.stack([column, row], axis=1), array=np.stack([3 * row, 3 * column], axis=1))
    assert warned(merged, HD | {"inter_spot_dist": 2}) == warned(merged, {"inter_spot_dist": 6}) == []


def test_positions_that_the_centres_do_not_follow_are_not_used():
    counted = np.arange(64)  # HEST numbers the pooled bins of Visium HD after taking out the empty ones
    pooled = grid(256, array=np.stack([counted // 7, counted % 7], axis=1))
    assert check(pooled, HD)[0]["pitch_um"] == pytest.approx(128)


def test_cells_have_no_pitch_to_be_refused_for():
    cells = placed(np.random.default_rng(1).uniform(0, 2000, (400, 2)))
    assert check(cells, XENIUM)[0]["pitch_um"] < 60
    check(cells, {"spot_diameter": 55})


# --- what is wrong is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (VISIUM, "Visium"),
        (VISIUM | {"inter_spot_dist": 10}, "Visium"),  # consistent with the wrong pitch
        (ST | {"inter_spot_dist": 200}, "inter_spot_dist in the metadata"),
        (ST | {"inter_spot_dist": 10}, "Spatial Transcriptomics"),
        (XENIUM, "Xenium without inter_spot_dist"),
        (HD | {"inter_spot_dist": 100}, "inter_spot_dist in the metadata"),
        ({"inter_spot_dist": 100}, "inter_spot_dist in the metadata"),
        ({"spot_diameter": 55}, "Visium, by its spots of 55 um"),
    ],
)
@pytest.mark.parametrize("factor", [0.1, 10])
def test_a_scale_wrong_by_ten_is_refused(metadata, reason, factor):
    line = refused(grid(20 if factor == 0.1 else 4000), metadata)
    assert line.startswith(f'S1.h5ad: obsm["spatial"]: found spots {10 if factor == 0.1 else 2000:g} um apart')
    assert f"um ({reason}), which is a factor of" in line


def test_the_technology_of_the_sample_sheet_counts_where_the_metadata_has_none():
    assert "Visium" in refused(grid(20), {}, technology="Visium")
    assert "Xenium" in refused(grid(20), XENIUM, technology="Visium")
    assert warned(grid(20), {"st_technology": None}, technology="our own") == []


@pytest.mark.parametrize("um", [0.2125, 0.2925])
def test_bins_of_another_pixel_size_are_refused_above_a_factor_of_one_and_a_half(um):
    """HEST's NCBI784 was binned at 0.364 um/px, and states 0.2125."""
    line = refused(grid(274.78), XENIUM, um=0.2125)
    assert (
        "found spots 58.39 um apart (274.8 px at 0.2125 um/px), expected 100 um (Xenium without inter_spot_dist)"
        in line
    )
    (warning,) = warned(grid(274.78), XENIUM, um=0.2925)
    assert "not 100 um (Xenium without inter_spot_dist)" in warning


def test_the_mistake_that_explains_a_factor_is_named():
    factors = {"tissue_hires_scalef": 0.08, "tissue_lowres_scalef": 0.024}
    assert "pixels of the hires picture" in refused(grid(16, factors=factors), VISIUM)
    assert "pixels of the lowres picture" in refused(grid(4.8, factors=factors), VISIUM)
    assert "look like micrometres" in refused(grid(100), VISIUM)
    assert "tags fits" in refused(grid(200), VISIUM, um=5, embedded=0.5)


def test_spots_that_overlap_are_refused():
    assert "less than the spot_diameter of 60 um" in refused(grid(100), {"spot_diameter": 60})
    assert warned(grid(120), {"spot_diameter": 60}) == warned(grid(118), {"spot_diameter": 60}) == []
    line = refused(grid(20, factors={"spot_diameter_fullres": 110.0}), {})
    assert 'less than the spot_diameter_fullres of 110 px in uns["spatial"]' in line


def test_a_scale_factor_of_a_larger_picture_is_warned_about():
    """A slide may be shrunk together with its coordinates; larger ones would lie off the slide."""
    (warning,) = warned(grid(100, factors={"spot_diameter_fullres": 240.0}), VISIUM, size=(900, 900), um=1.0)
    assert "less than the spot_diameter_fullres" in warning


@pytest.mark.parametrize("pitch", [1, 0.01])
def test_positions_on_the_array_and_shares_of_the_slide_are_no_pixels(pitch):
    assert f"found spots {pitch:g} px apart, expected pixels of level 0" in refused(grid(pitch), {})


# --- two sizes of a pixel --------------------------------------------------------------------------------------------


def test_two_pixel_sizes_are_refused_unless_the_pitch_decides():
    line = refused(grid(200), {}, um=0.5, embedded=0.05)
    assert line.startswith(
        "S1.h5ad: pixel size: found a pixel of 0.5 um in the metadata and 0.05 um in the slide's tags"
    )
    assert "inter_spot_dist in the metadata decides" in line
    (warning,) = warned(grid(200), VISIUM, um=0.5, embedded=0.05)
    assert warning == "a pixel of 0.5 um in the metadata and 0.05 um in the slide's tags"
    assert warned(grid(200), {}, um=0.5, embedded=0.4) == []
    assert "microns_per_pixel" in refused(grid(16, factors={"microns_per_pixel": 0.25, "x": 1}), {}, um=0.5)


def test_pitch_and_pixel_size_wrong_together_are_refused_by_the_tags():
    line = refused(grid(20), VISIUM | {"inter_spot_dist": 100}, um=5, embedded=0.5, size=(3000, 3000))
    assert "the coordinates fit a smaller picture" in line
    assert len(warned(grid(200), VISIUM, um=0.5, embedded=0.25)) == 1  # larger coordinates would lie off the slide


def test_the_expected_pitch_is_in_words():
    bins = expected_pitch(stated_spots({}, "Visium HD", "m.json"), {"bin_size_um": 24.0})
    assert bins == ((24.0,), 'bin_size_um in uns["spatial"]')
    assert expected_pitch(stated_spots({}, "", "m.json"), {}) is None


@pytest.mark.parametrize("key", ["inter_spot_dist", "spot_diameter"])
@pytest.mark.parametrize("value", ["100", "100 um", True, -100, [100]])
def test_text_in_the_metadata_of_the_spots_is_refused(key, value):
    with pytest.raises(InputError, match=rf"^m\.json: {key}: found"):
        stated_spots({key: value}, "", "m.json")
