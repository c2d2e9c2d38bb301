"""Names of image encoders, known without torch."""

from __future__ import annotations

from collections.abc import Mapping

CTRANSPATH = "ctranspath"
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


def is_imagenet_small(name: str) -> bool:
    """Tell whether a name is that of the encoder whose weights come with the installation, in upper or lower case."""
    return name.lower() == IMAGENET_SMALL
