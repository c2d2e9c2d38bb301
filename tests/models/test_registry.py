"""What is known of the methods without importing torch, against what they are."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.encoder_names import CTRANSPATH, IMAGENET_SMALL, REPOSITORIES, is_pathology_encoder
from spotwise.models.pathology import PATHOLOGY, published
from spotwise.models.registry import REGISTRY, load, options_class, resolved_options

ROOT = Path(__file__).parents[2]
WITH_OPTIONS = [name for name, entry in REGISTRY.items() if entry.kind != "control"]

VERBS = {
    "retrieval": ("loss", "embed_images", "embed_expression"),
    "regression": ("loss", "predict"),
    "clustering": ("loss", "validate", "embed_images", "embed_expression"),
    "frozen": ("fit", "predict"),
    "control": ("predict",),
}


@pytest.mark.parametrize("name", REGISTRY)
def test_the_registry_names_classes_with_the_verbs_of_their_kind(name):
    from spotwise.models.base import Method

    assert load(name).__name__ == name
    for verb in VERBS[REGISTRY[name].kind]:
        own = getattr(load(name), verb)
        assert callable(own)
        assert own is not getattr(Method, verb, None), f"{name} leaves {verb} to the base class"


def test_the_import_contract_names_every_method_but_the_one_that_is_an_encoder_too():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["name"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    named = contracts["Methods do not import each other"]["modules"]
    registered = {f"spotwise.models.{entry.module}" for entry in REGISTRY.values()}
    assert set(named) == registered - {"spotwise.models.ctranspath"}


def test_options_are_checked_without_importing_their_method():
    program = "import sys; from spotwise.models import registry\n" + "\n".join(
        f"registry.options({name!r}, {{}})" for name in WITH_OPTIONS
    )
    program += "\nprint({'torch', 'timm', 'numpy', 'scipy', 'sklearn'} & set(sys.modules))"
    source = str(Path(registry.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_defaults_of_options_lie_in_their_range(name):
    """Check defaults like given values, which pydantic does not do by itself."""
    defaults = options_class(name)().model_dump()
    assert defaults
    assert resolved_options(name, defaults) == defaults
    assert resolved_options(name, {}) == defaults


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option_has_a_default_and_a_description(name):
    for key, field in options_class(name).model_fields.items():
        assert not field.is_required(), key
        assert field.description, key
        with pytest.raises(InputError, match=f"^{name}: {key}: found b'', expected .*"):
            registry.options(name, {key: b""})


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_an_unknown_option_is_refused_with_those_that_are_known(name):
    known = sorted(options_class(name).model_fields)
    with pytest.raises(InputError) as error:
        registry.options(name, {f"{known[0]}x": 0})
    assert str(error.value) == (
        f"{name}: {known[0]}x: found an unknown key, expected one of {', '.join(known)}; did you mean {known[0]!r}?"
    )


def test_an_integer_is_a_number_but_a_truth_value_is_none():
    registry.options("CMRCNet", {"temperature": 1})
    with pytest.raises(InputError, match="masked_fraction: found True"):
        registry.options("CMRCNet", {"masked_fraction": True})


def test_pathology_encoders_are_known_by_all_their_names():
    assert PATHOLOGY
    for short, encoder in PATHOLOGY.items():
        for name in (short, short.lower(), f"hf-hub:{encoder.repository}", f"hf_hub:{encoder.repository.upper()}"):
            assert published(name) is encoder
            assert is_pathology_encoder(name), name
    assert is_pathology_encoder(CTRANSPATH)
    assert set(REPOSITORIES) == set(PATHOLOGY)
    for name in ("resnet50.tv_in1k", "hf-hub:timm/resnet50", "vit_base_patch32_224", "UNI3", IMAGENET_SMALL):
        assert published(name) is None
        assert not is_pathology_encoder(name), name
