"""What the rules of tissue structure write of a slide, made up: 30 spots in three bands, two spaces, two seeds."""

import json

import anndata as ad
import numpy as np
import pandas as pd
from PIL import Image

ROWS, COLUMNS = 5, 6
BARCODES = [f"{row}x{column}" for row in range(ROWS) for column in range(COLUMNS)]
BAND = np.arange(ROWS * COLUMNS) % COLUMNS // 2  # 0, 1, 2 from left to right
CLASSES = np.array(["stroma", "gland", "tumour"])
GENES = ["G0", "G1", "G2", "G3"]
SPACES = ["Joint", "Expression"]
SCORES = ("ARI", "AMI", "homogeneity", "completeness", "silhouette", "pas")


def labels():
    """Label of each spot by barcode; the last spot has none."""
    found = pd.Series(CLASSES[BAND], index=BARCODES)
    found.iloc[-1] = np.nan
    return found


def domains(space="Joint", seed=0, refined=False):
    """Bands, numbered otherwise than the labels; another space moves a border by one column."""
    band = BAND if space == "Joint" else (np.arange(ROWS * COLUMNS) % COLUMNS > 2) + 0
    return pd.Series((band + 1 + seed) % 3, index=BARCODES)


def domain_table():
    parts = []
    for space in SPACES:
        for seed in (0, 1) if space == "Joint" else (0,):
            for clustering in ("kmeans", "leiden"):
                for refined in (False, True):
                    keys = {"space": space, "seed": seed, "clustering": clustering, "refined": refined}
                    # only k-means is drawn: Leiden's would be seen if it were
                    found = domains(space, seed) if clustering == "kmeans" else pd.Series(0, index=BARCODES)
                    parts.append(pd.DataFrame({**keys, "barcode": BARCODES, "domain": found.to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def scores(sample="S1", cohort="c", n_labelled=29, shift=0.0):
    """Scores that tell where they come from: ARI is 0.5 for Joint, 0.25 for Expression, and moves with all else."""
    rows = []
    for space, seed, clustering, refined in (
        domain_table()[["space", "seed", "clustering", "refined"]].drop_duplicates().to_numpy()
    ):
        ari = (
            {"Joint": 0.5, "Expression": 0.25}[space]
            + 0.1 * seed
            + 0.02 * refined
            + 0.3 * (clustering == "leiden")
            + shift
        )
        keys = {"cohort": cohort, "sample": sample, "space": space, "seed": seed, "clustering": clustering}
        values = dict.fromkeys(SCORES, ari) if n_labelled else dict.fromkeys(SCORES, np.nan) | {"pas": ari}
        rows.append({**keys, "refined": refined, "n_domains": 3, **values, "n_spots": 30, "n_labelled": n_labelled})
    return pd.DataFrame(rows)


def variable_genes(names=GENES):
    n = len(names)
    return pd.DataFrame(
        {
            "gene": names,
            "n_spots": 30 - np.arange(n),
            "mean": 1 + np.arange(n),
            "moran_i": 0.9 - 0.2 * np.arange(n),
            "p": [1e-9, 1e-4, 0.02, 0.4][:n],
            "q": [4e-9, 2e-4, 0.0267, 0.4][:n],
            "q_beyond_depth": [4e-8, 0.06, 0.1, 0.5][:n],
        }
    )


def domain_genes(names=GENES):
    """Gene 0 marks domain 0, gene 1 marks domain 1, all are lower in domain 2."""
    rows = []
    for domain in range(3):
        for place, gene in enumerate(names):
            up = domain == place < 2
            score = 5.0 if up else -4.0 if domain == 2 else 0.1
            q = 1e-6 if up or domain == 2 else 0.9
            rows.append((gene, domain, score / 5, score, q / 4, q))
    return pd.DataFrame(rows, columns=["gene", "domain", "log2_fold_change", "score", "p", "q"])


AGREEMENT = {
    "n_genes": 4,
    "n_spatial": 3,
    "n_spatial_beyond_depth": 1,
    "n_domain": 2,
    "n_both": 2,
    "jaccard": 2 / 3,
    "odds_ratio": 5.0,
    "fisher_p": 0.5,
    "spearman": None,
}


def expression():
    """(30, 4): gene g rises with the band for even g, falls for odd g; the last is the same everywhere."""
    values = np.stack([BAND, -BAND, BAND**2, np.full(len(BAND), 2.0)], axis=1)
    return pd.DataFrame(values.astype(float), index=BARCODES, columns=GENES)


def umap(sample="S1"):
    angle = np.linspace(0, 6, len(BARCODES))
    return pd.DataFrame({"sample": sample, "barcode": BARCODES, "umap1": np.cos(angle), "umap2": np.sin(angle) + BAND})


def write_slide(folder, um_per_px=0.5, order=slice(None)):
    """``lognorm.h5ad``, ``qc.json``, ``thumbnail.png`` and metadata of the slide, its spots 200 px apart."""
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    values = expression()
    content = ad.AnnData(values.to_numpy(np.float32), obs=values[[]], var=pd.DataFrame(index=GENES))
    content.obsm["spatial"] = np.stack([300.0 + 200 * column, 400.0 + 200 * row], axis=1)
    content.uns["dropped_barcodes"] = np.array(["9x9"], dtype=object)
    content[order].copy().write_h5ad(folder / "lognorm.h5ad")
    (folder / "qc.json").write_text(json.dumps({"um_per_px": um_per_px}))
    Image.fromarray(np.full((150, 160, 3), (220, 160, 190), dtype=np.uint8)).save(folder / "thumbnail.png")
    metadata = {"id": "S1", "fullres_px_width": 1600, "fullres_px_height": 1500, "spot_diameter": 60.0}
    (folder / "S1.json").write_text(json.dumps(metadata))
