"""Checks across settings, the sample sheet and the registry."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from configurations import EXAMPLES, at, complaint, content
from spotwise import config as configuration
from spotwise.config import fold_plans, predictors, prepare
from spotwise.constants import SHUFFLED
from spotwise.errors import InputError
from spotwise.models.registry import REGISTRY, build, without_pretraining


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_configuration_is_accepted(path):
    assert prepare(content(path)) or "hest_bench" in content(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_trained_method_of_an_example_can_be_built(path):
    import torch

    from spotwise.models.sizes import Sizes

    config = content(path)
    prepare(config)
    for settings in config["methods"].values():
        if REGISTRY[settings["model"]].trained:
            given = without_pretraining(settings["model"], settings["options"])
            with torch.device("meta"):
                build(settings["model"], Sizes(genes=10, positions=50, features=64), given)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"neighbours": [50]}, "Ridge retrieves no spots"),
        ({"matching": ["weighted"]}, "Ridge retrieves no spots"),
        ({"training": {"epochs": 2}}, "Ridge is fitted, not trained"),
        ({"harmony": True}, "Ridge is fitted on uncorrected expression"),
    ],
)
def test_settings_that_a_frozen_method_lacks_are_refused(small, settings, why):
    at(small, "encoders.mine.timm", "resnet18")
    key = next(iter(settings))
    told = complaint(at(small, "methods.Ridge", {"encoder": "mine", **settings}))
    assert f"methods.Ridge.{key}: found" in told
    assert f"expected none: {why}" in told


def test_expression_is_corrected_for_slides_in_one_way_only(small):
    at(small, "methods.CMRCNet.harmony", True)
    assert complaint(at(small, "methods.CMRCNet.targets", "slide_centred")) == (
        "my.yaml: methods.CMRCNet.targets: found slide_centred, expected log beside harmony: true, as each of the two "
        "corrects expression for its slide"
    )


def test_a_regression_has_no_features_to_centre_and_is_told_why(small):
    prepare(at(copy.deepcopy(small), "methods.STNet", {"targets": "slide_centred"}))
    assert complaint(at(small, "methods.STNet", {"features": "slide_centred"})) == (
        "my.yaml: methods.STNet.features: found slide_centred, expected none: STNet has no features to centre, and a "
        "constant per slide in its output changes no correlation on a slide"
    )


@pytest.mark.parametrize("key", ["targets", "features"])
def test_a_method_that_centres_by_itself_is_not_given_centred_slides(small, key):
    small["encoders"] = {"mine": {"timm": "resnet18"}}
    small["methods"]["ContextRidge"] = {"encoder": "mine"}
    prepare(copy.deepcopy(small))
    small["methods"]["ContextRidge"][key] = "slide_centred"
    assert complaint(small) == (
        f"my.yaml: methods.ContextRidge.{key}: found slide_centred, expected none: ContextRidge centres slides by its "
        "own options"
    )


def test_targets_and_features_are_as_they_are_by_default(small):
    prepare(small)
    assert [small["methods"]["CMRCNet"][key] for key in ("targets", "features")] == ["log", "raw"]


def test_a_method_that_uses_frozen_features_needs_an_encoder_and_others_refuse_one(small):
    assert "methods.EGN.encoder: found nothing, expected a key of encoders" in complaint(at(small, "methods.EGN", {}))
    del small["methods"]["EGN"]
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, "methods.STNet", {"encoder": "mine"}))
    assert "methods.STNet.encoder: found 'mine', expected none: STNet has its own encoder" in told


@pytest.mark.parametrize("place", ["encoders.mine.checkpoint", "methods.CTransPath.options.checkpoint"])
def test_a_missing_checkpoint_is_reported_before_any_job(small, place):
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, place, "nowhere.pth"))
    assert told == f"my.yaml: {place}: found no file nowhere.pth, expected a file with an encoder's weights"


def test_two_predictors_of_one_name_are_refused(small):
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, "methods.CMRCNet-50", {"model": "Ridge", "encoder": "mine"}))
    assert "two predictors named CMRCNet-50" in told


@pytest.mark.parametrize("settings", [{}, {"model": "Ridge", "encoder": "mine"}])
def test_a_method_with_the_name_of_a_control_is_refused(small, settings):
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, "methods.TrainMean", settings))
    assert told == "my.yaml: methods.TrainMean: found 'TrainMean', expected another name, as a control has this one"


@pytest.mark.parametrize("name", SHUFFLED)
def test_a_method_with_the_name_of_a_trained_control_is_refused_whether_it_is_listed_or_not(small, name):
    told = complaint(at(small, f"methods.{name}", {"model": "STNet"}))
    assert told == f"my.yaml: methods.{name}: found '{name}', expected another name, as a control has this one"


def test_a_trained_control_needs_a_method_as_its_reference(small):
    small |= {"controls": ["TrainMean", "ShuffledAcross"], "evaluation": {"reference": "TrainMean"}}
    assert complaint(small) == (
        "my.yaml: evaluation.reference: found 'TrainMean', expected a method for the control ShuffledAcross to train: "
        "one of CMRCNet-50"
    )


def test_a_trained_control_is_refused_where_no_method_predicts(tissue):
    del tissue["methods"]["CMRCNet"]
    tissue["structure"]["spaces"].remove("CMRCNet")
    assert complaint(at(tissue, "controls", ["ShuffledTraining"])) == (
        "my.yaml: controls: found 'ShuffledTraining', expected no control to train, as no method of the run predicts"
    )


def test_the_reference_of_comparisons_is_a_predictor_of_the_run(small):
    small["evaluation"] = {"reference": "CMRCNet"}
    with pytest.raises(InputError, match=r"evaluation\.reference: found 'CMRCNet', .* did you mean 'CMRCNet-50'"):
        prepare(small)


def test_reading_a_configuration_imports_nothing_heavy():
    program = (
        "import sys, yaml; from spotwise import config; from spotwise.runtime import job, provenance\n"
        "config.prepare(yaml.safe_load(open('config.yaml', encoding='utf-8')))\n"
        "print({'torch', 'scanpy', 'anndata', 'numpy', 'pandas', 'h5py'} & set(sys.modules))"
    )
    source = str(Path(configuration.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_generated_cohort_has_no_patches_to_take(small):
    small["data"] |= {"source": "generated", "images": "patches"}
    assert complaint(small).endswith("expected auto or slides: a generated cohort has slides only")


def test_a_mistyped_unlinked_cohort_is_refused_as_it_would_be_linked(small):
    small["data"]["generated"] = {"unlinked": ["nul"]}
    assert "data.generated.unlinked: found 'nul'" in complaint(small)


def test_a_clustering_method_predicts_nothing_and_is_trained_on_each_slide_by_default(tissue):
    prepare(tissue)
    assert tissue["methods"]["MicNet"]["scope"] == "slide"
    assert tissue["structure"]["slides"] == ["A1", "A2", "B1"]
    assert tissue["structure"]["genes"] == []
    assert "MicNet" not in {predictor.method for predictor in predictors(tissue)}
    assert "CMRCNet" in {predictor.method for predictor in predictors(tissue)}
    assert tissue["evaluation"]["reference"] == "CMRCNet-50"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("structure.spaces", [], "structure.spaces: found []"),
        ("structure.spaces", ["MicNet", "Expresion"], "structure.spaces: found 'Expresion', expected one of CMRCNet"),
        (
            "structure.spaces",
            ["MicNet", "STNet"],
            "structure.spaces: found 'STNet', expected one of CMRCNet, MicNet, Ex",
        ),
        (
            "structure.spaces",
            ["Image"],
            "methods.MicNet: found a clustering method, expected its name among structure.s",
        ),
        ("structure.spaces", ["MicNt"], "structure.spaces: found 'MicNt', expected one of CMRCNet, MicNet, "),
        ("structure.spaces", ["MicNt"], "; did you mean 'MicNet'?"),
        ("structure.slides", ["A1", "C1"], "structure.slides: found 'C1', expected one of A1, A2, B1"),
        ("structure.encoder", "other", "structure.encoder: found 'other', expected a key of encoders: one of mine"),
        ("structure.domains", None, "structure.domains: found null without labels, expected a number of domains, or"),
        ("structure.domains", 1, "structure.domains: found 1, expected an integer of at least 2 or null"),
        ("structure.labels", {"file": "{sample}.csv"}, "structure.labels.column: found nothing"),
        (
            "structure.labels",
            {"column": "d", "file": "labels.csv"},
            "structure.labels.file: found 'labels.csv', expected",
        ),
        ("structure.space", ["Image"], "structure.space: found an unknown key, expected one of domains, encoder"),
        ("methods.MicNet.scope", "patient", "methods.MicNet.scope: found 'patient', expected one of slide, cohort"),
        (
            "methods.MicNet.neighbours",
            [50],
            "methods.MicNet.neighbours: found [50], expected none: MicNet retrieves no",
        ),
        (
            "methods.MicNet.harmony",
            True,
            "methods.MicNet.harmony: found True, expected none: MicNet is fitted on uncorr",
        ),
        ("methods.MicNet.targets", "slide_centred", "expected none: MicNet is trained on uncorrected expression"),
        ("methods.MicNet.features", "slide_centred", "expected none: MicNet embeds slides as they are"),
        (
            "methods.CMRCNet.targets",
            "slide_centred",
            "expected log for a method whose embedding is a space: slides to embed are not corrected",
        ),
        ("methods.CMRCNet.features", "slide_centred", "expected raw for a method whose embedding is a space"),
        ("methods.CMRCNet.harmony", True, "found true, expected false for a method whose embedding is a space: slides"),
        ("methods.MicNet.encoder", "mine", "methods.MicNet.encoder: found 'mine', expected none: MicNet has its own"),
        (
            "methods.CMRCNet.scope",
            "slide",
            "methods.CMRCNet.scope: found slide, expected none: CMRCNet is trained on f",
        ),
        ("methods.Image", {"model": "BLEEP", "neighbours": [50]}, "methods.Image: found a name that a space has"),
        (
            "methods.CMRCNet.training",
            {"clip_norm": 0},
            "methods.CMRCNet.training.clip_norm: found 0, expected a number above 0 or",
        ),
        ("data.images", "none", "methods: found CMRCNet, expected no method where data.images is none"),
    ],
)
def test_a_fault_of_structure_is_reported_in_one_line_with_its_place(tissue, path, value, told):
    assert told in complaint(at(tissue, path, value))


def test_a_clustering_method_without_the_section_is_refused(tissue):
    del tissue["structure"]
    assert "methods.MicNet: found a clustering method, expected its name among" in complaint(tissue)


def test_an_encoder_is_needed_for_images_alone(tissue):
    del tissue["structure"]["encoder"]
    assert "structure.encoder: found nothing, expected a key of encoders" in complaint(copy.deepcopy(tissue))
    tissue["structure"]["spaces"] = ["MicNet", "Expression"]
    prepare(tissue)


def test_structure_without_a_predictor_needs_no_second_slide_and_has_no_folds(small):
    at(small, "methods", {"MicNet": {"scope": "cohort"}})
    at(small, "structure", {"spaces": ["MicNet"], "labels": {"column": "d"}})
    small["cohorts"] = {"single": {}, "one": {}}
    samples = prepare(small)
    assert [sample.sample for sample in samples] == ["C1", "C2", "D1"]
    assert predictors(small) == []
    assert fold_plans(small, samples) == {}
    assert "reference" not in small["evaluation"]


def test_counts_alone_are_enough_for_the_spaces_of_expression(small):
    del small["methods"]
    assert "methods: found nothing, expected a method, predictions under external, or a section structure" in complaint(
        copy.deepcopy(small)
    )
    at(small, "data.images", "none")
    at(small, "structure", {"spaces": ["Expression", "SmoothedExpression"], "domains": 3})
    prepare(copy.deepcopy(small))
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(copy.deepcopy(small), "structure", {"spaces": ["Image"], "encoder": "mine", "domains": 3}))
    assert "structure.spaces: found 'Image', expected Expression or SmoothedExpression, as data.images is none" in told
    at(small, "data.source", "generated")
    assert "data.images: found 'none', expected images, as source generated has them" in complaint(small)


def test_labels_may_be_in_a_file_of_each_slide(tissue, tmp_path):
    at(tissue, "data.root", str(tmp_path))
    at(tissue, "structure.labels", {"column": "d", "file": "labels/{sample}_labels.csv"})
    (tmp_path / "labels").mkdir()
    for sample in ("A1", "A2", "B1"):
        (tmp_path / f"labels/{sample}_labels.csv").touch()
    at(tissue, "structure.domains", None)
    prepare(tissue)
    configuration.require_labels(tissue, "my.yaml")
    assert configuration.label_file(tissue, "A2") == tmp_path / "labels/A2_labels.csv"
    (tmp_path / "labels/A2_labels.csv").unlink()
    with pytest.raises(InputError, match=r"my\.yaml: structure.labels.file: found no file .*A2_labels.csv"):
        configuration.require_labels(tissue, "my.yaml")
    del tissue["structure"]["labels"]["file"]
    assert configuration.label_file(tissue, "A2") is None


def test_options_are_completed_with_their_defaults(small):
    prepare(at(small, "methods.CMRCNet.options", {"temperature": 2}))
    assert small["methods"]["CMRCNet"]["options"]["temperature"] == 2
    assert small["methods"]["CMRCNet"]["options"]["encoder_dim"] == 768


def test_two_methods_may_share_an_anchor_of_options(small):
    shared = {"image_size": 64, "embedding_dim": 32}
    at(small, "methods.CMRCNet.options", shared)
    prepare(at(small, "methods.BLEEP", {"neighbours": [50], "options": shared}))
    assert shared == {"image_size": 64, "embedding_dim": 32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"encoder_heads": 7},
            "methods.CMRCNet.options.encoder_heads: found 7, expected a divisor of encoder_dim (768)",
        ),
        (
            {"masked_fraction": 1.0},
            "masked_fraction: found 1.0, expected a number from 0 to below 1 (share of the tokens'",
        ),
    ],
)
def test_ranges_of_options_are_checked_before_any_job(small, options, message):
    assert message in complaint(at(small, "methods.CMRCNet.options", options))


def test_no_method_may_be_called_as_all_controls_are_in_paths(small):
    small["methods"]["controls"] = {"model": "CMRCNet", "neighbours": [50]}
    with pytest.raises(InputError, match=r"methods\.controls: found 'controls', expected another name"):
        configuration.prepare(small)
