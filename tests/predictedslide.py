"""A slide without counts and what a model predicts for it, made up."""

import anndata
import numpy as np
import pandas as pd
from PIL import Image

from spotwise.inference.final_models import FinalDescription

GENES = ["EPCAM", "CD3E", "KRT8", "MGP", "ACTB"]
UM_PER_PX, PITCH_PX = 0.5, 200


def prediction(across=6, genes=GENES):
    """Spots on a square grid x genes: the first two are reliable, the fourth is a marker, the last has no score."""
    rng = np.random.default_rng(0)
    rows, columns = np.divmod(np.arange(across**2), across)
    known = np.arange(len(genes)) < len(genes) - 1
    low = np.where(known, 0.4 - 0.15 * np.arange(len(genes)), np.nan)
    low[1] = 0.5  # the second is the best
    var = pd.DataFrame(
        {
            "is_hvg": True,
            "is_marker": np.arange(len(genes)) == 3,
            "pcc": low + 0.1,
            "pcc_low": low,
            "pcc_high": low + 0.2,
            "ceiling": np.where(known, 0.8, np.nan),
            "positive_share": np.where(known, 0.75, np.nan),
            "n_slides": np.where(known, 4, 0),
            "n_units": np.where(known, 2, 0),
            "reliable": np.arange(len(genes)) < 2,
        },
        index=pd.Index(genes, name="gene"),
    )
    n = across**2
    obs = pd.DataFrame(
        {
            "array_row": rows,
            "array_col": columns,
            "in_tissue": 1,
            "tissue_share": 0.9,
            "similarity": rng.uniform(0.01, 1, n),
            "unlike": np.arange(n) < 2,
        },
        index=[f"{row}x{column}" for row, column in zip(rows, columns, strict=True)],
    )
    spatial = (np.stack([columns, rows], axis=1) + 1.0) * PITCH_PX
    values = rng.normal(1, 0.3, (n, len(genes))).astype(np.float32)
    return anndata.AnnData(values, obs=obs, var=var, obsm={"spatial": spatial})


def facts(across=6):
    """Contents of ``slide.json``."""
    edge = (across + 1) * PITCH_PX
    return {
        "source": "/data/block 7 <b>.svs",
        "path": "/data/block 7 <b>.svs",
        "width": edge,
        "height": edge,
        "um_per_px": UM_PER_PX,
        "um_per_px_from": "the slide's tags",
        "warnings": ["a fold of the tissue & dust"],
        "tissue_share": 0.5,
        "tissue_mm2": 0.25,
        "tissue_from": "the slide",
        "left_out_mm2": 0.02,
    }


def picture(path, px=280):
    """Write a picture of the slide."""
    noise = np.random.default_rng(1).integers(120, 255, (px, px, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def description(cohort="breast", basis="patient"):
    """Return what the folder of the model says."""
    return FinalDescription(
        predictor="Ridge",
        method="Ridge",
        k=0,
        matching="none",
        cohort=cohort,
        slides=[
            {"sample": "S1", "patient": "P1", "technology": "Visium"},
            {"sample": "S2", "patient": "P2", "technology": "Visium"},
        ],
        units="log(1 + x), x: counts of a spot scaled to 10000",
        target_sum=1e4,
        patch_um=112,
        patch_px=224,
        spot_pitch_um=100,
        encoder=None,
        reliability={"basis": basis, "threshold": 0.06, "cutoff": 0.06, "remarks": ["two units alone"]},
        licences=["CC BY 4.0"],
        spotwise="0.1.0",
    )


def verdict(alike=True):
    """Return a likeness verdict, of a slide at a wrong scale if not alike."""
    parts = {part: {"alike": True, "words": f"the {part} is fine"} for part in ("scale", "stain", "tissue")}
    words = ["this slide looks like those trained on"]
    if not alike:
        parts["scale"] = {"alike": False, "words": "the scale looks wrong"}
        words = ["this slide is far from those trained on: do not trust its predictions"]
    words += [part["words"] for part in parts.values()]
    return {**parts, "alike": alike, "far_off": not alike, "words": words}
