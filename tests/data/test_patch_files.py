"""Patch files are read, joined to the spots by barcode, and refused where they do not show them."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from spotwise.constants import DROPPED
from spotwise.data.patch_files import join_patches, match_patches, picture_warnings, read_patches_index
from spotwise.errors import InputError


def test_spots_and_patches_are_joined_by_barcode():
    rows = match_patches(["c", "a", "d"], ["a", "b", "c", "d"], "patches.h5")
    assert rows.tolist() == [1, -1, 0, 2]


def test_a_patch_of_no_spot_is_refused():
    with pytest.raises(InputError, match=r"patches.h5: barcode: found 1 barcodes of no spot, e.g. 'a-1'"):
        match_patches(["a-1", "b"], ["a", "b"], "patches.h5")


@pytest.mark.parametrize(
    "labels", [np.array([b"a", b"bb"]), np.array([[b"a"], [b"bb"]]), np.array(["a", "bb"], object)]
)
def test_older_patch_files_are_read(tmp_path, labels):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["img"] = np.zeros((2, 256, 256, 3), np.uint8)
        file["barcode"] = labels
    barcodes, coords, attrs = read_patches_index(tmp_path / "old.h5")
    assert barcodes.tolist() == ["a", "bb"]
    assert coords is None
    assert attrs == {}


GOOD = {"img": np.zeros((2, 8, 8, 3), np.uint8), "barcode": np.array([[b"a"], [b"b"]]), "coords": np.zeros((2, 2), int)}
MALFORMED = {
    "no images": ({"img": None}, "img: found coordinates without images"),
    "no barcodes": ({"barcode": None}, "barcode: found no such dataset"),
    "float images": ({"img": GOOD["img"].astype("f4")}, "img: found float32"),
    "grey images": ({"img": GOOD["img"][..., 0]}, "img: found uint8"),
    "RGBA images": ({"img": np.zeros((2, 8, 8, 4), np.uint8)}, "img: found uint8"),
    "killed writer": ({"img": GOOD["img"][:1]}, "img: found 1 patches, expected 2"),
    "numbers as barcodes": ({"barcode": np.arange(2)}, "barcode: found dtype int64"),
    "two columns of barcodes": ({"barcode": np.array([[b"a", b"b"]])}, "barcode: found shape"),
    "one barcode twice": ({"barcode": np.array([b"a", b"a"])}, "barcode: found a 2 times"),
    "no UTF-8": ({"barcode": np.array([b"\xff", b"a"])}, "barcode: found barcodes that are not UTF-8"),
    "nothing": ({"img": GOOD["img"][:0], "barcode": GOOD["barcode"][:0]}, "barcode: found shape"),
    "three coordinates": ({"coords": np.zeros((2, 3), int)}, "coords: found int64"),
    "coordinates of text": ({"coords": np.zeros((2, 2), "S3")}, r"coords: found \|S3"),
    "NaN": ({"coords": np.full((2, 2), np.nan)}, "coords: found values that are not finite"),
}


@pytest.mark.parametrize(("change", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_patch_file_is_refused_in_one_line(tmp_path, change, message):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        for name, content in {**GOOD, **change}.items():
            if content is not None:
                file[name] = content
    with pytest.raises(InputError, match=message) as error:
        read_patches_index(tmp_path / "bad.h5")
    assert "bad.h5" in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_or_missing_patch_file_is_refused(tmp_path):
    path = tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("barcode", data=GOOD["barcode"])
        file.create_dataset("img", data=np.ones((2, 64, 64, 3), np.uint8), chunks=(1, 64, 64, 3))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cut\.h5"):
        read_patches_index(path)
    with pytest.raises(InputError, match=r"absent\.h5"):
        read_patches_index(tmp_path / "absent.h5")


def test_damaged_last_patch_is_found(tmp_path):
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("barcode", data=GOOD["barcode"])
        noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
        images = file.create_dataset("img", data=noise, chunks=(1, 64, 64, 3), compression="gzip")
        last = images.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[last.byte_offset : last.byte_offset + last.size] = bytes(last.size)
    path.write_bytes(content)
    with pytest.raises(InputError, match="img: found unreadable patches"):
        read_patches_index(path)


# --- joining to the spots ---------------------------------------------------------------------------------------------

UM_PER_PX, SIDE = 0.5, 224
CENTRES = np.array([[200 + 200 * x, 200 + 200 * y] for y in range(3) for x in range(4)], dtype=float)
BARCODES = [f"{y:03d}x{x:03d}" for y in range(3) for x in range(4)]
CORNERS = CENTRES - SIDE / 2


def spots(barcodes=BARCODES, centres=CENTRES, dropped=()):
    counts = anndata.AnnData(np.ones((len(barcodes), 1)), pd.DataFrame(index=list(barcodes)))
    counts.obsm["spatial"], counts.uns[DROPPED] = centres, list(dropped)
    return counts


def write(path, coords=CORNERS, barcodes=BARCODES, px=SIDE, scale=UM_PER_PX, attrs=True, name="barcode", side=None):
    """As HEST's writer, with black patches."""
    with h5py.File(path, "w") as file:
        images = file.create_dataset("img", data=np.zeros((len(barcodes), px, px, 3), np.uint8), chunks=(1, px, px, 3))
        file[name] = np.array(barcodes, dtype="S")[:, None]
        if coords is not None:
            file["coords"] = coords
        if attrs:
            images.attrs.update(patch_size_src=side or round(112 / scale), downsample=0.5 / scale, pixel_size=scale)
    return path


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"coords": CORNERS.astype(np.int64)},
        {"coords": CORNERS.astype(np.float32) + 0.4},
        {"name": "barcodes"},
        {"barcodes": [f"{barcode}  " for barcode in BARCODES]},
        {"barcodes": [f"b'{barcode}'" for barcode in BARCODES]},
        {"attrs": False},
        {"scale": 0.505},
    ],
    ids=[
        "as HEST",
        "integers",
        "fractions",
        "barcodes",
        "padded",
        "bytes as text",
        "without attributes",
        "1 % off the metadata's scale",
    ],
)
def test_valid_forms_of_a_patch_file_are_joined_without_a_warning(tmp_path, form):
    joined = join_patches(write(tmp_path / "S1.h5", **form), spots(), UM_PER_PX)
    assert joined.rows.tolist() == list(range(12))
    assert joined.facts == {"n_spots_without_patch": 0, "n_patches_of_dropped_spots": 0}
    assert joined.warnings == []


def test_spots_and_patches_without_a_counterpart_are_counted(tmp_path):
    path = write(tmp_path / "S1.h5", CORNERS[:10], BARCODES[:10])
    joined = join_patches(path, spots(BARCODES[2:], CENTRES[2:], dropped=BARCODES[:2]), UM_PER_PX)
    assert joined.rows.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, -1, -1]
    assert joined.facts == {"n_spots_without_patch": 2, "n_patches_of_dropped_spots": 2}
    assert joined.warnings == [
        "2 of 10 spots have no patch and are left out",
        "2 patches belong to spots that were dropped and are left out",
    ]


ODD = {
    "a little off": ({"coords": CORNERS + 9}, "patches lie 9 px from their spots in the median"),
    "no corners": ({"coords": None}, "no coords: whether patches lie on their spots cannot be checked"),
    "3 % another scale": (
        {"scale": 0.515, "coords": CENTRES - 217 / 2},
        "patches were cut at 0.515 um/px, the metadata state 0.5 um/px",
    ),
    "less tissue": ({"coords": CORNERS + 30, "side": 164}, "patches cover 82 um of tissue, not 112 um"),
}


@pytest.mark.parametrize(("form", "warning"), ODD.values(), ids=ODD)
def test_what_is_odd_about_patches_is_a_warning(tmp_path, form, warning):
    path = write(tmp_path / "S1.h5", **form)
    (found,) = join_patches(path, spots(), UM_PER_PX).warnings
    assert warning in found


MISPLACED = {
    "corners that are centres": (CENTRES, "found the spots' own centres, expected top-left corners"),
    "cut above and left of the spot": (
        CENTRES - SIDE,
        "found patches that lie (-112, -112) px from their spots in the",
    ),
    "centres, rounded": (CENTRES + 1, "found the spots' own centres"),
    "rows before columns": (CORNERS[:, ::-1], "found corners as (y, x), expected (x, y)"),
    "half a patch in x alone": (CENTRES - [0, SIDE / 2], "found patches that lie (112, 0) px from their spots"),
    "of another scale": (CORNERS * 2, "found 11 of 12 patches off their spots, first 000x001 by"),
}


@pytest.mark.parametrize("attrs", [True, False], ids=["with its side", "without its side"])
@pytest.mark.parametrize(("coords", "found"), MISPLACED.values(), ids=MISPLACED)
def test_patches_that_lie_elsewhere_are_refused(tmp_path, coords, found, attrs):
    path = write(tmp_path / "S1.h5", coords, attrs=attrs)
    with pytest.raises(InputError, match=r"S1\.h5: coords: found ") as error:
        join_patches(path, spots(), UM_PER_PX)
    assert found in str(error.value)


def test_the_side_is_taken_from_whatever_states_it(tmp_path):
    path = write(tmp_path / "S1.h5", CENTRES, attrs=False)
    for attributes in ({"patch_size_src": SIDE}, {"downsample": 1.0}, {"pixel_size": [0.5]}, {}):
        with h5py.File(path, "r+") as file:
            file["coords"].attrs.update(attributes)
        with pytest.raises(InputError, match="coords: found the spots' own centres"):
            join_patches(path, spots())
        with h5py.File(path, "r+") as file:
            for name in attributes:
                del file["coords"].attrs[name]


def test_a_pixel_size_of_another_objective_is_refused(tmp_path):
    path = write(tmp_path / "S1.h5", CENTRES - 224, scale=0.25)
    with pytest.raises(InputError, match=r"pixel_size: found 0\.25 um/px, expected 0\.5 um/px, as in the metadata"):
        join_patches(path, spots(), UM_PER_PX)


DIFFERENT = {
    "suffix": ([f"{barcode}-1" for barcode in BARCODES], "a suffix such as '-1' is on one side only"),
    "unpadded": ([f"{int(b[:3])}x{int(b[4:])}" for b in BARCODES], "numbers are padded with zeros on one side only"),
    "case": ([barcode.upper() for barcode in BARCODES], "upper and lower case differ"),
    "prefix": ([f"S1_{barcode}" for barcode in BARCODES], "a prefix such as the sample's id is on one side only"),
}


@pytest.mark.parametrize(("labels", "reason"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_failed_join_shows_both_sides_and_the_likely_reason(labels, reason):
    for patches, names in ((labels, BARCODES), (BARCODES, labels)):
        with pytest.raises(InputError) as error:
            match_patches(patches, names, "S1.h5")
        assert str(error.value) == (
            f"S1.h5: barcode: found 12 barcodes of no spot, e.g. {min(patches)!r} (of 12 patches), "
            f"expected barcodes of the counts, e.g. {names[0]!r} (of 12 spots); {reason}"
        )


def test_a_failed_join_names_no_reason_where_there_is_none():
    with pytest.raises(InputError) as error:
        match_patches(["AAACAAGTATCTCCCA-1"], BARCODES, "S1.h5")
    assert str(error.value).endswith("expected barcodes of the counts, e.g. '000x000' (of 12 spots)")


OTHERS = {
    "CLAM": ({"imgs": 1, "coords": 1}, "img: found a CLAM file: a grid of patches (imgs) without barcodes of spots"),
    "imgs with barcodes": (
        {"imgs": 1, "barcode": 1},
        "img: found the images under the name imgs, expected the name img",
    ),
    "TRIDENT": ({"coords": 1}, "img: found coordinates without images, as TRIDENT and CLAM write them"),
    "features": ({"features": 1, "coords": 1}, "img: found features of an encoder, no images"),
    "counts": ({"X": 1, "obs": 1}, "img: found no such dataset among X, obs"),
}


@pytest.mark.parametrize(("datasets", "found"), OTHERS.values(), ids=OTHERS)
def test_files_of_other_programs_are_named(tmp_path, datasets, found):
    with h5py.File(tmp_path / "S1.h5", "w") as file:
        file.update(datasets)
    with pytest.raises(InputError) as error:
        read_patches_index(tmp_path / "S1.h5")
    assert str(error.value).startswith(f"{tmp_path}/S1.h5: {found}")
    assert ", expected " in str(error.value)


@pytest.mark.parametrize(
    ("colour", "warning"),
    [
        ((0, 0, 0), "the picture of the patches shows nothing but the colour (0, 0, 0) around the spots"),
        ((20, 20, 90), "the picture of the patches is dim (brightness 9"),
        ((160, 160, 160), "the picture of the patches has no colours around the spots: is it stained?"),
        ((200, 150, 190), ""),
    ],
)
def test_patches_that_do_not_look_stained_are_a_warning(tmp_path, colour, warning):
    path = write(tmp_path / "S1.h5")
    with h5py.File(path, "r+") as file:
        if any(colour):
            shades = np.random.default_rng(0).integers(-9, 9, (12, SIDE, SIDE, 1))
            file["img"][...] = (np.array(colour) + shades).astype(np.uint8)
    found = picture_warnings(path, np.array([3, -1, *range(4, 12), 0, 1]))
    assert len(found) == bool(warning)
    assert "".join(found).startswith(warning)
