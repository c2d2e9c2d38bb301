"""Which model embeds which slide, and what a run with a section `structure` makes, before any data is there."""

import pytest
import yaml
from planning import ROOT, planned, wildcards

from spotwise.workflow import StructurePlan


@pytest.fixture
def structure(tmp_path):
    return lambda **changes: StructurePlan(planned(tmp_path, **changes))


def asked(space, sample):
    return wildcards(space=space, sample=sample, cohort="two", seed="5")


def test_a_retrieval_method_embeds_a_slide_by_the_model_that_has_not_seen_it(structure):
    plan = structure()
    for fold, sample in enumerate(["A1", "A2", "B1"]):  # the first protocol leaves one slide out
        folder = f"results/r/models/two/paper/CMRCNet/fold{fold}/seed5"
        assert plan.model_files(asked("CMRCNet", sample)) == [f"{folder}/weights.safetensors", f"{folder}/model.json"]
        assert plan.fold(asked("CMRCNet", sample)) == f"results/r/folds/two/paper/fold{fold}/fold.h5"
        assert plan.plan.folds["two", "paper"][fold].test == (sample,)
    patient = structure(cohorts={"two": {"protocols": ["patient"]}})
    folds = [patient.fold(asked("CMRCNet", sample)) for sample in ("A1", "A2", "B1")]
    assert folds == [f"results/r/folds/two/patient/fold{fold}/fold.h5" for fold in (0, 0, 1)]


def test_a_clustering_method_embeds_a_slide_by_the_model_of_its_scope(structure):
    folder = "results/r/structure/two"
    plan = structure()
    assert plan.fold(asked("MicNet", "A2")) == f"{folder}/inputs/A2.h5"
    assert plan.model_files(asked("MicNet", "A2"))[0] == f"{folder}/models/MicNet/A2/seed5/weights.safetensors"
    assert plan.scope_samples(wildcards(cohort="two", scope="A2")) == ["A2"]
    plan = structure(methods={"CMRCNet": {"neighbours": [50]}, "MicNet": {"scope": "cohort"}})
    assert plan.fold(asked("MicNet", "A2")) == f"{folder}/inputs/cohort.h5"
    assert plan.scope_samples(wildcards(cohort="two", scope="cohort")) == ["A1", "A2", "B1"]
    assert plan.trainings == [f"two/models/MicNet/cohort/seed{seed}" for seed in (4, 5)]


def test_slides_stand_side_by_side_only_where_one_model_embeds_them(structure):
    assert not structure().shares_reference("two")
    one_model = {"MicNet": {"scope": "cohort"}}
    spaces = {"spaces": ["MicNet", "Expression"], "domains": 3}
    assert structure(methods=one_model, structure=spaces).shares_reference("two")
    assert not structure(methods=one_model, structure=spaces | {"slides": ["A1"]}).shares_reference("two")
    turned = spaces | {"spaces": ["Expression", "MicNet"]}
    assert not structure(methods=one_model, structure=turned).shares_reference("two")
    retrieving = {"structure": {"spaces": ["CMRCNet"], "domains": 3}, "methods": {"CMRCNet": {"neighbours": [50]}}}
    assert not structure(**retrieving).shares_reference("two")
    by_patient = retrieving | {"cohorts": {"two": {"protocols": ["patient"]}}}
    assert not structure(**by_patient).shares_reference("two")
    by_patient["structure"] = {"spaces": ["CMRCNet"], "domains": 3, "slides": ["A1", "A2"]}
    assert structure(**by_patient).shares_reference("two")  # both tested by the fold of patient a


def test_a_space_without_chance_is_made_once_and_stands_in_for_every_seed(structure):
    plan = structure()
    folder = "results/r/structure/two/spaces"
    assert plan.space_file("MicNet", "A1", 5) == f"{folder}/MicNet/seed5/A1.h5"
    assert plan.space_file("Expression", "A1", 5) == f"{folder}/Expression/seed4/A1.h5"
    files = plan.slide_spaces(asked("", "A1"))
    assert len(files) == len(plan.runs) == 8
    assert all(f"/{space}/" in path for path, (space, _) in zip(files, plan.runs, strict=True))
    assert plan.reference_spaces(asked("", "A1")) == [f"{folder}/MicNet/seed4/A1.h5"]
    everywhere = plan.reference_spaces(wildcards(cohort="two"))
    assert everywhere == [f"{folder}/MicNet/seed4/{sample}.h5" for sample in ("A1", "A2", "B1")]


def test_clustering_methods_stand_in_no_list_of_what_predicts(structure):
    plan = structure()
    assert set(plan.plan.models.values()) == {"CMRCNet"}
    assert "MicNet" not in plan.plan.predictors
    assert "MicNet" not in plan.plan.methods
    assert not any("MicNet" in name for name in plan.plan.trainings(wildcards(cohort="two", protocol="paper")))
    assert plan.slide_names == ["two/A1", "two/A2", "two/B1"]


def test_a_run_of_structure_alone_predicts_nothing(structure):
    plan = structure(
        methods={"MicNet": {}}, structure={"spaces": ["MicNet"], "domains": 3}, cohorts={"two": {}, "one": {}}
    )
    assert plan.plan.folds == plan.plan.predictors == plan.plan.models == {}
    assert plan.slide_names[-1] == "one/C1"
    without = structure(methods={"CMRCNet": {"neighbours": [50]}}, structure=None)
    assert without.slides == without.spaces == without.trainings == []


def test_counts_alone_have_no_slide_and_no_metadata(structure, tmp_path):
    (tmp_path / "st").mkdir()
    for sample in ("A1", "A2", "B1"):
        (tmp_path / f"st/{sample}.h5ad").touch()
    counts = {"source": "local", "root": str(tmp_path), "images": "none"}
    plan = structure(data=counts, methods={}, structure={"spaces": ["Expression"], "domains": 3})
    assert not plan.needs_embedding
    assert plan.plan.slide_to_cut(asked("", "A1")) == []
    assert plan.plan.metadata(asked("", "A1")) == []


@pytest.mark.parametrize("name", ["demo", "arena"])
def test_examples_ask_for_structure_with_micnet_as_the_reference(name):
    config = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8"))
    assert config["structure"]["spaces"][0] == "MicNet"
