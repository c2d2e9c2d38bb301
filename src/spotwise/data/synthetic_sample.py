"""Synthetic samples in HEST's layout, with a known link between tissue morphology and expression.

A slide is painted from spatial domains (tumour, gland, stroma, immune) and a smooth field of cellularity; counts are
drawn from the same domains and field, for half of the genes. A model that reads the image can predict these genes, and
no model can predict the others. With ``linked=False`` the counts are shuffled over the spots of the same slide: any
score but 0 is then a leak.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_matrix

from spotwise.constants import SPATIAL
from spotwise.data.synthetic_counts import CONTROL_FEATURES, draw_counts, gene_programmes, sample_features
from spotwise.data.synthetic_slide import Stain, paint_slide, patient_stain, write_pyramid
from spotwise.data.synthetic_tissue import DOMAINS, CohortSize, Tissue, lay_out_tissue, place_spots, random_stream
from spotwise.runtime.files import write_json
from spotwise.runtime.hdf5 import write_anndata

THUMBNAIL_PX = 1000  # longest edge of HEST's downscaled_fullres


def generate_sample(
    root: Path,
    sample: str,
    patient: str,
    cohort_seed: int,
    linked: bool = True,
    size: CohortSize | None = None,
    duplicate_symbol: bool = False,
    missing_gene: bool = False,
) -> dict[str, Path]:
    """Write slide, counts and metadata of one sample.

    Properties of the cohort derive from ``cohort_seed`` alone, those of the patient from ``cohort_seed`` and
    ``patient``, so that samples can be generated independently and in any order.

    Parameters
    ----------
    root
        Folder of the cohort.
    linked
        False shuffles the counts over the spots; the slide stays the same.
    duplicate_symbol
        Give two genes the same symbol.
    missing_gene
        Leave one gene out of this sample.

    Returns
    -------
    dict
        Paths of ``slide``, ``counts`` and ``metadata``.
    """
    root, size = Path(root), size or CohortSize()
    tissue, slide, stain = _draw(sample, patient, cohort_seed, size)
    spots = place_spots(random_stream(cohort_seed, "spots", sample), tissue, size)
    counts = draw_counts(random_stream(cohort_seed, "counts", sample), spots, cohort_seed, patient, size)
    if not linked:
        counts = counts[random_stream(cohort_seed, "shuffle", sample).permutation(len(counts))]
    genes = gene_programmes(cohort_seed, size.n_genes)
    names, columns = sample_features(cohort_seed, genes.index, duplicate_symbol, missing_gene)
    paths = {
        "slide": root / "wsis" / f"{sample}.tif",
        "counts": root / "st" / f"{sample}.h5ad",
        "metadata": root / "metadata" / f"{sample}.json",
    }
    write_pyramid(paths["slide"], slide, stain.um_per_px)
    is_linked = np.append(genes["linked"].to_numpy() & linked, np.zeros(len(CONTROL_FEATURES), dtype=bool))
    var = pd.DataFrame({"linked": is_linked[columns]}, index=names)
    _write_counts(paths["counts"], counts[:, columns], var, spots, slide, stain.um_per_px, size)
    metadata = {
        "dataset_title": f"spotwise generated cohort, expression {'linked' if linked else 'not linked'} to the image",
        "id": sample,
        "image_filename": f"{sample}.tif",
        "organ": "Breast",
        "disease_state": "Cancer",
        "species": "Homo sapiens",
        "patient": patient,
        "st_technology": "Spatial Transcriptomics",
        "inter_spot_dist": size.pitch_um,
        "spot_diameter": size.spot_um,
        "spots_under_tissue": len(spots),
        "nb_genes": len(var),
        "pixel_size_um_embedded": stain.um_per_px,
        "pixel_size_um_estimated": stain.um_per_px,
        "magnification": "20x",
        "fullres_px_width": slide.width,
        "fullres_px_height": slide.height,
        "adata_nb_col": len(var),
    }
    write_json(paths["metadata"], metadata)
    return paths


def generate_slide(path: Path, name: str, patient: str, cohort_seed: int, size: CohortSize | None = None) -> None:
    """Write the slide that :func:`generate_sample` would draw for a sample of this name, without counts."""
    _, slide, stain = _draw(name, patient, cohort_seed, size or CohortSize())
    write_pyramid(path, slide, stain.um_per_px)


def _draw(name: str, patient: str, cohort_seed: int, size: CohortSize) -> tuple[Tissue, Image.Image, Stain]:
    stain = patient_stain(cohort_seed, patient)
    tissue = lay_out_tissue(random_stream(cohort_seed, "tissue", name), size)
    return tissue, paint_slide(random_stream(cohort_seed, "paint", name), tissue, stain, size), stain


def _write_counts(
    path: Path, counts: np.ndarray, var: pd.DataFrame, spots: pd.DataFrame, slide: Image.Image, um_per_px: float,
    size: CohortSize,
) -> None:  # fmt: skip
    centres = spots[["x_um", "y_um"]].to_numpy() / um_per_px
    obs = spots[["in_tissue", "array_row", "array_col"]].copy()
    obs["pxl_col_in_fullres"], obs["pxl_row_in_fullres"] = centres.T
    obs["domain"] = pd.Categorical(spots["domain"], categories=list(DOMAINS))
    scale = THUMBNAIL_PX / max(slide.size)
    downscaled = slide.resize([round(edge * scale) for edge in slide.size], reducing_gap=2.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        adata = anndata.AnnData(csr_matrix(counts), obs=obs, var=var, obsm={SPATIAL: centres})
        scales = {"spot_diameter_fullres": size.spot_um / um_per_px, "tissue_downscaled_fullres_scalef": scale}
        images = {"downscaled_fullres": np.asarray(downscaled)}
        adata.uns[SPATIAL] = {"ST": {"images": images, "scalefactors": scales}}
        write_anndata(path, adata)
