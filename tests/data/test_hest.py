import errno
from pathlib import Path

import numpy as np
import pytest

from spotwise.data import hest
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


@pytest.mark.parametrize("name", ["S1.svs", "S1.SVS", "S1.TIF", "S1.ome.tif", "S1.OME.TIFF", "S1.ndpi", "S1.Mrxs"])
def test_a_slide_is_found_under_any_known_name(tmp_path, name):
    (tmp_path / "wsis").mkdir()
    for other in ("S10.tif", "S1_macro.tif", "S1.png", "S1.json"):
        (tmp_path / "wsis" / other).touch()
    (tmp_path / "wsis" / name).touch()
    assert sample_files(tmp_path, "S1").slide == tmp_path / "wsis" / name
    assert sample_files(tmp_path, "S2").slide == tmp_path / "wsis/S2.tif"


def test_a_slide_is_found_for_an_id_with_dots(tmp_path):
    (tmp_path / "wsis").mkdir()
    (tmp_path / "wsis/TCGA-00-0000-01Z-00-DX1.0A0B0C.svs").touch()
    assert sample_files(tmp_path, "TCGA-00-0000-01Z-00-DX1.0A0B0C").slide.name.endswith(".0A0B0C.svs")
    assert sample_files(tmp_path, "TCGA-00-0000-01Z-00-DX1").slide.name == "TCGA-00-0000-01Z-00-DX1.tif"


@pytest.mark.parametrize("names", [("S1.svs", "S1.tif"), ("S1.TIF", "S1.ome.tif")])
def test_two_slides_of_one_sample_are_refused(tmp_path, names):
    (tmp_path / "wsis").mkdir()
    for name in names:
        (tmp_path / "wsis" / name).touch()
    with pytest.raises(InputError, match=f"wsis: slide: found {' and '.join(names)}, expected one slide of a sample"):
        require_local(local(tmp_path), ["S1"], "slides")


def local(folder):
    """Write counts and metadata of S1."""
    files = sample_files(folder, "S1")
    for path in (files.counts, files.metadata):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (None, "no slide wsis/S1.tif, expected the slide as wsis/S1 with .tif, .tiff, .ome.tif, .*, in upper or lower"),
        (
            "S1.png",
            r"wsis/S1\.png, which is no slide, expected a slide: vips tiffsave .*S1.png .*S1.tif --tile --pyramid",
        ),
        ("S1.JP2", r"wsis/S1\.JP2, which is no slide, expected a slide: vips tiffsave "),
        ("S1.tif.gz", r"wsis/S1\.tif\.gz, which is no slide, expected the slide as wsis/S1 with \.tif"),
    ],
)
def test_accepted_names_and_the_remedy_are_named_where_there_is_no_slide(tmp_path, name, line):
    if name:
        (tmp_path / "wsis").mkdir()
        (tmp_path / "wsis" / name).touch()
    with pytest.raises(InputError, match=f"files of S1: found {line}"):
        require_local(local(tmp_path), ["S1"], "slides")
    with pytest.raises(InputError, match=r"files of S1: found .* and no patches/S1\.h5, expected ") as error:
        require_local(tmp_path, ["S1"], "auto")
    assert (name or "wsis/S1.tif") in str(error.value)


def unlisted(path, modified_ns):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_files_that_may_not_be_read_are_named_before_a_run(tmp_path, monkeypatch):
    files = sample_files(local(tmp_path), "S1")
    files.hest_slide.parent.mkdir()
    monkeypatch.setattr(hest, "_listed", unlisted)
    with pytest.raises(
        InputError, match="wsis: folder: found no permission to read it, expected a folder with the slid"
    ):
        require_local(tmp_path, ["S1"], "slides")
    files.patches.parent.mkdir()
    files.patches.symlink_to("gone.h5")
    with pytest.raises(InputError, match=r"S1\.h5: link: found a link to gone\.h5, which does not exist"):
        require_local(tmp_path, ["S1"], "auto")
    files.patches.unlink()
    files.patches.mkdir()
    with pytest.raises(InputError, match=r"S1\.h5: file: found a folder"):
        require_local(tmp_path, ["S1"], "patches")


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
        (files.hest_slide, "no slide wsis/S1.tif and no patches/S1.h5"),
    ):
        with pytest.raises(InputError, match=f"files of S1: found {complaint}, "):
            require_local(tmp_path, ["S1"], "auto")
        path.parent.mkdir()
        path.touch()
    require_local(tmp_path, ["S1"], "auto")
    with pytest.raises(InputError, match=r"found no patches/S1\.h5, "):
        require_local(tmp_path, ["S1"], "patches")


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
    with pytest.raises(
        InputError, match=r"^m\.json: spot_diameter: found .*, expected the diameter of a spot in micro"
    ):
        spot_diameter_um({"spot_diameter": value}, "m.json")


@pytest.mark.parametrize(
    ("n_spots", "n_genes", "warned"), [(181, 15721, False), (180, 15721, False), (181, 3000, False), (184, 15842, True)]
)
def test_counts_of_another_sample_than_the_metadata_are_noticed(n_spots, n_genes, warned):
    stated = {"spots_under_tissue": 181, "nb_genes": 15721}
    assert (hest.other_sample_warning(stated, n_spots, n_genes) is not None) == warned
    assert hest.other_sample_warning({}, n_spots, n_genes) is None
    assert hest.other_sample_warning({"spots_under_tissue": None, "nb_genes": float("nan")}, n_spots, n_genes) is None
