"""Context features: what a frozen encoder and the stain tell of the tissue around each spot of a slide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from spotwise.constants import IMAGES, PATCH_UM, SPATIAL
from spotwise.data.counts_reader import read_counts
from spotwise.data.features import write_context
from spotwise.data.patch_files import read_patches_index
from spotwise.data.patches import field_reader
from spotwise.data.stain_statistics import stain_statistics
from spotwise.errors import SetupError
from spotwise.models.encoders import frozen_encoder
from spotwise.models.images import normalise, resize, turn
from spotwise.models.pretrained_weights import weights_hash
from spotwise.runtime import devices

AT_ONCE = 64  # spots per forward pass
DEPTHS = (0.6, 0.8, 1.0)  # of the encoder's levels

Reader = Callable[[Sequence[int]], np.ndarray]  # rows of spots to (n, H, W, 3) uint8


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def embed_context(
    patches: Path,
    slide: Path | None,
    counts: Path,
    um_per_px: float,
    fields_um: Sequence[int],
    encoder: str,
    pretrained: str,
    views: int,
    device: str,
    threads: int,
    output: Path,
    checkpoint: str = "",
) -> None:
    """Describe the squares of several sizes around each spot of a slide that has a patch.

    The blocks of the HDF5 file, row by row as in ``patches``, are for each side in ``fields_um``: ``level_<side>_<i>``,
    mean and standard deviation over the square of the channels of the encoder at three depths; ``pooled_<side>``, its
    output; ``stain_<side>``, :func:`spotwise.data.stain_statistics.stain_statistics`. Without intermediate levels, as
    in CONCH, there are none of them.

    Parameters
    ----------
    patches, slide, counts, um_per_px
        The slide's patches; the slide, with its spots and the pixel size of level 0, for squares that are not patches.
    fields_um
        Sides of the squares in micrometres.
    encoder, pretrained, checkpoint
        As for :func:`spotwise.models.encoders.frozen_encoder`. Without weights the encoder is random, from seed 0.
    views
        Number of symmetries of the square, of 8, over which the encoder's features are averaged.
    """
    barcodes, _, _ = read_patches_index(patches)
    on = devices.choose(device)
    devices.make_deterministic(threads)
    torch.manual_seed(0)
    model, loaded = frozen_encoder(encoder, pretrained, checkpoint)
    model = model.eval().to(on)
    blocks: dict[str, np.ndarray] = {}
    for field in fields_um:
        with _squares(patches, slide, counts, um_per_px, field, barcodes) as read:
            blocks |= _describe(read, len(barcodes), model, views, on, field)
    for name, block in blocks.items():
        if not np.isfinite(block).all():
            raise SetupError(f"{encoder}: {name} is not finite; use pretrained weights, or another encoder")
    attrs = {"encoder": encoder, "pretrained": loaded, "fell_back": not loaded and pretrained != "no"}
    attrs["weights"] = weights_hash(model)
    write_context(output, blocks, barcodes, views=views, fields_um=list(fields_um), **attrs)


@contextmanager
def _squares(
    patches: Path, slide: Path | None, counts: Path, um_per_px: float, field: int, barcodes: np.ndarray
) -> Iterator[Reader]:
    """Read squares of a size: the patches themselves, or from the slide."""
    if field == PATCH_UM:
        with h5py.File(patches) as file:
            yield lambda rows: file[IMAGES][rows[0] : rows[-1] + 1]
        return
    centres = read_counts(counts)[barcodes].obsm[SPATIAL]
    with field_reader(slide, centres, um_per_px, field) as read:
        yield read


@torch.inference_mode()
def _describe(
    read: Reader, n: int, model: nn.Module, views: int, device: torch.device, field: int
) -> dict[str, np.ndarray]:
    """Describe the squares of ``n`` spots, in blocks by name."""
    expects = model.pretrained_cfg
    px = expects["input_size"][-1] if expects.get("fixed_input_size") else None
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, n, AT_ONCE):
        images = read(range(start, min(start + AT_ONCE, n)))
        parts.setdefault(f"stain_{field}", []).append(stain_statistics(images))
        shown = torch.from_numpy(images if px is None else resize(images, px)).to(device)
        found: dict[str, Tensor] = {}
        for symmetry in range(views):
            seen = normalise(turn(shown, symmetry), expects["mean"], expects["std"])
            for name, value in encoder_blocks(model, seen).items():
                found[name] = found.get(name, 0) + value.float() / views
        for name, value in found.items():
            kind, *level = name.split("_")
            parts.setdefault("_".join([kind, str(field), *level]), []).append(value.cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def encoder_blocks(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Embed images (B, 3, H, W) by an encoder of timm at three depths and its output.

    Returns
    -------
    dict
        ``level_0`` to ``level_2``, mean and standard deviation over the image of each channel, (B, 2 C); and
        ``pooled``, (B, F). Only the latter for an encoder without ``forward_intermediates``.
    """
    if not hasattr(model, "forward_intermediates"):
        return {"pooled": model(images)}
    count = len(model.feature_info)
    depths = sorted({math.ceil(count * depth) - 1 for depth in DEPTHS})
    final, levels = model.forward_intermediates(images, indices=depths)
    found = {
        f"level_{i}": torch.cat([level.mean(dim=(2, 3)), level.std(dim=(2, 3))], dim=1)
        for i, level in enumerate(levels)
    }
    return found | {"pooled": model.forward_head(final, pre_logits=True)}
