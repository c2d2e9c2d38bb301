"""Types, ranges and defaults of the settings, and the messages about them."""

import copy

import pytest
import yaml

from configurations import ROOT, at, complaint
from spotwise.config import prepare
from spotwise.config.settings import Config, Encoder
from spotwise.models.ctranspath_options import CTransPathOptions
from spotwise.runtime.validation import validated
from spotwise.training.training_options import OF_THE_RUN, TrainingOptions, TrainingOverrides


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("protocol", "protocols"),
        ("data.sorce", "source"),
        ("data.generated.sed", "seed"),
        ("cohorts.two.marker", "markers"),
        ("expression.hvg_per_slides", "hvg_per_slide"),
        ("training.epoch", "epochs"),
        ("encoders.mine.pretraind", "pretrained"),
        ("methods.CMRCNet.neighbors", "neighbours"),
        ("methods.CMRCNet.training.learning_rates", "learning_rate"),
        ("methods.CMRCNet.options.masked_fractoin", "masked_fraction"),
        ("evaluation.topp", "top"),
    ],
)
def test_a_mistyped_key_is_named_with_the_closest_known_one(small, path, meant):
    told = complaint(at(at(small, "encoders.mine.timm", "resnet18"), path, 1))
    assert path.rpartition(".")[2] in told
    assert told.endswith(f"did you mean {meant!r}?")
    assert told.startswith("my.yaml: ")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("-run", None, "run: found nothing, expected a name of letters"),
        ("-samples", None, "samples: found nothing, expected a path (the sample sheet)"),
        ("run", "../elsewhere", "run: found '../elsewhere', expected a name of letters"),
        ("protocols", ["patients"], "found 'patients', expected one of paper, patient; did you mean 'patient'?"),
        ("protocols", [], "protocols: found []"),
        ("data.source", "huggingface", "data.revision: found nothing, expected a commit"),
        ("training.epochs", 0, "training.epochs: found 0, expected an integer of at least 1 (passes over"),
        (
            "training.batch_size",
            64.0,
            "training.batch_size: found 64.0, expected an integer of at least 2 (spots per step",
        ),
        (
            "training.learning_rate",
            "1e-4",
            "training.learning_rate: found '1e-4', expected a number above 0, written 0.0001",
        ),
        ("training.device", "gpu", "training.device: found 'gpu', expected one of cuda, cpu, auto"),
        ("validation_fraction", 1, "validation_fraction: found 1, expected a number between 0 and 1"),
        ("seeds", [0, 0], "seeds: found [0, 0], expected each value once"),
        ("seeds", [True], "seeds.0: found True, expected an integer from 0 to 4294967295"),
        ("cohorts", {}, "cohorts: found {}"),
        ("cohorts.two", None, "cohorts.two: found None, expected keys with values"),
        ("methods", {"a b": {}}, "methods: found 'a b', expected a name of letters"),
        ("methods", {1: {"model": "BLEEP", "neighbours": [1]}}, "methods: found 1, expected a name of letters"),
        ("methods.CMRCNet.model", "CMRCnet", "methods.CMRCNet.model: found 'CMRCnet'"),
        ("methods.CMRCNet.model", "TrainMean", "methods.CMRCNet.model: found 'TrainMean'"),
        ("methods.Unheard", {}, "methods.Unheard.model: found 'Unheard', expected one of BLEEP, CMRCNet, CTransPath"),
        ("methods.CMRCNet.neighbours", [], "methods.CMRCNet.neighbours: found nothing, expected a list of K"),
        (
            "methods.CMRCNet.neighbours",
            [0],
            "methods.CMRCNet.neighbours.0: found 0, expected an integer of at least 1 (numbers K",
        ),
        ("methods.CMRCNet.encoder", "mine", "methods.CMRCNet.encoder: found 'mine', expected none"),
        ("methods.CMRCNet.options.temperature", "1", "options.temperature: found '1', expected a number above 0"),
        (
            "methods.CMRCNet.options.encoder_depth",
            True,
            "options.encoder_depth: found True, expected an integer of at least 0",
        ),
        (
            "methods.CMRCNet.options.encoder_depth",
            2.0,
            "options.encoder_depth: found 2.0, expected an integer of at least 0",
        ),
        ("methods.CMRCNet.options.detach_target", 1, "options.detach_target: found 1, expected true or false"),
        ("methods.CMRCNet.options.reading", "papers", "reading: found 'papers', expected one of released, paper"),
        (
            "methods.Ridge.encoder",
            "mine",
            "methods.Ridge.encoder: found 'mine', expected a key of encoders: one of none",
        ),
        ("methods.Ridge", {}, "methods.Ridge.encoder: found nothing, expected a key of encoders"),
        (
            "controls",
            ["Trainmean"],
            "controls: found 'Trainmean', expected one of Coordinates, LibrarySize, NeighbourSlide, NoiseCeiling, "
            "Oracle, RandomRetrieval, ShuffledAcross, ShuffledTraining, TrainMean",
        ),
        ("controls", ["CMRCNet"], "controls: found 'CMRCNet'"),
        ("cohorts", {"twoo": {}}, "cohorts.twoo: found no sample of it"),
        ("cohorts", {"single": {"protocols": ["paper"]}}, "cohort single: found one sample, expected at least two"),
        ("cohorts", {"one": {}}, "cohorts.one.protocols: found the patient protocol with one patient (c)"),
        ("samples", "nowhere.tsv", "nowhere.tsv: samples: found no such file"),
    ],
)
def test_a_fault_is_reported_in_one_line_with_its_place(small, path, value, told):
    assert told in complaint(at(small, path, value))


def test_a_key_that_yaml_does_not_read_as_text_is_reported_too(small):
    assert "False: found an unknown key" in complaint({**small, **yaml.safe_load("no: 1")})


def test_what_is_left_out_is_filled_in_at_every_level(small):
    prepare(small)
    assert small["protocols"] == ["paper", "patient"]
    assert small["cohorts"]["two"] == {"markers": [], "genes": [], "protocols": ["paper", "patient"]}
    assert small["data"]["images"] == "auto"
    assert small["data"]["generated"] == {"seed": 0, "spots_across": 15, "unlinked": []}
    assert small["expression"] == {
        "min_counts": 1,
        "target_sum": None,
        "outside": "error",
        "hvg_per_slide": 1000,
    }
    assert small["evaluation"] == {
        "top": 50,
        "extended": [{"top": 150, "k": 250}, {"top": 250, "k": 500}],
        "reference": "CMRCNet-50",
        "bootstrap": 2000,
    }
    assert small["methods"]["CMRCNet"]["model"] == "CMRCNet"
    assert small["methods"]["CMRCNet"]["matching"] == ["average"]


def test_given_values_stay(small):
    said = copy.deepcopy(at(at(small, "training.epochs", 3), "expression.target_sum", 1e4))
    prepare(small)
    assert small["training"]["epochs"] == 3
    assert small["expression"]["target_sum"] == 1e4
    assert small["methods"]["CMRCNet"]["neighbours"] == said["methods"]["CMRCNet"]["neighbours"]


def test_a_methods_own_training_gets_no_defaults(small):
    prepare(at(small, "methods.CMRCNet.training.epochs", 3))
    assert small["methods"]["CMRCNet"]["training"] == {"epochs": 3}  # a default there would hide the run's own value


def test_no_two_defaults_are_one_object(small):
    small["cohorts"]["one"] = {"protocols": ["paper"]}
    prepare(small)
    small["cohorts"]["two"]["markers"].append("X")
    small["cohorts"]["two"]["protocols"].pop()
    assert small["cohorts"]["one"]["markers"] == small["cohorts"]["two"]["genes"] == []
    assert small["protocols"] == ["paper", "patient"]


def test_preparing_twice_changes_nothing(small):
    prepare(small)
    once = copy.deepcopy(small)
    prepare(small)
    assert small == once


def test_a_comment_explains_every_key_of_the_papers_configuration():
    lines = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line[:1].isalpha():
            above = lines[number - 1].startswith("#")
            below = lines[number + 1].startswith("  ")  # a heading: its own keys are explained one by one
            assert above or below or "#" in line, f"{line} goes without a word"


def test_a_mistyped_key_is_reported_before_the_key_that_it_should_have_been(small):
    small["smaples"] = small.pop("samples")
    assert complaint(small).endswith("did you mean 'samples'?")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.learning_rate", float("nan"), "training.learning_rate: found nan, expected a number above 0"),
        ("training.weight_decay", float("inf"), "training.weight_decay: found inf, expected a number of at least 0"),
        ("training.weight_decay", True, "training.weight_decay: found True, expected a number"),
        ("data.generated.seed", 2**32, "found 4294967296, expected an integer from 0 to 4294967295"),
        ("evaluation.extended", [{"top": 1, "kk": 2}], "evaluation.extended.0.kk: found an unknown key"),
        (
            "evaluation.extended",
            [{"top": 1}],
            "evaluation.extended.0.k: found nothing, expected an integer of at least 1",
        ),
        ("encoders.mine", {}, "encoders.mine.timm: found nothing, expected imagenet-small, the name of a timm model"),
        (
            "encoders.mine",
            {"timm": "x", "pretrained": False},
            'expected one of no, if_available, required; quote "no"',
        ),
        ("cohorts.two.markers", ["A B"], "cohorts.two.markers.0: found 'A B', expected a gene symbol without blanks"),
        ("data.revision", None, "data.revision: found None, expected 40 hex digits"),
        ("data", [], "data: found [], expected keys with values"),
        ("structure", None, "structure: found None, expected keys with values"),
    ],
)
def test_a_value_of_another_type_is_refused(small, path, value, message):
    assert message in complaint(at(small, path, value))


def test_a_whole_number_is_a_number_and_stays_as_it_was_written(small):
    prepare(at(small, "training.weight_decay", 0))
    assert repr(small["training"]["weight_decay"]) == "0"


def test_defaults_of_settings_lie_in_their_range():
    """Check defaults like given values, which pydantic does not do by itself."""
    least = {"run": "r", "samples": "s", "data": {"source": "local", "root": "d"}, "cohorts": {"c": {}}}
    filled = validated(Config, least, "x").model_dump(exclude_unset=True)
    assert filled == least
    training = TrainingOptions().model_dump()
    assert validated(TrainingOptions, training, "x").model_dump() == training


def test_a_method_may_override_what_does_not_hold_for_the_whole_run():
    assert [*TrainingOverrides.model_fields, *OF_THE_RUN] == sorted(
        TrainingOptions.model_fields,
        key=lambda name: (name in OF_THE_RUN, list(TrainingOptions.model_fields).index(name)),
    )
    for name, field in TrainingOverrides.model_fields.items():
        shared = TrainingOptions.model_fields[name]
        assert (field.annotation, field.metadata, field.description) == (
            shared.annotation,
            shared.metadata,
            shared.description,
        )


def test_options_of_the_training_that_decide_the_result_are_all_but_where_and_when_it_saves():
    decisive = TrainingOptions(epochs=3).decisive
    assert decisive["epochs"] == 3
    assert set(TrainingOptions.model_fields) - set(decisive) == {"memory", "save_every_minutes"}


@pytest.mark.parametrize(
    ("encoder", "pretrained"),
    [
        ({"timm": "resnet50.tv_in1k"}, "if_available"),
        ({"timm": "imagenet-small"}, "required"),
        ({"timm": "imagenet-small", "pretrained": "no"}, "no"),
        ({"timm": "UNI"}, "required"),
        ({"timm": "conch"}, "required"),
        ({"timm": "ctranspath"}, "required"),
        ({"timm": "hf-hub:MahmoodLab/UNI2-h"}, "required"),
        ({"timm": "hf-hub:somebody/something"}, "required"),
        ({"timm": "UNI", "pretrained": "if_available"}, "if_available"),
        ({"timm": "UNI", "checkpoint": "uni.safetensors"}, "required"),
    ],
)
def test_random_weights_never_replace_gated_ones_unless_that_was_asked_for(encoder, pretrained):
    assert Encoder.model_validate(encoder).pretrained == pretrained


@pytest.mark.parametrize(
    ("options", "pretrained"),
    [
        ({}, "required"),
        ({"image_size": 224}, "required"),
        ({"image_size": 56}, "no"),
        ({"image_size": 56, "checkpoint": "x.pth"}, "required"),
        ({"pretrained": "if_available"}, "if_available"),
    ],
)
def test_ctranspath_requires_its_gated_weights_where_it_is_the_published_network(options, pretrained):
    assert CTransPathOptions.model_validate(options).pretrained == pretrained
