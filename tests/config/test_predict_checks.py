"""Claims about the section `predict`: which models are applied, and what is refused before any job."""

import pytest

from configurations import at, complaint
from spotwise.config import prepare


@pytest.fixture
def applied(small):
    """Configure a retrieval method with two K and a frozen one, applied to a slide."""
    at(small, "methods.CMRCNet.neighbours", [50, 250])
    at(small, "encoders.mine.timm", "imagenet-small")
    at(small, "methods.Ridge.encoder", "mine")
    return at(small, "predict", {"slides": ["a.svs"]})


def test_the_reference_is_applied_by_default(applied):
    prepare(applied)
    assert applied["predict"]["from"] == {"two": ["CMRCNet-50"]}
    assert applied["predict"]["grid"] == {"layout": "hexagonal"}
    assert applied["predict"]["genes"] == "reliable"


def test_a_method_of_context_is_applied_rather_than_the_reference(applied):
    at(applied, "methods.ContextRidge.encoder", "mine")
    prepare(applied)
    assert applied["predict"]["from"] == {"two": ["ContextRidge"]}


def test_the_control_that_tells_chance_joins_the_run_once(applied):
    at(applied, "controls", ["TrainMean"])
    prepare(applied)
    assert applied["controls"] == ["TrainMean", "ShuffledTraining"]
    assert applied["methods"]["ShuffledTraining"]["model"] == "CMRCNet"


def test_a_run_with_that_control_keeps_its_order(applied):
    at(applied, "controls", ["ShuffledTraining", "TrainMean"])
    prepare(applied)
    assert applied["controls"] == ["ShuffledTraining", "TrainMean"]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("predict.slides", 3, "predict.slides: found 3, expected the path of a table of slides, or a list of slides"),
        ("predict.from", {"tow": ["Ridge"]}, "predict.from: found 'tow', expected one of two"),
        ("predict.from", {"two": ["CMRCNet"]}, "predict.from.two: found 'CMRCNet', expected"),
        ("predict.from", {"two": ["TrainMean"]}, "predict.from.two: found 'TrainMean', expected"),
        ("predict.from", {"two": ["Ridge", "Ridge"]}, "each value once"),
        ("predict.grid", {"layout": "round"}, "predict.grid.layout: found 'round', expected"),
        ("predict.grid", {"pitch_um": 0}, "predict.grid.pitch_um: found 0, expected a number above 0"),
        (
            "predict.grid",
            {"layout": "dense", "pitch_um": 20.0},
            "predict.grid.pitch_um: found 20 beside layout dense, expected none, or layout square with that pitch",
        ),
        ("predict.genes", "best", "predict.genes: found 'best', expected reliable, panel, markers, or a list of gene"),
        ("predict.genes", ["A B"], "predict.genes: found ['A B']"),
        ("predict.slide", "a.svs", "predict.slide: found an unknown key, expected"),
        ("data.images", "none", "methods: found CMRCNet, expected no method where data.images is none"),
    ],
)
def test_what_cannot_be_applied_is_refused_in_one_line(applied, path, value, told):
    assert told in complaint(at(applied, path, value))


def test_a_run_without_methods_has_nothing_to_apply(applied):
    applied["methods"] = {}
    at(applied, "external", {"MyTool": {"predictions": "mine/{sample}.h5ad", "units": "counts"}})
    assert "predict: found no method to apply, expected one under methods that predicts" in complaint(applied)
