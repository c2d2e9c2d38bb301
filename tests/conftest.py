"""A small fold and its patches, which several test files share."""

import h5py
import numpy as np
import pytest

from spotwise.constants import BARCODES, IMAGES, TEST, TRAIN, VAL
from spotwise.data.folds import Fold

SPOTS = {"A": 30, "B": 25, "C": 20, "D": 15}  # A and B train, C and D are tested
GENES = 12
EXTRA = 7  # patches of each slide that belong to no spot of the fold
PX = 32


@pytest.fixture
def fold():
    """Two training and two test slides; gene 0 follows the spot's depth, slides differ in depth by a lot."""
    rng = np.random.default_rng(0)
    n = sum(SPOTS.values())
    sample = np.repeat(np.array(list(SPOTS), dtype=object), list(SPOTS.values()))
    role = np.where(np.isin(sample, ["A", "B"]), TRAIN, TEST).astype(object)
    role[[3, 8, 21, 33, 50]] = VAL
    level = {"A": 6, "B": 8, "C": 5, "D": 9}
    depth = np.array([level[slide] for slide in sample]) + rng.normal(0, 0.4, n)
    expression = rng.gamma(2, size=(n, GENES))
    expression[:, 0] += 5 * depth
    return Fold(
        genes=np.array([f"G{gene:02d}" for gene in range(GENES)], dtype=object),
        is_hvg=np.arange(GENES) != 10,  # a marker that no slide chose
        is_marker=np.arange(GENES) % 5 == 0,
        expression=expression.astype(np.float32),
        sample=sample,
        patient=np.array([{"C": "A"}.get(slide, slide) for slide in sample], dtype=object),
        barcode=np.array([f"{slide}-{spot}" for slide, many in SPOTS.items() for spot in range(many)], dtype=object),
        role=role,
        patch=np.concatenate([rng.permutation(many + EXTRA)[:many] for many in SPOTS.values()]),
        spatial=rng.uniform(0, 1e4, size=(n, 2)),
        array=np.concatenate([np.stack(np.divmod(np.arange(many), 6), axis=1) for many in SPOTS.values()]),
        total_counts=np.exp(depth).astype(np.float32),
        cohort="c",
        protocol="patient",
        fold=0,
    )


@pytest.fixture
def patch_files(tmp_path):
    """``patches.h5`` of each slide: noise of 32 x 32 px, barcodes as HEST stores them."""
    rng = np.random.default_rng(1)
    files = {slide: tmp_path / f"{slide}.h5" for slide in SPOTS}
    for slide, path in files.items():
        many = SPOTS[slide] + EXTRA
        with h5py.File(path, "w") as file:
            file[IMAGES] = rng.integers(0, 256, size=(many, PX, PX, 3), dtype=np.uint8)
            file[BARCODES] = np.array([[f"{slide}-patch{number}"] for number in range(many)], dtype="S")
    return files


@pytest.fixture
def embedded(fold, tmp_path):
    """Embedding files whose features follow the expression, one row per patch, in the patches' order."""
    rng = np.random.default_rng(5)
    link = rng.normal(size=(len(fold.genes), 8))
    files = {}
    for slide in ("A", "B", "C", "D"):
        rows = np.flatnonzero(fold.sample == slide)
        embedding = rng.normal(size=(fold.patch[rows].max() + 3, 8))
        embedding[fold.patch[rows]] = fold.expression[rows] @ link + 0.1 * rng.normal(size=(len(rows), 8))
        barcodes = np.array([f"no spot {patch}" for patch in range(len(embedding))], dtype=object)
        barcodes[fold.patch[rows]] = fold.barcode[rows]
        files[slide] = tmp_path / f"{slide}-embedded.h5"
        with h5py.File(files[slide], "w") as file:
            file["embedding"] = embedding.astype(np.float32)
            file[BARCODES] = barcodes
            file.attrs.update(encoder="made up", pretrained=True, weights="5eed")
    return files


@pytest.fixture
def no_hub(monkeypatch):
    """Fail a test that asks for published weights."""
    import timm

    from spotwise.models import pretrained_weights

    create = timm.create_model

    def without_weights(name, pretrained=False, **settings):
        assert not pretrained, "published weights were asked for"
        return create(name, pretrained=False, **settings)

    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(timm, "create_model", without_weights)
    monkeypatch.setattr(pretrained_weights.huggingface_hub, "get_session", refuse)
