"""Names of image encoders, known without torch."""

from __future__ import annotations

from collections.abc import Mapping

CTRANSPATH = "ctranspath"
# ResNet50 without its last stage, 1,024 features, as the HEST benchmark runs it; and the timm model that it is cut from
RESNET50_STAGE3, RESNET50 = "resnet50-stage3", "resnet50.tv_in1k"
IMAGENET_SMALL = "imagenet-small"  # of everyday pictures, with weights in a package

# Repository on the Hugging Face hub by short name
REPOSITORIES: Mapping[str, str] = {
    "UNI": "MahmoodLab/UNI",
    "UNI2-h": "MahmoodLab/UNI2-h",
    "Virchow": "paige-ai/Virchow",
    "Virchow2": "paige-ai/Virchow2",
    "H-optimus-0": "bioptimus/H-optimus-0",
    "H-optimus-1": "bioptimus/H-optimus-1",
    "H0-mini": "bioptimus/H0-mini",
    "Prov-GigaPath": "prov-gigapath/prov-gigapath",
    "CONCH": "MahmoodLab/CONCH",
    "GenBio-PathFM": "genbio-ai/genbio-pathfm",
    "Lunit-ViT-S8": "1aurent/vit_small_patch8_224.lunit_dino",
}


def is_named(name: str, short: str, repository: str) -> bool:
    """Tell whether a name is that of an encoder: the short one or ``hf-hub:<repository>``, in upper or lower case."""
    return name.lower() in (short.lower(), f"hf-hub:{repository.lower()}", f"hf_hub:{repository.lower()}")


def is_pathology_encoder(name: str) -> bool:
    """Tell whether a name of an encoder is that of a foundation model of pathology."""
    named = any(is_named(name, short, repository) for short, repository in REPOSITORIES.items())
    return named or name.lower() == CTRANSPATH


def repository_of(name: str) -> str:
    """Return the repository of an encoder by its short name or ``hf-hub:<repository>``, ``""`` for none."""
    known = (repository for short, repository in REPOSITORIES.items() if is_named(name, short, repository))
    return next(known, name.partition(":")[2])


def is_imagenet_small(name: str) -> bool:
    """Tell whether a name is that of the encoder whose weights come with the installation, in upper or lower case."""
    return name.lower() == IMAGENET_SMALL


def licence_of(name: str) -> str:
    """Say what is known of the licence of an encoder's published weights."""
    if is_imagenet_small(name):
        return f"weights of {IMAGENET_SMALL}: Apache-2.0"
    if repository := repository_of(name):
        return f"weights of {name}: terms of huggingface.co/{repository}, which may exclude commercial use"
    return f"weights of {name}: terms of their publisher"
