"""What a run consists of, worked out by hand for three slides of two patients."""

import pytest
from planning import planned, wildcards

from spotwise.constants import SHUFFLED
from spotwise.workflow import one_of, times_attempt

METHODS = {
    "CMRCNet": {"neighbours": [1, 50], "matching": ["average", "weighted"]},
    "STNet": {},
    "Ridge": {"encoder": "mine"},
}
CONTROLS = ["TrainMean", "RandomRetrieval", "NoiseCeiling"]


@pytest.fixture
def plan(tmp_path):
    return planned(tmp_path, methods=METHODS, controls=CONTROLS, structure=None)


def test_a_slide_or_a_patient_is_left_out(plan):
    assert [fold.test for fold in plan.folds["two", "paper"]] == [("A1",), ("A2",), ("B1",)]
    assert [fold.test for fold in plan.folds["two", "patient"]] == [("A1", "A2"), ("B1",)]
    assert plan.sections == ["two/paper", "two/patient"]
    fold = wildcards(cohort="two", protocol="patient", fold="1")
    assert plan.training_samples(fold) == ["A1", "A2"]
    assert plan.fold_samples(fold) == ["A1", "A2", "B1"]
    assert plan.fold_patients(fold) == {"A1": "a", "A2": "a", "B1": "b"}
    assert plan.fold_patches(fold) == [f"results/r/samples/{sample}/patches.h5" for sample in ("A1", "A2", "B1")]


def test_a_method_has_a_predictor_for_each_k_and_matching(plan):
    assert plan.predictors_of("CMRCNet") == ["CMRCNet-1", "CMRCNet-50", "CMRCNet-50-weighted"]
    assert plan.predictors_of("STNet") == ["STNet"]
    assert plan.predictors_of("controls") == CONTROLS
    assert plan.methods == ["CMRCNet", "STNet", "Ridge", "controls"]
    assert plan.drawn_predictors == ["CMRCNet-1", "STNet", "Ridge"]
    assert plan.drawn_rivals == ["CMRCNet-1", "STNet", "Ridge", "TrainMean", "RandomRetrieval"]


def test_every_test_slide_is_predicted_by_every_fold_seed_and_predictor(plan):
    files = plan.predictions(wildcards(cohort="two", protocol="patient", method="CMRCNet"))
    assert len(files) == len(set(files)) == 3 * 2 * 3  # predictors, seeds, slides
    assert "fold0/seed5/CMRCNet-50-weighted/A2.h5ad" in files
    assert "fold1/seed4/CMRCNet-1/B1.h5ad" in files
    controls = plan.predictions(wildcards(cohort="two", protocol="paper", method="controls"))
    assert len(controls) == 3 * (1 + 2 + 2)  # TrainMean involves no chance
    assert "fold2/seed4/TrainMean/B1.h5ad" in controls


def test_what_is_deterministic_runs_for_the_first_seed_alone(plan):
    models = list(plan.models)
    assert len(models) == (3 + 2) * (2 + 2 + 1)
    assert [name for name in models if "Ridge" in name and "seed5" in name] == []
    assert plan.timed_models[0] == "train/two/paper/CMRCNet/fold0/seed4.tsv"
    assert plan.timed_models[-1] == "fit_frozen/two/patient/Ridge/fold1/seed4.tsv"


def test_frozen_features_are_asked_for_by_methods_that_use_them(plan):
    fold = {"cohort": "two", "protocol": "paper", "fold": "0"}
    assert plan.embedded_samples(wildcards(**fold, method="Ridge")) == ["A2", "B1"]
    assert plan.embedded_samples(wildcards(cohort="two", protocol="paper", method="Ridge")) == ["A1", "A2", "B1"]
    assert plan.embedded_samples(wildcards(**fold, method="CMRCNet")) == []


def test_a_correction_for_slides_changes_what_a_method_learns_from(tmp_path):
    methods = {
        "CMRCNet": {"neighbours": [5], "harmony": True},
        "STNet": {},
        "EGN": {"encoder": "mine", "targets": "slide_centred"},
        "Ridge": {"encoder": "mine", "targets": "slide_centred", "features": "slide_centred"},
    }
    plan = planned(tmp_path, methods=methods, structure=None)
    fold = {"cohort": "two", "protocol": "patient", "fold": 1}
    files = [plan.training_fold_path(wildcards(method=method, **fold)) for method in methods]
    assert files == [
        f"results/r/folds/two/patient/fold1/{name}.h5"
        for name in ("fold_harmony", "fold", "fold_centred", "fold_centred")
    ]
    assert plan.preparation(wildcards(method="Ridge")) == {
        "harmony": False,
        "targets": "slide_centred",
        "features": "slide_centred",
    }


def test_a_shuffled_control_is_trained_on_its_own_fold_and_stands_among_the_controls(tmp_path):
    plan = planned(tmp_path, methods=METHODS, controls=[*CONTROLS, *SHUFFLED], structure=None)
    fold = {"cohort": "two", "protocol": "patient", "fold": 1}
    assert [plan.training_fold_path(wildcards(method=method, **fold)) for method in SHUFFLED] == [
        "results/r/folds/two/patient/fold1/fold_shuffled_slide.h5",
        "results/r/folds/two/patient/fold1/fold_shuffled_cohort.h5",
    ]
    assert plan.methods == ["CMRCNet", "STNet", "Ridge", "controls", *SHUFFLED]
    assert plan.predictors_of("controls") == CONTROLS
    assert plan.methods_of_kind("retrieval") == ["CMRCNet", *SHUFFLED]  # what rules train and score
    assert plan.settings(wildcards(method="ShuffledAcross")) == [
        {"name": "ShuffledAcross", "k": 1, "matching": "average"}  # the reference is CMRCNet-1
    ]
    kinds = [plan.predictor_kind(wildcards(method=method)) for method in ("CMRCNet", *SHUFFLED)]
    assert kinds == ["method", "control", "control"]
    models = [name for name, method in plan.models.items() if method == "ShuffledAcross"]
    assert len(models) == 3 + 2  # folds, with the first seed alone
    assert plan.preparation(wildcards(method="ShuffledAcross"))["shuffled"] == "cohort"


def test_a_shuffled_control_is_drawn_and_described_as_a_control(tmp_path):
    plan = planned(tmp_path, methods=METHODS, controls=[*CONTROLS, *SHUFFLED], structure=None)
    assert list(plan.entries) == plan.drawn_methods(wildcards(cohort="two", protocol="paper")) == list(METHODS)
    assert plan.trained_controls == list(SHUFFLED)
    assert plan.drawn_predictors == ["CMRCNet-1", "STNet", "Ridge"]
    assert plan.drawn_rivals[-2:] == list(SHUFFLED)
    assert {plan.predictor_kinds[name][1] for name in SHUFFLED} == {"control"}
    drawn = plan.trainings(wildcards(cohort="two", protocol="patient"))
    assert not [name for name in drawn if name.startswith("Shuffled")]


def test_what_a_reference_corrects_is_shuffled_after_it(tmp_path):
    methods = {"Ridge": {"encoder": "mine", "targets": "slide_centred", "features": "slide_centred"}}
    plan = planned(tmp_path, methods=methods, controls=["ShuffledTraining"], structure=None)
    assert plan.training_fold(wildcards(method="ShuffledTraining")) == "fold_centred_shuffled_slide.h5"
    assert plan.methods == ["Ridge", "ShuffledTraining"]
    assert plan.methods_of_kind("frozen") == ["Ridge", "ShuffledTraining"]
    fold = wildcards(cohort="two", protocol="paper", fold="0", method="ShuffledTraining")
    assert plan.embedded_samples(fold) == ["A2", "B1"]


def test_figures_are_those_that_the_run_has_scores_for(plan, tmp_path):
    assert plan.section_figures == ["boxplot", "curves", "neighbours", "ceiling"]
    only = planned(tmp_path, methods={"Ridge": {"encoder": "mine"}}, controls=["TrainMean"], structure=None)
    assert only.section_figures == ["boxplot"]
    assert plan.compares_protocols
    assert not planned(tmp_path, protocols=["paper"], structure=None, methods=METHODS).compares_protocols


def test_settings_that_do_not_decide_a_result_train_nothing_again(plan, tmp_path):
    other = planned(tmp_path, methods=METHODS, structure=None, training={"memory": "map", "save_every_minutes": 1})
    method = wildcards(method="STNet")
    assert plan.training(method) == other.training(method)
    longer = planned(tmp_path, methods=METHODS, structure=None, training={"epochs": 3})
    assert plan.training(method) != longer.training(method)


def test_a_constraint_matches_the_names_and_nothing_else():
    import re

    constraint = re.compile(one_of(["A.1", "B"]))
    assert [bool(constraint.fullmatch(name)) for name in ("A.1", "B", "Ax1", "A", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert not re.fullmatch(one_of([]), "")


def test_a_second_attempt_asks_for_twice_as_much():
    assert [times_attempt(4000)(None, attempt) for attempt in (1, 2, 3)] == [4000, 8000, 12000]


def test_the_controls_depend_on_their_module_and_methods_on_theirs(plan, monkeypatch):
    asked = []
    monkeypatch.setattr("spotwise.workflow.plan.code_version", lambda *names: asked.append(names))
    plan.code("predict_test_slides")(wildcards(method="STNet"))
    plan.code("predict_controls", "spotwise.models.controls")(wildcards(cohort="two"))
    plan.code("score")(wildcards(method="controls"))
    assert asked == [
        ("predict_test_slides", "spotwise.models.stnet"),
        ("predict_controls", "spotwise.models.controls"),
        ("score",),
    ]
