"""Configuration of the run at the paper's size: every method with a tiny encoder, one epoch, one seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.scale_data import BENCH_TASK, MARKERS, SLIDE, VISIUM, XENIUM, Size, slides

RUN = "scale"
TOOLS = 13
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
    "encoder": "test_byobnet", "pretrained": "no", "image_size": 32, "neighbours": 3, "hyperedge_nearest": 2, "dim": 64,
    "hypergraph_hidden": 64, "decoder_hidden": 64, "fusion_heads": 4, "fusion_hidden": 64, "dropout": 0.1,
}  # fmt: skip
_EGN = {
    "image_size": 32, "patch_size": 8, "dim": 64, "depth": 2, "heads": 2, "mlp_dim": 128, "bridge_every": 1,
    "bridge_heads": 2, "bridge_head_dim": 16, "projector_layers": 1,
}  # fmt: skip


def methods() -> dict[str, dict]:
    """Return an entry for every registered class that is no control, and every way to prepare its input."""
    frozen = {"encoder": ENCODER}
    return {
        "CMRCNet": {"options": _VIT, "neighbours": [50, 250]},
        "BLEEP-Harmony": {
            "model": "BLEEP", "options": _CNN, "neighbours": [50, 1], "matching": ["average", "weighted"],
            "harmony": True,
        },
        "STNet-centred": {"model": "STNet", "options": _DENSENET, "targets": "slide_centred"},
        "HisToGene": {"options": {"window": 64, "image_size": 32, "dim": 64, "layers": 1, "heads": 4}},
        "CTransPath": {
            "options": {"pretrained": "no", "image_size": 28, "embed_dim": 16, "depths": "1-1-1-1", "heads": "1-2-4-8"}
        },
        "NH2ST": {"options": _NH2ST},
        "EGN": {**frozen, "options": _EGN},
        "MicNet": {"options": _MICNET},
        "ContextRidge": dict(frozen),
        "Ridge": dict(frozen),
        "Ridge-HEST": {"model": "Ridge", **frozen, "options": {"protocol": "hest"}},
        "KNNImage-centred": {"model": "KNNImage", **frozen, "features": "slide_centred"},
    }  # fmt: skip


def external(root: Path) -> dict[str, dict]:
    """Return other tools: one for both cohorts, and `TOOLS` for the Xenium cohort alone.

    Figures then have more than 23 panels for a slide of 25,000 spots, for which that many trainings are not needed.
    """
    settings = {"predictions": str(root / "external" / "{sample}.h5ad"), "units": "log_counts"}
    alone = {f"Tool-{number:02d}": {**settings, "cohorts": [XENIUM]} for number in range(1, TOOLS + 1)}
    return {"Tool": settings, **alone}


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
        "external": external(root),
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
