"""A made-up task of the HEST benchmark, written in the benchmark's layout."""

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd

GENES = [f"G{number:02d}" for number in range(60)]
LISTED = GENES[55:5:-1]  # 50, in an order of their own
SPOTS = {"S1": 40, "S2": 30, "S3": 36, "S4": 24}
WITHOUT_PATCH = {"S2": 3}
FOLDS = [(["S1", "S2"], ["S3", "S4"]), (["S3", "S4", "S1"], ["S2"]), (["S2"], ["S1"])]


def write_bench_task(folder: Path, px: int = 224, folds=FOLDS, seed: int = 0) -> Path:
    """Write a task whose patches are coloured by what the expression of their spots depends on.

    Spots stand in another order in the patches than in the counts, and some of S2 have no patch.
    """
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(3, len(GENES)))
    for name in ("adata", "patches", "splits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (slide, n) in enumerate(SPOTS.items()):
        state = rng.uniform(-1, 1, size=(n, 3))
        rate = np.exp(1 + 0.8 * state @ loadings + 0.6 * number)  # slides differ in depth
        barcodes = np.array([f"{row:03d}x{number:03d}" for row in range(n)])
        spatial = np.stack([np.arange(n) % 6, np.arange(n) // 6], axis=1) * 300.0 + 500
        adata = anndata.AnnData(
            rng.poisson(rate).astype(np.float32), pd.DataFrame(index=barcodes), pd.DataFrame(index=GENES)
        )
        adata.obsm["spatial"] = spatial
        adata.write_h5ad(folder / f"adata/{slide}.h5ad")
        order = rng.permutation(n)[WITHOUT_PATCH.get(slide, 0) :]
        colours = np.clip(128 + 100 * state[order], 0, 255)
        images = np.clip(colours[:, None, None, :] + rng.normal(0, 25, size=(len(order), px, px, 3)), 0, 255)
        with h5py.File(folder / f"patches/{slide}.h5", "w") as file:
            file["img"] = images.astype(np.uint8)
            file["coords"] = (spatial[order] - px / 2).astype(np.int64)
            file["barcode"] = np.array([[barcode] for barcode in barcodes[order]], dtype="S")
    write_splits(folder, folds)
    (folder / "var_50genes.json").write_text(json.dumps({"genes": LISTED}))
    return folder


def write_splits(folder: Path, folds) -> None:
    """Write the folds, each a pair of lists of slides."""
    for number, fold in enumerate(folds):
        for part, slides in zip(("train", "test"), fold, strict=True):
            rows = [(slide, f"patches/{slide}.h5", f"adata/{slide}.h5ad") for slide in slides]
            table = pd.DataFrame(rows, columns=["sample_id", "patches_path", "expr_path"])
            table.to_csv(folder / f"splits/{part}_{number}.csv", index=False)


def write_embeddings(task: Path, folder: Path, features: int = 48, seed: int = 1) -> dict[str, Path]:
    """Write made-up features that follow the colours of the patches, as `embed_patches` writes them."""
    rng = np.random.default_rng(seed)
    link = rng.normal(size=(3, features))
    files = {}
    for slide in SPOTS:
        with h5py.File(task / f"patches/{slide}.h5") as file:
            colour, barcodes = file["img"][:].mean(axis=(1, 2)) / 100, file["barcode"][:]
        noise = rng.normal(size=(len(colour), features))
        files[slide] = folder / f"{slide}.h5"
        with h5py.File(files[slide], "w") as file:
            file["embedding"] = (colour @ link + noise).astype(np.float32)
            file["barcode"] = barcodes.ravel()
            file.attrs.update(encoder="made up", pretrained=True, fell_back=False)
    return files
