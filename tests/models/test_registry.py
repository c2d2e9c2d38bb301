"""What the registry knows of the methods without importing torch, against what they are."""

import dataclasses

import pytest

from spotwise.models.encoders import CTRANSPATH
from spotwise.models.pathology import PATHOLOGY, published
from spotwise.models.registry import REGISTRY, is_pathology_encoder, load, options, resolved_options


def test_pathology_encoders_are_known_by_all_their_names():
    assert PATHOLOGY
    for short, encoder in PATHOLOGY.items():
        for name in (short, short.lower(), f"hf-hub:{encoder.repository}", f"hf_hub:{encoder.repository.upper()}"):
            assert published(name.replace("HF_HUB", "hf_hub"))
            assert is_pathology_encoder(name), name
    assert is_pathology_encoder(CTRANSPATH)
    for name in ("resnet50.tv_in1k", "hf-hub:timm/resnet50", "vit_base_patch32_224", "UNI3"):
        assert published(name) is None
        assert not is_pathology_encoder(name), name


@pytest.mark.parametrize("name", [name for name in REGISTRY if REGISTRY[name].kind != "control"])
def test_resolved_options_are_those_of_the_dataclass(name):
    load(name)
    defaults = dataclasses.asdict(options(name, {}))
    assert resolved_options(name, {}) == defaults
    changed = next(iter(defaults))
    assert resolved_options(name, {changed: "other"}) == defaults | {changed: "other"}
