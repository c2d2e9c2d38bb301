"""What is imported where, worked out by hand for three slides of two patients."""

import pytest
from planning import planned, wildcards

from spotwise.errors import InputError
from spotwise.workflow import ExternalPlan

METHODS = {"CMRCNet": {"neighbours": [50]}}
TOOLS = {
    "Both": {"predictions": "both/{cohort}/{protocol}/fold{fold}/{sample}.h5ad", "units": "log_normalised"},
    "Late": {
        "predictions": "late/{sample}.h5ad",
        "units": "counts",
        "protocols": ["patient"],
        "trained_on": "other slides",
    },
}
PAPER, PATIENT = {"cohort": "two", "protocol": "paper"}, {"cohort": "two", "protocol": "patient"}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return planned(tmp_path, methods=METHODS, external=TOOLS, controls=["TrainMean"], structure=None)


def test_methods_of_a_section_are_those_with_predictions_there(plan):
    assert plan.methods == ["CMRCNet", "Both", "Late", "controls"]
    assert plan.section_methods(wildcards(**PAPER)) == ["CMRCNet", "Both", "controls"]
    assert plan.drawn_in_section(wildcards(**PAPER)) == ["CMRCNet-50", "Both"]
    assert plan.drawn_in_section(wildcards(**PATIENT)) == ["CMRCNet-50", "Both", "Late"]
    assert plan.scored == [
        *(f"two/paper/{name}" for name in ("CMRCNet", "Both", "controls")),
        *(f"two/patient/{name}" for name in ("CMRCNet", "Both", "Late", "controls")),
    ]


def test_only_methods_are_trained(plan):
    assert set(plan.models.values()) == {"CMRCNet"}
    assert plan.methods_of_kind("retrieval", "regression", "frozen") == ["CMRCNet"]


def test_a_slide_is_drawn_with_the_predictors_of_its_section(plan):
    files = plan.drawn_predictions(wildcards(**PATIENT, sample="B1"))
    assert files == [f"fold1/seed4/{name}/B1.h5ad" for name in ("CMRCNet-50", "Both", "Late")]
    assert len(plan.drawn_predictions(wildcards(**PAPER, sample="B1"))) == 2


def test_each_tested_slide_has_a_file_in_the_order_of_the_predictions(plan):
    external = ExternalPlan(plan)
    assert external.imports == ["two/paper/Both", "two/patient/Both", "two/patient/Late"]
    paper, patient = wildcards(**PAPER, method="Both"), wildcards(**PATIENT, method="Both")
    assert external.files(paper) == [f"both/two/paper/fold{n}/{name}.h5ad" for n, name in enumerate(("A1", "A2", "B1"))]
    assert external.files(patient)[1:] == ["both/two/patient/fold0/A2.h5ad", "both/two/patient/fold1/B1.h5ad"]
    assert external.tested(patient) == [[0, ["A1", "A2"]], [1, ["B1"]]]
    assert plan.predictions(patient) == [
        "fold0/seed4/Both/A1.h5ad",
        "fold0/seed4/Both/A2.h5ad",
        "fold1/seed4/Both/B1.h5ad",
    ]
    assert list(external.imported)[-3:] == [f"Late/two/patient/{name}" for name in ("A1", "A2", "B1")]
    assert external.imported["Late/two/patient/A2"] == "late/A2.h5ad"
    assert external.trained_on == {"Both": "", "Late": "other slides"}


def test_missing_files_are_named_in_one_line(plan, tmp_path):
    external, late = ExternalPlan(plan), wildcards(**PATIENT, method="Late")
    (tmp_path / "late").mkdir()
    (tmp_path / "late/A1.h5ad").touch()
    with pytest.raises(InputError) as error:
        external.require(late)
    assert str(error.value).startswith(
        "external.Late: predictions: found no file late/A2.h5ad (2 of 3 missing for two under patient), expected "
    )
    for name in ("A2", "B1"):
        (tmp_path / f"late/{name}.h5ad").touch()
    external.require(late)


def test_without_a_method_nothing_is_trained_and_no_cost_is_drawn(tmp_path):
    late = {"Late": TOOLS["Late"]}
    plan = planned(tmp_path, methods={}, external=late, controls=["TrainMean"], encoders={}, structure=None)
    assert plan.models == {}
    assert not [name for name in [*plan.tables, *plan.figures] if "costs" in name]
    assert {"external.csv", "external.md"} <= set(plan.tables)
    assert [name for name in plan.figures if "paper/maps" in name] == []  # there are only controls to draw
    assert [name for name in plan.figures if "patient/maps" in name] != []


def test_without_other_tools_nothing_of_them_is_planned(tmp_path):
    plan = planned(tmp_path, methods=METHODS, structure=None)
    external = ExternalPlan(plan)
    assert (external.imports, external.imported, dict(external.settings)) == ([], {}, {})
    assert "external.csv" not in plan.tables
