"""A trained model on disk, without a training: any network, described as a training describes it."""

from safetensors.torch import save_model

from spotwise.models.description import WEIGHTS, describe, write_description
from spotwise.models.images import IMAGENET_MEAN, IMAGENET_STD
from spotwise.models.sizes import Sizes

# Of each retrieval method a small network
VIT = {"image_size": 32, "patch_size": 16, "encoder_dim": 16, "encoder_depth": 1, "encoder_heads": 2}
VIT |= {"embedding_dim": 16}
RETRIEVAL = {
    "CMRCNet": {**VIT, "gene_tokens": 2, "attention_heads": 2, "fusion_heads": 2},
    "BLEEP": {**VIT, "encoder": "vit", "pretrained": "no"},
}


def save(folder, name, options, network, fold, embeddings=None, **facts):
    """Write ``network`` and its description to ``folder``."""
    folder.mkdir(exist_ok=True)
    save_model(network, str(folder / WEIGHTS))
    found = {"encoder": network.encoder_name, "pretrained": network.pretrained_loaded} | facts
    images = {"patch_px": 32, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
    sizes = Sizes.of(fold, embeddings)
    write_description(folder, describe(name, options, fold, sizes, **found, **images, seed=0))
    return folder
