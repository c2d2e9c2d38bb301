"""Configuration of the run at the paper's size: every method with a tiny encoder, one epoch, one seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.scale_data import BENCH_TASK, MARKERS, SLIDE, VISIUM, XENIUM, Size, slides

RUN = "scale"
ENCODER = "tiny"  # random weights; as many features as an encoder of pathology, in a few milliseconds
_VIT = {
    "image_size": 32,
    "patch_size": 16,
    "encoder_dim": 64,
    "encoder_depth": 1,
    "encoder_heads": 2,
    "embedding_dim": 64,
}
_CNN = {"encoder": "test_byobnet", "pretrained": "no", "image_size": 32, "embedding_dim": 64}
_DENSENET = {"pretrained": "no", "image_size": 32, "growth_rate": 8, "blocks": "1-1-1-1", "symmetries": False}
_MICNET = {
    "encoder": "test_byobnet", "pretrained": "no", "image_size": 32, "embedding_dim": 32, "gene_hidden": "128-64",
    "negatives": 32, "augmentation": "turns",
}  # fmt: skip
_NH2ST = {
    "encoder": "test_byobnet", "pretrained": "no", "image_size": 32, "neighbours": 5, "hyperedge_nearest": 2, "dim": 64,
    "hypergraph_hidden": 64, "decoder_hidden": 64, "fusion_heads": 4, "fusion_hidden": 64, "dropout": 0.1,
}  # fmt: skip
_EGN = {
    "image_size": 32, "patch_size": 8, "dim": 64, "depth": 2, "heads": 2, "mlp_dim": 128, "bridge_every": 1,
    "bridge_heads": 2, "bridge_head_dim": 16, "projector_layers": 1,
}  # fmt: skip


def methods() -> dict[str, dict]:
    """Return every registered class, with every way to prepare expression and features, and 24 entries to draw."""
    frozen = {"encoder": ENCODER}
    return {
        "CMRCNet": {"options": _VIT, "neighbours": [50, 250]},
        "CMRCNet-paper": {"model": "CMRCNet", "options": {**_VIT, "reading": "paper"}, "neighbours": [50]},
        "CMRCNet-centred": {
            "model": "CMRCNet", "options": _VIT, "neighbours": [50], "targets": "slide_centred",
            "features": "slide_centred",
        },
        "BLEEP": {"options": _CNN, "neighbours": [50, 1], "matching": ["average", "weighted"]},
        "BLEEP-ViT": {"model": "BLEEP", "options": {**_VIT, "encoder": "vit"}, "neighbours": [50]},
        "BLEEP-Harmony": {"model": "BLEEP", "options": _CNN, "neighbours": [50], "harmony": True},
        "STNet": {"options": _DENSENET},
        "STNet-centred": {"model": "STNet", "options": _DENSENET, "targets": "slide_centred"},
        "HisToGene": {"options": {"window": 64, "image_size": 32, "dim": 64, "layers": 1, "heads": 4}},
        "CTransPath": {
            "options": {"pretrained": "no", "image_size": 56, "embed_dim": 24, "depths": "1-1-1-1", "heads": "1-2-4-8"}
        },
        "NH2ST": {"options": _NH2ST},
        "EGN": {**frozen, "options": _EGN},
        "MicNet": {"options": _MICNET},
        "ContextRidge": dict(frozen),
        "ContextRidge-flat": {"model": "ContextRidge", **frozen, "options": {"largest_rank": 0, "rings": 1}},
        "Ridge": dict(frozen),
        "Ridge-HEST": {"model": "Ridge", **frozen, "options": {"protocol": "hest"}},
        "Ridge-all": {"model": "Ridge", **frozen, "options": {"components": 0}},
        "Ridge-64": {"model": "Ridge", **frozen, "options": {"components": 64}},
        "Ridge-128": {"model": "Ridge", **frozen, "options": {"components": 128}},
        "Ridge-centred": {"model": "Ridge", **frozen, "targets": "slide_centred", "features": "slide_centred"},
        "KNNImage": dict(frozen),
        "KNNImage-250": {"model": "KNNImage", **frozen, "options": {"k": 250}},
        "KNNImage-centred": {"model": "KNNImage", **frozen, "features": "slide_centred"},
    }  # fmt: skip


def configuration(root: Path, size: Size, names: Sequence[str] | None = None) -> dict:
    """Return the configuration for cohorts that :func:`benchmarks.scale_data.generate` wrote to ``root``.

    ``names`` are the entries of `methods` to run, all by default; other sections need Ridge, ContextRidge, CMRCNet and
    MicNet.
    """
    members = slides(size)
    largest = max((one for one in members if one.cohort == XENIUM), key=lambda one: one.spots)
    first = next(one for one in members if one.cohort == VISIUM)
    pictured = next(one for one in members if one.picture_px)
    path = root / "data" / "wsis" / f"{pictured.sample}.tif"
    return {
        "run": RUN,
        "samples": str(root / "samples.tsv"),
        "data": {"source": "local", "root": str(root / "data"), "images": "auto"},
        "cohorts": {
            VISIUM: {"markers": list(MARKERS), "protocols": ["paper"]},
            XENIUM: {"markers": list(MARKERS), "protocols": ["patient"]},
        },
        "training": {
            "device": "cpu", "epochs": 1, "batch_size": 64, "learning_rate": 1e-3, "final_learning_rate": 1e-4,
            "threads": 1,
        },
        "encoders": {ENCODER: {"timm": "mobilenetv3_small_050", "pretrained": "no", "views": 1}},
        "methods": {name: entry for name, entry in methods().items() if not names or name in names},
        "external": {
            "OtherTool": {"predictions": str(root / "external" / "{sample}.h5ad"), "units": "log_counts"}
        },
        "controls": [
            "TrainMean", "RandomRetrieval", "LibrarySize", "Coordinates", "NeighbourSlide", "ShuffledTraining",
            "ShuffledAcross", "NoiseCeiling", "Oracle",
        ],
        "evaluation": {"reference": "Ridge"},
        "structure": {
            "slides": [first.sample, largest.sample],
            "spaces": ["MicNet", "Expression", "SmoothedExpression", "Image", "Concatenation", "CMRCNet"],
            "encoder": ENCODER,
            "labels": {"column": "domain"},
        },
        "predict": {
            "slides": [{"path": str(path), "slide": SLIDE, "patient": "Patient S"}],
            "from": {VISIUM: ["ContextRidge", "Ridge", "CMRCNet-50"]},
        },
        "hest_bench": {"root": str(root / "bench"), "tasks": [BENCH_TASK], "encoders": [ENCODER]},
    }  # fmt: skip
