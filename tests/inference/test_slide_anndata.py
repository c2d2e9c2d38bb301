"""Claims about predictions that open over their slide."""

import json

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib import pyplot as plt
from PIL import Image

from spotwise.errors import InputError
from spotwise.inference.final_description import read_reliability
from spotwise.inference.observed_files import write_observed
from spotwise.inference.prediction_files import read_prediction, write_prediction
from spotwise.inference.slide_anndata import PICTURE_PX, SlideView, lay_under, read_views, write_slide_prediction
from spotwise.runtime.files import write_table

WIDTH, HEIGHT = 12_000, 8_000
BLUE = (20, 40, 200)
MADE_BY = {"predictor": "Ridge", "method": "Ridge", "kind": "method", "k": 0, "k_used": 0, "seed": 0, "note": ""}
FACTS = {"slide": "biopsy", "width": WIDTH, "um_per_px": 0.5, "units": "log(1 + x)", "predictor": "Ridge"}


@pytest.fixture(autouse=True)
def closed_figures():
    mpl.use("Agg")
    yield
    plt.close("all")


def picture(longest_edge):
    """Draw a white slide with a blue square at x 6,000 to 7,200 and y 4,800 to 6,000 px of level 0."""
    scale = longest_edge / WIDTH
    pixels = np.full((round(HEIGHT * scale), longest_edge, 3), 255, dtype=np.uint8)
    left, right, top, bottom = (round(scale * edge) for edge in (6000, 7200, 4800, 6000))
    pixels[top:bottom, left:right] = BLUE
    return pixels


@pytest.fixture
def sample(tmp_path):
    """Thumbnail, qc.json and metadata of slide C."""
    Image.fromarray(picture(1000)).save(tmp_path / "thumbnail.png")
    (tmp_path / "qc.json").write_text(json.dumps({"um_per_px": 0.5}))
    metadata = {"id": "C", "fullres_px_width": WIDTH, "fullres_px_height": HEIGHT, "spot_diameter": 100.0}
    (tmp_path / "C.json").write_text(json.dumps(metadata))
    return [tmp_path / name for name in ("thumbnail.png", "qc.json", "C.json")]


def colour_at(adata, name, x, y, key="hires"):
    """Colour of the picture at a position on level 0, found as scanpy and squidpy find it."""
    library = adata.uns["spatial"][name]
    scale = library["scalefactors"][f"tissue_{key}_scalef"]
    return tuple(library["images"][key][int(y * scale), int(x * scale)])


def over_its_slide(fold, predicted, view, folder):
    """Write a prediction of slide C and what was measured on it, and read both together."""
    write_prediction(folder / "P.h5ad", fold, "C", predicted, MADE_BY)
    write_observed(folder / "observed.h5ad", fold, "C", view)
    return read_prediction(folder / "P.h5ad", folder / "observed.h5ad")


def spots_of(centres):
    n = len(centres)
    obs = {"array_row": np.arange(n), "array_col": np.arange(n) * 2, "in_tissue": 1, "tissue_share": 0.75}
    names = [f"{number}x{2 * number}" for number in range(n)]
    spots = anndata.AnnData(obs=pd.DataFrame(obs, index=pd.Index(names, name="barcode")), shape=(n, 0))
    spots.obsm["spatial"] = np.asarray(centres, dtype=float)
    spots.uns["spot_pitch_um"] = 100.0
    return spots


@pytest.fixture
def unsequenced(tmp_path):
    """Arguments of `write_slide_prediction` for three spots and genes, with tables in another order."""
    for name, edge in (("hires", 2000), ("lowres", 600)):
        Image.fromarray(picture(edge)).save(tmp_path / f"{name}.png")
    spots = spots_of([[6600, 5400], [1000, 1000], [11_000, 7000]])
    likeness = pd.DataFrame(
        {
            "barcode": spots.obs_names[::-1],
            "distance": 1.0,
            "similarity": [0.1, 0.2, 0.3],
            "unlike": [True, False, False],
        }
    )
    rated = {"is_hvg": True, "is_marker": [True, False], "pcc": [0.5, 0.1], "pcc_low": [0.4, np.nan], "pcc_high": 0.6}
    rated |= {"ceiling": 0.8, "positive_share": 1.0, "n_slides": 4, "n_units": [3, 1], "reliable": [True, False]}
    reliability = pd.DataFrame({"gene": ["B", "A"], **rated})
    predicted = np.arange(9, dtype=np.float32).reshape(3, 3)
    pictures = [tmp_path / "hires.png", tmp_path / "lowres.png"]
    return tmp_path / "slide.h5ad", predicted, ["A", "B", "C"], spots, likeness, reliability, *pictures, FACTS


def test_scanpy_draws_a_prediction_of_the_cross_validation_without_arguments(fold, sample, tmp_path):
    predicted = fold.expression[fold.sample == "C"]
    views = read_views(["C"], *[[path] for path in sample])
    prediction = over_its_slide(fold, predicted, views["C"], tmp_path)
    sc.pl.spatial(prediction)
    axes = plt.gcf().axes[0]
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), prediction.uns["spatial"]["C"]["images"]["hires"])
    (circles,) = axes.collections
    assert len(circles.get_paths()) == prediction.n_obs
    box = circles.get_paths()[3].get_extents().get_points()
    scale = PICTURE_PX / WIDTH
    np.testing.assert_allclose(box.mean(axis=0), prediction.obsm["spatial"][3] * scale)
    assert np.ptp(box, axis=0) == pytest.approx(200 * scale, rel=0.02)  # 100 um at 0.5 um per pixel


def test_the_picture_lies_where_the_tissue_is_and_keeps_its_proportions(fold, sample, tmp_path):
    predicted = fold.expression[fold.sample == "C"]
    prediction = over_its_slide(fold, predicted, SlideView.read(*sample), tmp_path)
    library = prediction.uns["spatial"]["C"]
    assert library["images"]["hires"].shape == (400, PICTURE_PX, 3)
    assert library["metadata"] == {"um_per_px": 0.5}
    assert colour_at(prediction, "C", 6600, 5400) == BLUE
    assert colour_at(prediction, "C", 5400, 6600) == (255, 255, 255)


def test_a_slide_without_a_picture_is_white(fold, sample, tmp_path):
    predicted = fold.expression[fold.sample == "C"]
    thumbnail, qc, metadata = sample
    Image.new("RGB", (8, 8), "white").save(thumbnail)  # the stand-in where patches came without a slide
    stand_in, counts_alone = SlideView.read(thumbnail, qc, metadata), SlideView.read(thumbnail, qc)
    sizes = []
    for view in (stand_in, counts_alone, None):
        prediction = over_its_slide(fold, predicted, view, tmp_path)
        sc.pl.spatial(prediction)
        pixels = prediction.uns["spatial"]["C"]["images"]["hires"]
        assert (pixels == 255).all()
        assert max(pixels.shape) == PICTURE_PX
        sizes.append((tmp_path / "observed.h5ad").stat().st_size)
    assert max(sizes) - min(sizes) < 5000


def test_scanpy_draws_an_unsequenced_slide_without_arguments(unsequenced):
    write_slide_prediction(*unsequenced)
    adata = anndata.read_h5ad(unsequenced[0])
    sc.pl.spatial(adata)
    (image,) = plt.gcf().axes[0].images
    assert image.get_array().shape == (1333, 2000, 3)
    for key in ("hires", "lowres"):
        assert colour_at(adata, "biopsy", *adata.obsm["spatial"][0], key) == BLUE
        assert colour_at(adata, "biopsy", *adata.obsm["spatial"][1], key) == (255, 255, 255)
    assert adata.uns["spatial"]["biopsy"]["scalefactors"]["spot_diameter_fullres"] == 110  # 55 um


def test_likeness_and_reliability_join_their_spots_and_genes(unsequenced):
    write_slide_prediction(*unsequenced)
    adata = anndata.read_h5ad(unsequenced[0])
    assert adata.obs["similarity"].tolist() == [0.3, 0.2, 0.1]
    assert adata.obs["unlike"].tolist() == [False, False, True]
    assert adata.obs[["array_row", "array_col", "in_tissue"]].iloc[2].tolist() == [2, 4, 1]
    assert adata.var["reliable"].tolist() == [False, True, False]
    assert adata.var["n_units"].tolist() == [1, 3, 0]
    assert adata.var["pcc"].tolist()[:2] == [0.1, 0.5]
    assert adata.var[["pcc", "ceiling"]].loc["C"].isna().all()
    assert (adata.X.dtype, adata.obs["unlike"].dtype, adata.var["reliable"].dtype) == (np.float32, bool, bool)
    np.testing.assert_array_equal(adata.X, unsequenced[1])


def test_a_model_without_intervals_and_a_gene_called_na_are_written(unsequenced, tmp_path):
    path, predicted, _, spots, likeness, reliability, *rest = unsequenced
    rated = reliability.assign(gene=["B", "NA"], pcc_low=np.nan, pcc_high=np.nan, reliable=False)
    write_table(rated, tmp_path / "reliability.tsv")
    names = ["NA", "B", "C"]
    write_slide_prediction(path, predicted, names, spots, likeness, read_reliability(tmp_path), *rest)
    var = anndata.read_h5ad(path).var
    assert var.index.tolist() == names
    assert var["pcc"].tolist()[:2] == [0.1, 0.5]
    assert var["pcc_low"].isna().all()


def test_facts_are_kept_as_plain_values(unsequenced):
    extra = {"target_sum": None, "licences": ("a", "b"), "reliability": {"threshold": 0.1, "remarks": []}}
    extra |= {"slides": [{"sample": "S1"}], "warned": True}
    write_slide_prediction(*unsequenced[:-1], FACTS | extra)
    facts = anndata.read_h5ad(unsequenced[0]).uns["spotwise"]
    assert facts["units"] == "log(1 + x)"
    assert "target_sum" not in facts
    assert list(facts["licences"]) == ["a", "b"]
    assert facts["reliability"]["threshold"] == 0.1
    assert list(facts["reliability"]["remarks"]) == []
    assert json.loads(facts["slides"]) == [{"sample": "S1"}]
    assert facts["warned"]


def test_spots_without_likeness_and_another_shape_are_refused(unsequenced):
    path, predicted, genes, spots, likeness, *rest = unsequenced
    with pytest.raises(InputError, match="likeness: barcode: found no spot 2x4, expected the 3 spots of biopsy"):
        write_slide_prediction(path, predicted, genes, spots, likeness[1:], *rest)
    with pytest.raises(ValueError, match="predicted for 3 spots and 2 genes"):
        write_slide_prediction(path, predicted, genes[:2], spots, likeness, *rest)
    assert not path.exists()


def test_spots_closer_than_their_usual_size_do_not_overlap(unsequenced):
    unsequenced[3].uns["spot_pitch_um"] = 20.0
    write_slide_prediction(*unsequenced)
    library = anndata.read_h5ad(unsequenced[0]).uns["spatial"]["biopsy"]
    assert library["scalefactors"]["spot_diameter_fullres"] == 40


def test_scale_factors_lead_from_level_0_to_each_picture():
    adata = spots_of([[10, 20], [30, 40]])
    lay_under(adata, "S", {"hires": np.zeros((50, 100, 3), np.uint8)}, 400.0, 8, {})
    assert adata.uns["spatial"]["S"]["scalefactors"] == {"tissue_hires_scalef": 0.25, "spot_diameter_fullres": 8.0}
