import errno
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

from spotwise.data.hest import (
    read_metadata,
    require_local,
    sample_files,
    slide_size,
    spot_diameter_um,
)
from spotwise.errors import InputError

# --- layout and readers ---------------------------------------------------------------------------------------------


def test_sample_files_follow_the_hest_layout():
    files = sample_files("", "TENX95")
    names = [path.as_posix() for path in (files.counts, files.patches, files.slide, files.metadata)]
    assert names == ["st/TENX95.h5ad", "patches/TENX95.h5", "wsis/TENX95.tif", "metadata/TENX95.json"]
    assert sample_files("data", "TENX95").slide == Path("data/wsis/TENX95.tif")


def test_a_slide_in_a_vendors_format_is_found(tmp_path):
    (tmp_path / "wsis").mkdir()
    (tmp_path / "wsis/S1.svs").touch()
    assert sample_files(tmp_path, "S1").slide == tmp_path / "wsis/S1.svs"
    assert sample_files(tmp_path, "S2").slide == tmp_path / "wsis/S2.tif"


@pytest.mark.parametrize("byte_order_mark", [b"", b"\xef\xbb\xbf"])
def test_metadata_is_read_with_and_without_byte_order_mark(tmp_path, byte_order_mark):
    path = tmp_path / "S1.json"
    path.write_bytes(byte_order_mark + '{"id": "S1", "tissue": "Mühle"}'.encode())
    assert read_metadata(path) == {"id": "S1", "tissue": "Mühle"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"id": "S1"', "line 1: found"),
        (b"", "metadata: found an empty file"),
        (b'{"id": "\xff"}', "byte 8: found a byte that is not UTF-8"),
        (b'["S1"]', "top level: found list"),
        (b'{"id": "S2"}', "id: found 'S2', expected 'S1'"),
        (b"{}", "id: found None, expected 'S1'"),
        (None, "metadata: found no such file"),
    ],
)
def test_unusable_metadata_raises_an_error_of_one_line(tmp_path, content, complaint):
    path = tmp_path / "S1.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_metadata(path)
    assert str(raised.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(raised.value)


# --- what the metadata and the file say about a slide ----------------------------------------------------------------


def test_missing_local_file_is_named_before_a_run(tmp_path):
    files = sample_files(tmp_path, "S1")
    for path, complaint in (
        (files.counts, "no st/S1.h5ad"),
        (files.metadata, "no metadata/S1.json"),
        (files.patches, "no patches/S1.h5 or wsis/S1.tif"),
    ):
        with pytest.raises(InputError, match=f"files of S1: found {complaint}, "):
            require_local(tmp_path, ["S1"], "auto")
        path.parent.mkdir()
        path.touch()
    require_local(tmp_path, ["S1"], "auto")
    with pytest.raises(InputError, match=r"found no wsis/S1\.tif, "):
        require_local(tmp_path, ["S1"], "slides")


def test_a_run_without_images_needs_counts_only(tmp_path):
    with pytest.raises(InputError, match=r"found no st/S1\.h5ad, "):
        require_local(tmp_path, ["S1"], "none")
    (tmp_path / "st").mkdir()
    (tmp_path / "st/S1.h5ad").touch()
    require_local(tmp_path, ["S1"], "none")


def test_slide_size_is_width_and_height():
    assert slide_size({"fullres_px_width": 9272, "fullres_px_height": 9923.0}, "m.json") == (9272, 9923)


@pytest.mark.parametrize("height", [None, 0, -5, "9923", True, float("nan"), 9923.5, float("inf"), [9923], {}])
def test_invalid_slide_sizes_are_refused(height):
    with pytest.raises(InputError, match=r"^m\.json: fullres_px_height: found"):
        slide_size({"fullres_px_width": 9272, "fullres_px_height": height}, "m.json")


@pytest.mark.parametrize("blank", [{}, {"spot_diameter": None}, {"spot_diameter": float("nan")}, {"spot_diameter": ""}])
def test_spots_are_as_wide_as_stated_or_as_hests_xenium_bins(blank):
    assert spot_diameter_um({"spot_diameter": 55}, "m.json") == 55
    assert spot_diameter_um({"spot_diameter": np.float32(55)}, "m.json") == 55
    assert spot_diameter_um(blank, "m.json") == 100


@pytest.mark.parametrize("value", ["55", "0,5", "n/a", True, np.True_, [55], 0, -55.0, float("inf")])
def test_numbers_of_the_metadata_are_numbers(value):
    with pytest.raises(InputError, match=r"^m\.json: spot_diameter: found .*, expected the diameter of a spot in micro"):
        spot_diameter_um({"spot_diameter": value}, "m.json")
