"""Claims about the shared style of all figures."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from colours import DEUTERANOPIA, lab
from spotwise import config as configuration
from spotwise.reporting.figures import style
from spotwise.reporting.number_format import number

PREDICTORS = {
    "CMRCNet-50": ("CMRCNet", "method"),
    "CMRCNet-500": ("CMRCNet", "method"),
    "Mine": ("Mine", "method"),
    "TrainMean": ("TrainMean", "control"),
}
REPOSITORY = Path(__file__).parents[2]


def test_lab_of_known_colours():
    np.testing.assert_allclose(lab("#ffffff"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.05)


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA], ids=["normal", "deuteranopia"])
def test_published_methods_differ_in_colour(vision):
    for one, other in combinations(style.METHOD_COLOURS.values(), 2):
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 15, (one, other)


def test_no_colour_serves_two_purposes():
    colours = [*style.METHOD_COLOURS.values(), *style.SPARE_COLOURS]
    assert len(set(colours)) == len(colours)


def test_a_published_method_keeps_its_look_beside_any_others():
    alone = style.method_looks(["BLEEP"])
    crowd = style.method_looks(["BLEEP-Mine", "STNet", "BLEEP", "Yours"], ["TrainMean", "RandomRetrieval"])
    assert alone["BLEEP"] == crowd["BLEEP"] == style.Look(style.METHOD_COLOURS["BLEEP"], "", "o")


def test_unpublished_methods_take_the_spare_colours_in_turn():
    names = [f"Mine{i}" for i in range(len(style.SPARE_COLOURS) + 1)]
    looks = style.method_looks(names)
    assert tuple(looks[name].colour for name in names[:-1]) == style.SPARE_COLOURS
    assert len(set(looks.values())) == len(names)


def test_variants_share_the_hue_of_the_method_in_their_name():
    looks = style.method_looks(["CMRCNet-mask30", "CMRCNet-paper", "CMRCNet-paper-mask30", "Ridge-HEST"])
    for name, parent in (
        ("CMRCNet-mask30", "CMRCNet"),
        ("CMRCNet-paper-mask30", "CMRCNet-paper"),
        ("Ridge-HEST", "Ridge"),
    ):
        hue, of_parent = (rgb_to_hsv(to_rgb(c))[0] for c in (looks[name].colour, style.METHOD_COLOURS[parent]))
        assert hue == pytest.approx(of_parent, abs=0.01)
        assert looks[name].hatch
    assert looks["CMRCNet-paper"].colour == style.METHOD_COLOURS["CMRCNet-paper"]


def configured(name):
    settings = yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))
    configuration.prepare(settings, name)
    return {p.name: (p.method, p.kind) for p in configuration.predictors(settings)}


@pytest.mark.parametrize("name", ["config.yaml", "configs/arena.yaml", "configs/ablations.yaml", "configs/her2st.yaml"])
def test_no_two_methods_or_predictors_of_a_configuration_look_alike(name, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    predictors = configured(name)
    looks = style.predictor_looks(predictors)
    boxes = [(look.colour, look.hatch) for look in looks.values()]
    assert len(set(boxes)) == len(boxes)
    methods = style.method_looks([method for method, kind in predictors.values() if kind != "control"])
    points = [(look.colour, look.marker) for look in methods.values()]
    assert len(set(points)) == len(points)
    if name == "config.yaml":
        assert set(methods) == set(yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))["methods"])


def test_controls_are_greys():
    for look in style.method_looks([], ["TrainMean", "RandomRetrieval", "Oracle"]).values():
        red, green, blue = to_rgb(look.colour)
        assert red == green == blue


def test_predictors_of_a_method_share_its_hue_and_differ_in_hatch():
    looks = style.predictor_looks(PREDICTORS)
    assert looks["CMRCNet-50"].colour == style.METHOD_COLOURS["CMRCNet"].lower()
    assert looks["CMRCNet-500"].colour == style.lighten(style.METHOD_COLOURS["CMRCNet"], 0.35)
    assert looks["CMRCNet-50"].hatch != looks["CMRCNet-500"].hatch


def test_a_look_does_not_depend_on_what_is_drawn_beside_it():
    all_of_them = style.predictor_looks(PREDICTORS)
    assert style.predictor_looks(PREDICTORS, ["TrainMean", "CMRCNet-500"]) == {
        "TrainMean": all_of_them["TrainMean"],
        "CMRCNet-500": all_of_them["CMRCNet-500"],
    }


@pytest.mark.parametrize(("n", "columns", "grid"), [(1, 6, (1, 1)), (6, 6, (1, 6)), (7, 6, (2, 4)), (13, 6, (3, 5))])
def test_wrapped_grids_are_even(n, columns, grid):
    assert style.wrap(n, columns) == grid


def test_numbers_have_two_decimals_and_a_true_minus():
    assert [number(value) for value in (0.347, -0.2, -0.001, float("nan"))] == ["0.35", "−0.20", "0.00", "–"]


def test_files_have_300_dots_per_inch(tmp_path):
    style.save(Figure(figsize=(style.PAGE_WIDTH, 1)), tmp_path / "f.pdf", tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as image:
        assert image.size == (int(180 / 25.4 * 300), 300)
        assert round(image.info["dpi"][0]) == 300


def test_room_is_left_for_a_column_of_the_given_width():
    with style.page():
        fig = Figure(figsize=(3, 2), layout="constrained")
        ax = fig.subplots()
        ax.set_xlim(-0.5, 1)
        style.leave_room(ax, 0.5)
        fig.draw_without_rendering()
    free = ax.get_window_extent().x1 - ax.transData.transform((1, 0))[0]
    assert free / fig.dpi == pytest.approx(0.5, rel=0.05)


def test_long_names_are_broken_at_hyphens_and_numbers_stay_with_their_word():
    assert style.title("CMRCNet-cosine-mask50-50", 3) == "CMRCNet-cosine-mask50-50"
    assert style.title("CMRCNet-cosine-mask50-50", 20 / 25.4) == "CMRCNet-\ncosine-\nmask50-50"
    assert style.title("BLEEP-50-weighted", 14 / 25.4) == "BLEEP-50-\nweighted"


def test_a_failed_save_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (path.write_text("half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        style.save(Figure(), tmp_path / "f.pdf", tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []
