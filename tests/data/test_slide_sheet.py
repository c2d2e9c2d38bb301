"""Claims about the list of slides to predict, in a table or in the configuration."""

import pytest

from spotwise.data.slide_sheet import read_slides
from spotwise.errors import InputError
from spotwise.runtime.validation import UNSET


def table(folder, text):
    path = folder / "slides.tsv"
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return str(path)


def complaint(given):
    with pytest.raises(InputError) as error:
        read_slides(given, "my.yaml")
    told = str(error.value)
    assert "\n" not in told
    return told


def test_a_table_and_a_list_say_the_same(tmp_path):
    of_table = read_slides(table(tmp_path, "slide path um_per_px patient\none a.svs 0.25 P1\ntwo b.tif  \n"), "")
    of_list = read_slides(
        [
            {"slide": "one", "path": "a.svs", "um_per_px": 0.25, "patient": "P1"},
            {"slide": "two", "path": "b.tif"},
        ],
        "",
    )
    assert of_table == of_list
    assert of_list[0].um_per_px == 0.25
    assert of_list[1].um_per_px is UNSET


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("slides/Case 12 (b).ome.tiff", "Case-12-b"),
        ("a.b.svs", "a-b"),
        ("S1.OME.TIF", "S1"),
        ("x", "x"),
        ("€.png", "slide"),
    ],
)
def test_a_slide_is_named_after_its_file(path, name):
    assert [one.slide for one in read_slides([path], "")] == [name]


def test_a_table_of_paths_alone_will_do(tmp_path):
    assert [one.path for one in read_slides(table(tmp_path, "path\na.svs\nb.svs\n"), "")] == ["a.svs", "b.svs"]


def test_a_whole_number_is_a_pixel_size():
    assert read_slides([{"path": "a.svs", "um_per_px": 1}], "")[0].um_per_px == 1.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a/x.svs", "b/X.tif"], "my.yaml: slide: found a/x.svs and b/X.tif, both named X, expected names that differ"),
        (["x.svs", "x.svs"], "both named x"),
        ([3], "my.yaml: predict.slides.0: found 3, expected the path of a slide, or keys with values"),
        ([{"path": "a.svs", "mpp": 0.25}], "predict.slides.0.mpp: found an unknown key, expected"),
        ([{"path": "a.svs", "um_per_px": 0}], "predict.slides.0.um_per_px: found 0.0, expected a number above 0"),
        ([{"path": "a.svs", "um_per_px": True}], "predict.slides.0.um_per_px: found True"),
        ([{"path": "a.svs", "slide": "../up"}], "predict.slides.0.slide: found '../up'"),
        ([{"path": "$NO_SUCH_VARIABLE/a.svs"}], "the environment has no variable NO_SUCH_VARIABLE"),
    ],
)
def test_a_malformed_list_is_refused_in_one_line(given, told):
    assert told in complaint(given)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path um_per_px\na.svs 0,25\n", "row 1: um_per_px: found '0,25', expected micrometres per pixel"),
        ("path mpp\na.svs 0.25\n", "row 1.mpp: found an unknown key"),
        ("path\n", "rows: found none"),
        ("a.svs\nb.svs\n", "header: found 'a.svs', expected columns separated by tabs: slide, path, um_per_px"),
        ("path,um_per_px\na.svs,0.25\n", "header: found columns separated by ','"),
    ],
)
def test_a_malformed_table_is_refused_in_one_line(tmp_path, text, told):
    assert told in complaint(table(tmp_path, text))


def test_a_missing_table_is_named(tmp_path):
    assert "no.tsv" in complaint(str(tmp_path / "no.tsv"))
