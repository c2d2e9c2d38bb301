"""Which model embeds which slide, and what a run with a section `structure` makes, before any data is there."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """The names that the workflow's plain Python files define for a configuration: changes to a small one."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the files put the package on both
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    sheet = tmp_path / "samples.tsv"
    rows = ["sample cohort patient", "A1 two a", "A2 two a", "B1 two b", "C1 one c"]
    sheet.write_text("\n".join(rows).replace(" ", "\t"))

    def plan(**changes):
        config = {
            "run": "r",
            "samples": str(sheet),
            "data": {"source": "generated", "root": "data"},
            "cohorts": {"two": {"markers": ["CD3E"]}},
            "seeds": [4, 5],
            "encoders": {"mine": {"timm": "resnet18"}},
            "methods": {"CMRCNet": {"neighbours": [50]}, "MicNet": {}},
            "structure": {"spaces": ["MicNet", "CMRCNet", "Expression", "Image"], "encoder": "mine", "domains": 3},
        }
        config = {key: value for key, value in (config | changes).items() if value is not None}
        workflow = SimpleNamespace(basedir=str(ROOT), configfiles=[], config_settings=SimpleNamespace(config={}))
        names = {"config": config, "workflow": workflow}
        for part in ("common", "lookups", "outcomes"):
            exec((ROOT / f"rules/{part}.smk").read_text(encoding="utf-8"), names)
        return SimpleNamespace(**names)

    return plan


def asked(space, sample, cohort="two"):
    return SimpleNamespace(space=space, sample=sample, cohort=cohort)


def test_a_retrieval_method_embeds_a_slide_by_the_model_that_has_not_seen_it(planned):
    plan = planned()
    for fold, sample in enumerate(["A1", "A2", "B1"]):  # the first protocol leaves one slide out
        path = plan.space_weights(asked("CMRCNet", sample))
        assert path == f"<results>/models/{{cohort}}/paper/{{space}}/fold{fold}/seed{{seed}}/weights.safetensors"
        assert plan.space_fold(asked("CMRCNet", sample)) == f"<results>/folds/{{cohort}}/paper/fold{fold}/fold.h5"
        assert plan.FOLDS["two", "paper", fold].test == (sample,)
    patient = planned(cohorts={"two": {"protocols": ["patient"]}})
    folds = [patient.space_fold(asked("CMRCNet", sample)) for sample in ("A1", "A2", "B1")]
    assert folds == [f"<results>/folds/{{cohort}}/patient/fold{fold}/fold.h5" for fold in (0, 0, 1)]


def test_a_clustering_method_embeds_a_slide_by_the_model_of_its_scope(planned):
    folder = "<results>/structure/{cohort}"
    plan = planned()
    assert plan.space_fold(asked("MicNet", "A2")) == f"{folder}/inputs/A2.h5"
    assert plan.space_weights(asked("MicNet", "A2")).startswith(f"{folder}/models/{{space}}/A2/seed{{seed}}/")
    assert plan.space_summary(asked("MicNet", "A2")).endswith("/A2/seed{seed}/summary.json")
    assert plan.scope_samples(SimpleNamespace(cohort="two", scope="A2")) == ["A2"]
    methods = {"CMRCNet": {"neighbours": [50]}, "MicNet": {"scope": "cohort"}}
    plan = planned(methods=methods)
    assert plan.space_fold(asked("MicNet", "A2")) == f"{folder}/inputs/cohort.h5"
    assert plan.scope_samples(SimpleNamespace(cohort="two", scope="cohort")) == ["A1", "A2", "B1"]


def test_slides_stand_side_by_side_only_where_one_model_embeds_them(planned):
    assert not planned().shares_reference("two")
    one_model = {"MicNet": {"scope": "cohort"}}
    spaces = {"spaces": ["MicNet", "Expression"], "domains": 3}
    assert planned(methods=one_model, structure=spaces).shares_reference("two")
    assert not planned(methods=one_model, structure=spaces | {"slides": ["A1"]}).shares_reference("two")
    assert not planned(methods=one_model, structure=spaces | {"spaces": ["Expression", "MicNet"]}).shares_reference(
        "two"
    )
    retrieving = {"structure": {"spaces": ["CMRCNet"], "domains": 3}, "methods": {"CMRCNet": {"neighbours": [50]}}}
    assert not planned(**retrieving).shares_reference("two")
    by_patient = retrieving | {"cohorts": {"two": {"protocols": ["patient"]}}}
    assert not planned(**by_patient).shares_reference("two")
    by_patient["structure"] = {"spaces": ["CMRCNet"], "domains": 3, "slides": ["A1", "A2"]}
    assert planned(**by_patient).shares_reference("two")  # both tested by the fold of patient a


def test_a_space_without_chance_is_made_once_and_stands_in_for_every_seed(planned):
    plan = planned()
    folder = "<results>/structure/two/spaces"
    assert plan.space_file("MicNet", "A1", 5) == f"{folder}/MicNet/seed5/A1.h5"
    assert plan.space_file("Expression", "A1", 5) == f"{folder}/Expression/seed4/A1.h5"
    files, runs = plan.space_files(asked("", "A1")), plan.space_runs()
    assert len(files) == len(runs) == 8
    assert all(f"/{space}/" in path for path, (space, _) in zip(files, runs, strict=True))
    assert plan.reference_space_file(asked("", "A1")) == f"{folder}/MicNet/seed4/A1.h5"


def test_clustering_methods_stand_in_no_list_of_what_predicts(planned):
    plan = planned()
    assert {method for method, _ in plan.models()} == {"CMRCNet"}
    assert plan.trained_methods() == ["CMRCNet"]
    assert "MicNet" not in plan.PREDICTORS
    label = SimpleNamespace(cohort="two", protocol="paper")
    assert not any("MicNet" in name for name in plan.history_labels(label))
    assert any("/two/A1" in path for path in plan.structure_outputs())


def test_a_run_that_only_seeks_structure_makes_nothing_else(planned):
    plan = planned(
        methods={"MicNet": {}}, structure={"spaces": ["MicNet"], "domains": 3}, cohorts={"two": {}, "one": {}}
    )
    assert plan.FOLDS == plan.PREDICTORS == {}
    assert plan.tables() == plan.figures() == plan.model_summaries() == []
    assert plan.run_outputs() == [*plan.structure_outputs(), "<results>/provenance.json"]
    assert any("C1" in path for path in plan.run_outputs())
    without = planned(methods={"CMRCNet": {"neighbours": [50]}}, structure=None)
    assert without.structure_outputs() == []


def test_counts_alone_have_no_patches_and_no_metadata(planned, tmp_path):
    (tmp_path / "st").mkdir()
    for sample in ("A1", "A2", "B1"):
        (tmp_path / f"st/{sample}.h5ad").touch()
    counts = {"source": "local", "root": str(tmp_path), "images": "none"}
    plan = planned(data=counts, methods={}, structure={"spaces": ["Expression"], "domains": 3})
    assert plan.structure_patches(asked("Expression", "A1")) == []
    assert plan.slide_without_patches(asked("", "A1")) == []
    assert plan.metadata_of(asked("", "A1")) == []
    assert plan.run_outputs() == plan.structure_outputs()


@pytest.mark.parametrize("name", ["demo", "arena"])
def test_examples_seek_structure_with_micnet_as_the_reference(name):
    config = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8"))
    assert config["structure"]["spaces"][0] == "MicNet"
