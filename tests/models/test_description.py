"""Claims about the description of a trained model."""

import dataclasses
import json

import pytest

from spotwise import __version__
from spotwise.constants import FELL_BACK
from spotwise.errors import InputError
from spotwise.models.description import describe, read_description, write_description
from spotwise.models.sizes import Sizes


@pytest.fixture
def description(fold):
    facts = {"patch_px": 32, "image_mean": (0.5, 0.5, 0.5), "image_std": (0.2, 0.2, 0.2), "seed": 3}
    return describe("CMRCNet", {"gene_tokens": 4}, fold, Sizes.of(fold), None, None, **facts)


def test_a_description_is_read_as_it_was_written(description, tmp_path):
    write_description(tmp_path, description)
    assert read_description(tmp_path) == description
    first = (tmp_path / "model.json").read_bytes()
    write_description(tmp_path, read_description(tmp_path))
    assert (tmp_path / "model.json").read_bytes() == first


def test_a_description_says_what_was_trained_on_what(description, fold, tmp_path):
    write_description(tmp_path, description)
    written = json.loads((tmp_path / "model.json").read_text())
    assert written["genes"] == [f"G{gene:02d}" for gene in range(12)]
    assert written["samples"] == ["A", "B"]
    assert written["options"]["gene_tokens"] == 4
    assert written["options"]["masked_fraction"] == 0.5  # the default
    sizes = {"genes": 12, "positions": 6, "features": 0, "training": 50}
    assert written["sizes"] == sizes == dataclasses.asdict(description.sizes)
    given = [written[key] for key in ("method", "kind", "cohort", "protocol", "fold", "seed", "spotwise")]
    assert given == ["CMRCNet", "retrieval", "c", "patient", 0, 3, __version__]


def test_missing_weights_are_noted_only_where_weights_were_published(description):
    for pretrained, note in ((True, ""), (None, ""), (False, "encoder without pretrained weights")):
        assert description.model_copy(update={"pretrained": pretrained}).note == note


def test_features_of_everyday_pictures_are_noted_unless_the_encoder_is_random(description):
    for encoder, pretrained, note in (
        ("imagenet-small", True, "encoder trained on ImageNet, not pathology"),
        ("ImageNet-Small", True, "encoder trained on ImageNet, not pathology"),
        ("imagenet-small", False, "encoder without pretrained weights"),
        ("UNI", True, ""),
        (None, None, ""),
    ):
        assert description.model_copy(update={"encoder": encoder, "pretrained": pretrained}).note == note


@pytest.mark.parametrize(("over", "spots"), [("slide", "each training slide"), ("cohort", "all training slides")])
def test_a_model_trained_on_shuffled_expression_says_so(description, over, spots):
    note = f"CMRCNet trained on expression shuffled over the spots of {spots}"
    assert description.model_copy(update={"shuffled": over}).note == note
    both = description.model_copy(update={"shuffled": over, "fell_back": True})
    assert both.note == f"{note}; {FELL_BACK}"


@pytest.mark.parametrize(
    ("method", "asked", "loaded", "noted"),
    [
        ("BLEEP", "if_available", False, True),
        ("BLEEP", "if_available", True, False),
        ("BLEEP", "no", False, False),
        ("STNet", "if_available", None, False),
    ],
)
def test_random_weights_in_place_of_those_asked_for_are_noted(fold, method, asked, loaded, noted):
    description = describe(method, {"pretrained": asked}, fold, Sizes.of(fold), "x", loaded)
    assert (description.fell_back, description.note == FELL_BACK) == (noted, noted)


def test_what_embedded_patches_say_of_their_encoder_is_noted(fold):
    assert describe("Ridge", {}, fold, Sizes.of(fold), "x", False, fell_back=True).note == FELL_BACK


def test_a_fold_of_another_panel_is_refused(description, fold):
    description.check_panel(fold, "fold.h5")
    for genes, found in (
        (fold.genes[::-1], "other genes, or another order"),
        (["X", *fold.genes[1:]], "12 genes, X among them"),
    ):
        with pytest.raises(InputError, match=rf"fold\.h5: genes: found {found}, expected the 12 genes"):
            description.check_panel(dataclasses.replace(fold, genes=genes), "fold.h5")


def test_a_description_with_a_key_of_another_version_is_refused(description, tmp_path):
    write_description(tmp_path, description)
    path = tmp_path / "model.json"
    for change, key in (({"colour": "red"}, "colour"), ({"genes": 3}, "genes")):
        path.write_text(json.dumps(json.loads(description.model_dump_json()) | change))
        with pytest.raises(InputError, match=rf"model\.json: {key}: found .*train the model again"):
            read_description(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"method": "CMRCNett"}, "method: found 'CMRCNett', expected one of .*did you mean 'CMRCNet'"),
        ({"method": "TrainMean"}, "method: found 'TrainMean', expected one of"),
        ({"kind": "regression"}, "kind: found 'regression', expected retrieval, as CMRCNet is"),
        ({"genes": ["G00"]}, "genes: found 1 genes, expected 12, as in sizes.genes; train the model again: delete "),
        ({"options": {"gene_token": 4}}, "options.gene_token: found an unknown key, .*did you mean 'gene_tokens'"),
    ],
)
def test_a_description_that_fits_no_method_is_refused(description, tmp_path, change, complaint):
    content = json.loads(description.model_dump_json()) | change
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"model\.json: {complaint}"):
        read_description(tmp_path)


def test_a_description_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "model.json").write_bytes(b"{\xff}")
    with pytest.raises(InputError, match=r"model\.json: byte 1: found no UTF-8, .*train the model again: delete "):
        read_description(tmp_path)


def test_the_version_is_noted_and_not_checked(description, tmp_path):
    write_description(tmp_path, description.model_copy(update={"spotwise": "9.9"}))
    assert read_description(tmp_path).spotwise == "9.9"


@pytest.mark.parametrize("key", ["cohort", "protocol", "fold", "samples"])
def test_a_model_of_another_fold_is_refused(description, fold, tmp_path, key):
    description.check_fold(fold, tmp_path)
    other = {"cohort": "d", "protocol": "paper", "fold": 7, "samples": ("A", "C")}[key]
    with pytest.raises(InputError, match=rf"model\.json: {key}: found .*train the model again: delete "):
        description.model_copy(update={key: other}).check_fold(fold, tmp_path)
