"""Claims about the section `external`: where predictions of other tools stand, and what is refused before any job."""

import pytest

from configurations import at, complaint
from spotwise.config import predictors, predicts, prepare, seeds, stands

TOOL = {"predictions": "mine/{protocol}/{sample}.h5ad", "units": "log_normalised"}


@pytest.fixture
def external(small):
    """Two cohorts, one of them with one patient, a method and another tool."""
    small["cohorts"] = {"two": {}, "one": {"protocols": ["paper"]}}
    return at(small, "external", {"MyTool": dict(TOOL)})


def test_another_tool_is_a_predictor_between_methods_and_controls(external):
    prepare(at(external, "controls", ["TrainMean"]))
    found = [(one.name, one.method, one.kind) for one in predictors(external)]
    assert found == [
        ("CMRCNet-50", "CMRCNet", "retrieval"),
        ("MyTool", "MyTool", "external"),
        ("TrainMean", "TrainMean", "control"),
    ]


def test_it_has_one_seed(external):
    prepare(at(external, "seeds", [3, 4]))
    assert seeds(external, "MyTool") == [3]
    assert seeds(external, "CMRCNet") == [3, 4]


def test_it_stands_everywhere_unless_limited(external):
    prepare(external)
    sections = [("two", "paper"), ("two", "patient"), ("one", "paper")]
    assert all(stands(external, "MyTool", *section) for section in sections)


@pytest.mark.parametrize(
    ("limits", "standing"),
    [
        ({"protocols": ["patient"]}, [("two", "patient")]),
        ({"cohorts": ["one"]}, [("one", "paper")]),
        ({"cohorts": ["two"], "protocols": ["paper"]}, [("two", "paper")]),
    ],
)
def test_it_stands_where_it_was_run(external, limits, standing):
    external["external"]["MyTool"] |= limits
    prepare(external)
    sections = [("two", "paper"), ("two", "patient"), ("one", "paper")]
    assert [section for section in sections if stands(external, "MyTool", *section)] == standing
    assert all(stands(external, "CMRCNet", *section) for section in sections)


def test_other_tools_and_controls_are_enough_for_a_run(external):
    external["methods"] = {}
    prepare(external)
    assert predicts(external)
    assert external["evaluation"]["reference"] == "MyTool"


def test_the_reference_stands_everywhere(external):
    external["methods"] = {}
    external["external"]["MyTool"]["protocols"] = ["patient"]
    prepare(external)
    assert external["evaluation"]["reference"] == "TrainMean"
    told = complaint(at(external, "evaluation.reference", "MyTool"))
    assert "evaluation.reference: found 'MyTool', expected one of TrainMean, " in told
    external["evaluation"] = {}
    assert "controls: found none, expected one at least, as no predictor stands in all" in complaint(
        at(external, "controls", [])
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"predictions": "mine.h5ad"}, "external.MyTool.predictions: found 'mine.h5ad', expected a path with {sample}"),
        (
            {"predictions": "{sample}/{seed}.h5ad"},
            "expected a path with {sample} in it and, where files differ by them",
        ),
        ({"predictions": "{sample}/{.h5ad"}, "expected a path with {sample} in it and"),
        ({"units": "log"}, "external.MyTool.units: found 'log', expected one of log_normalised, log_counts, counts"),
        ({"units": "counts", "target_sum": 1e4}, "target_sum: found 10000, expected none for units counts"),
        ({"target_sum": 0}, "external.MyTool.target_sum: found 0, expected a number above 0"),
        ({"trained": "on"}, "external.MyTool.trained: found an unknown key"),
        ({"trained_on": "two\nlines"}, "external.MyTool.trained_on: found 'two\\nlines', expected text in one line"),
        ({"cohorts": ["tow"]}, "external.MyTool.cohorts: found 'tow', expected one of two, one; did you mean 'two'?"),
        ({"protocols": []}, "external.MyTool.protocols: found [], expected one or more values"),
        (
            {"cohorts": ["one"], "protocols": ["patient"]},
            "external.MyTool.protocols: found patient, which none of its cohorts has, expected one that this run has: ",
        ),
    ],
)
def test_faults_are_refused_in_one_line(external, change, told):
    external["external"]["MyTool"] |= change
    assert told in complaint(external)


def test_units_must_be_stated(external):
    del external["external"]["MyTool"]["units"]
    assert "external.MyTool.units: found nothing, expected one of log_normalised, log_counts" in complaint(external)


@pytest.mark.parametrize("name", ["CMRCNet", "TrainMean", "controls"])
def test_names_of_methods_and_controls_are_taken(external, name):
    external["external"] = {name: dict(TOOL)}
    assert f"external.{name}: found {name!r}, expected another name" in complaint(external)


def test_a_name_that_a_predictor_has_is_taken(external):
    external["external"] = {"CMRCNet-50": dict(TOOL)}
    assert "two predictors named CMRCNet-50" in complaint(external)


def test_predictions_need_slides_with_images(external):
    external["methods"] = {}
    told = complaint(at(external, "data.images", "none"))
    assert "external.MyTool: found predictions, expected none where data.images is none" in told


def test_variables_in_the_path_are_expanded(external, monkeypatch):
    monkeypatch.setenv("PREDICTED", "/elsewhere")
    external["external"]["MyTool"]["predictions"] = "${PREDICTED}/{fold}/{sample}.h5ad"
    prepare(external)
    assert external["external"]["MyTool"]["predictions"] == "/elsewhere/{fold}/{sample}.h5ad"


def test_another_format_is_refused_before_any_job(external):
    external["external"]["MyTool"]["predictions"] = "mine/{sample}.csv"
    assert complaint(external) == (
        "my.yaml: external.MyTool.predictions: found 'mine/{sample}.csv', expected a path that ends in .h5ad"
    )
