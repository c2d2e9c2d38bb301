"""A generated cohort looks like HEST's files, is linked to its images where it says so, and nowhere else."""

from __future__ import annotations

import json
import warnings

import anndata
import numpy as np
import openslide
import pandas as pd
import pytest
import scipy.sparse
from PIL import Image

from generatedcohort import generate_cohort
from spotwise.data.synthetic_counts import CONTROL_FEATURES, draw_counts, gene_programmes
from spotwise.data.synthetic_sample import generate_sample
from spotwise.data.synthetic_tissue import DOMAINS, MARKERS, CohortSize
from spotwise.errors import InputError

SEED = 3
SIZE = CohortSize(grid=12, n_genes=100)
SAMPLES = [
    ("A1", "Patient A"),
    ("A2", "Patient A"),
    ("B1", "Patient B"),
    ("C1", "Patient C"),
]
NAMES = [sample for sample, _ in SAMPLES]
CONTROL_PREFIXES = ("BLANK", "NegControl", "antisense", "Unassigned", "Deprecated", "Intergenic")


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    root = tmp_path_factory.mktemp("linked")
    generate_cohort(root, SAMPLES, SEED, size=SIZE)
    return root


@pytest.fixture(scope="module")
def null(tmp_path_factory):
    root = tmp_path_factory.mktemp("null")
    generate_cohort(root, SAMPLES, SEED, linked=False, size=SIZE)
    return root


def read_counts(root, sample):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        return anndata.read_h5ad(root / "st" / f"{sample}.h5ad")


def read_metadata(root, sample):
    return json.loads((root / "metadata" / f"{sample}.json").read_text())


def usable(root, sample):
    """Spots with counts, and their log-normalised genes as a frame; duplicated symbols out."""
    adata = read_counts(root, sample)
    adata = adata[:, ~adata.var_names.duplicated(keep=False) & ~adata.var_names.str.startswith(CONTROL_PREFIXES)]
    counts = adata.X.toarray()
    total = counts.sum(axis=1)
    enough = total >= 200
    rates = counts[enough] / total[enough, None] * np.median(total[enough])
    return adata[enough], pd.DataFrame(np.log1p(rates), columns=adata.var_names)


def colours(adata):
    """(spots, 3) mean colour of about 100 um around each spot, from the thumbnail that the file carries."""
    stored = adata.uns["spatial"]["ST"]
    image, scale = stored["images"]["downscaled_fullres"], stored["scalefactors"]["tissue_downscaled_fullres_scalef"]
    half = round(stored["scalefactors"]["spot_diameter_fullres"] * scale / 2)
    centres = (adata.obsm["spatial"] * scale).astype(int)
    return np.array([image[y - half : y + half, x - half : x + half].mean(axis=(0, 1)) for x, y in centres])


def share_explained(values, labels):
    """Eta squared: the share of each column's variance that lies between the labels."""
    values = np.asarray(values, dtype=float)
    centred = values - values.mean(axis=0)
    between = sum((labels == label).sum() * centred[labels == label].mean(axis=0) ** 2 for label in set(labels))
    return between / (centred**2).sum(axis=0)


def pearson(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


@pytest.mark.parametrize("sample", NAMES)
def test_slides_open_as_pyramids_with_the_size_that_the_metadata_says(linked, sample):
    metadata = read_metadata(linked, sample)
    with openslide.OpenSlide(linked / "wsis" / f"{sample}.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.dimensions == (metadata["fullres_px_width"], metadata["fullres_px_height"])
        assert slide.level_count >= 3
        np.testing.assert_allclose(slide.level_downsamples, 2.0 ** np.arange(slide.level_count), rtol=0.01)
        assert slide.properties["openslide.level[0].tile-width"] == "256"
        for axis in "xy":
            mpp = float(slide.properties[f"openslide.mpp-{axis}"])
            assert mpp == pytest.approx(metadata["pixel_size_um_estimated"], rel=1e-5)
    assert 0.48 <= metadata["pixel_size_um_estimated"] <= 0.55


def test_levels_of_the_pyramid_show_the_same_tissue(linked):
    with openslide.OpenSlide(linked / "wsis" / "B1.tif") as slide:
        first, last = (
            slide.read_region((0, 0), level, slide.level_dimensions[level])
            .convert("RGB")
            .resize((64, 64), reducing_gap=3)
            for level in (0, slide.level_count - 1)
        )
    assert np.abs(np.asarray(first, dtype=int) - np.asarray(last, dtype=int)).mean() < 2


@pytest.mark.parametrize("sample", NAMES)
def test_counts_have_the_layout_of_hest(linked, sample):
    adata, metadata = read_counts(linked, sample), read_metadata(linked, sample)
    assert scipy.sparse.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert adata.X.data.min() >= 0
    assert (adata.X.data == adata.X.data.round()).all()
    assert adata.obs_names.is_unique
    expected = [f"{r:03d}x{c:03d}" for r, c in zip(adata.obs["array_row"], adata.obs["array_col"], strict=True)]
    assert adata.obs_names.tolist() == expected
    assert adata.obs["in_tissue"].dtype == bool
    centres = adata.obsm["spatial"]
    np.testing.assert_array_equal(centres, adata.obs[["pxl_col_in_fullres", "pxl_row_in_fullres"]])
    assert (centres > 0).all()
    assert (centres < [metadata["fullres_px_width"], metadata["fullres_px_height"]]).all()
    assert (metadata["id"], metadata["spots_under_tissue"], metadata["nb_genes"]) == (sample, *adata.shape)
    stored = adata.uns["spatial"]["ST"]
    image = stored["images"]["downscaled_fullres"]
    assert image.dtype == np.uint8
    assert max(image.shape) == 1000
    scale = stored["scalefactors"]["tissue_downscaled_fullres_scalef"]
    assert scale == 1000 / max(metadata["fullres_px_width"], metadata["fullres_px_height"])
    spot_um = stored["scalefactors"]["spot_diameter_fullres"] * metadata["pixel_size_um_estimated"]
    assert spot_um == pytest.approx(metadata["spot_diameter"])
    x_um = centres[:, 0] * metadata["pixel_size_um_estimated"]
    assert np.polyfit(adata.obs["array_col"], x_um, 1)[0] == pytest.approx(metadata["inter_spot_dist"], rel=0.01)


def test_default_sample_has_the_documented_size(tmp_path):
    paths = generate_sample(tmp_path, "S1", "P1", cohort_seed=0)
    adata = anndata.read_h5ad(paths["counts"])
    assert 170 <= adata.n_obs <= 225
    assert adata.n_vars == 300 + len(CONTROL_FEATURES)
    metadata = json.loads(paths["metadata"].read_text())
    assert 3400 <= metadata["fullres_px_width"] <= 4000
    with Image.open(paths["slide"]) as level_0:
        assert level_0.size == (metadata["fullres_px_width"], metadata["fullres_px_height"])


def test_the_same_seed_gives_the_same_sample_alone_or_in_its_cohort(linked, tmp_path):
    generate_sample(tmp_path, "A2", "Patient A", SEED, size=SIZE)
    assert (tmp_path / "wsis" / "A2.tif").read_bytes() == (linked / "wsis" / "A2.tif").read_bytes()
    assert (tmp_path / "metadata" / "A2.json").read_bytes() == (linked / "metadata" / "A2.json").read_bytes()
    again, before = read_counts(tmp_path, "A2"), read_counts(linked, "A2")
    assert (again.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(again.obs, before.obs)
    pd.testing.assert_frame_equal(again.var, before.var)


def test_another_seed_gives_another_sample(linked, tmp_path):
    generate_sample(tmp_path, "A2", "Patient A", SEED + 1, size=SIZE)
    assert (tmp_path / "wsis" / "A2.tif").read_bytes() != (linked / "wsis" / "A2.tif").read_bytes()
    assert read_metadata(tmp_path, "A2") != read_metadata(linked, "A2")


@pytest.mark.parametrize("sample", NAMES)
def test_domains_explain_linked_genes_and_no_others(linked, null, sample):
    adata, expression = usable(linked, sample)
    explained = share_explained(expression, adata.obs["domain"].to_numpy())
    is_linked = adata.var["linked"].to_numpy()
    by_chance = (len(DOMAINS) - 1) / (len(expression) - 1)
    assert np.median(explained[is_linked]) > 0.2
    assert (explained[is_linked] > 3 * by_chance).mean() > 0.8
    assert np.median(explained[~is_linked]) < 2.5 * by_chance

    adata, expression = usable(null, sample)
    explained = share_explained(expression, adata.obs["domain"].to_numpy())
    assert not adata.var["linked"].any()
    assert explained.mean() == pytest.approx(by_chance, abs=by_chance)


def test_markers_are_highest_in_their_domain(linked):
    pooled, domains = [], []
    for sample in NAMES:
        adata, expression = usable(linked, sample)
        pooled.append(expression - expression.mean())
        domains.append(adata.obs["domain"].to_numpy())
    by_domain = pd.concat(pooled).groupby(np.concatenate(domains)).mean()
    for domain, markers in MARKERS.items():
        assert (by_domain[list(markers)].idxmax() == domain).mean() >= 7 / 8


@pytest.mark.parametrize("sample", NAMES)
def test_highly_variable_genes_are_mostly_linked(linked, sample):
    adata, expression = usable(linked, sample)
    top = expression.var().nlargest(30).index
    assert adata.var.loc[top, "linked"].mean() > 0.7  # half of all genes are


def neighbour_correlation(root, sample):
    """Mean over the truly linked genes of the correlation between a spot and its nearest neighbour."""
    adata, expression = usable(root, sample)
    genes = gene_programmes(SEED, SIZE.n_genes)["linked"]
    values = expression.loc[:, genes[expression.columns].to_numpy()].to_numpy()
    distance = np.linalg.norm(adata.obsm["spatial"][:, None] - adata.obsm["spatial"][None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return pearson(values, values[distance.argmin(axis=1)]).mean()


def test_expression_is_smooth_over_the_tissue_unless_shuffled(linked, null):
    assert np.mean([neighbour_correlation(linked, sample) for sample in NAMES]) > 0.15
    assert abs(np.mean([neighbour_correlation(null, sample) for sample in NAMES])) < 0.06


def score_across_patients(root, features):
    """Mean PCC over the truly linked genes of a linear fit on the other patients' slides."""
    data = {sample: usable(root, sample) for sample in NAMES}
    genes = gene_programmes(SEED, SIZE.n_genes)["linked"]
    common = sorted(
        set.intersection(*(set(expression.columns) for _, expression in data.values())) & set(genes[genes].index)
    )
    scores = []
    for held_out, held_out_patient in SAMPLES:
        train = [sample for sample, patient in SAMPLES if patient != held_out_patient]
        inputs = {name: np.column_stack([features(adata), np.ones(adata.n_obs)]) for name, (adata, _) in data.items()}
        targets = np.vstack([data[name][1][common].to_numpy() for name in train])
        weights = np.linalg.lstsq(np.vstack([inputs[name] for name in train]), targets, rcond=None)[0]
        predicted = inputs[held_out] @ weights
        scores.append(pearson(predicted, data[held_out][1][common].to_numpy()).mean())
    return scores


def relative_colours(adata):
    colour = colours(adata)
    return (colour - colour.mean(axis=0)) / colour.std(axis=0)


def log_depth(adata):
    return np.log(np.asarray(adata.X.sum(axis=1)))


def test_mean_colour_predicts_expression_of_unseen_patients_unless_shuffled(linked, null):
    assert min(score_across_patients(linked, relative_colours)) > 0.25
    assert abs(np.mean(score_across_patients(null, relative_colours))) < 0.05


def test_library_size_predicts_next_to_nothing(linked, null):
    assert np.abs(score_across_patients(linked, log_depth)).max() < 0.15
    assert np.abs(score_across_patients(null, log_depth)).max() < 0.15


def test_depth_of_a_spot_does_not_depend_on_its_domain(linked):
    explained = [
        share_explained(log_depth(adata), adata.obs["domain"].to_numpy())[0]
        for adata, _ in (usable(linked, sample) for sample in NAMES)
    ]
    assert np.mean(explained) < 0.06  # 3 / (n - 1), about 0.024, by chance


@pytest.mark.parametrize("sample", NAMES)
def test_null_cohort_is_the_linked_one_with_its_counts_shuffled(linked, null, sample):
    assert (null / "wsis" / f"{sample}.tif").read_bytes() == (linked / "wsis" / f"{sample}.tif").read_bytes()
    before, after = read_counts(linked, sample), read_counts(null, sample)
    pd.testing.assert_frame_equal(before.obs, after.obs)
    rows_before, rows_after = before.X.toarray(), after.X.toarray()
    assert (rows_before != rows_after).any(axis=1).mean() > 0.9
    assert sorted(map(tuple, rows_before)) == sorted(map(tuple, rows_after))


def draw_pure_spots(n_per_domain):
    """Draw counts of spots that lie wholly in one domain, by domain, without failed spots."""
    domains = np.repeat(DOMAINS, n_per_domain)
    spots = pd.DataFrame({domain: (domains == domain).astype(float) for domain in DOMAINS})
    spots = spots.assign(cellularity=0.0, in_tissue=True)
    counts = draw_counts(np.random.default_rng(0), spots, SEED, "Patient A", SIZE)[:, : SIZE.n_genes]
    worked = counts.sum(axis=1) > 2
    return {domain: counts[worked & (domains == domain)] for domain in DOMAINS}


def test_counts_have_the_variance_of_a_negative_binomial():
    for counts in draw_pure_spots(600).values():
        mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
        expressed = mean > 5
        assert (variance[expressed] > 1.5 * mean[expressed]).all()
        # beyond Poisson: 1/6 by the draw, times the depth of spots, exp(0.2**2), over the 97 % without dropout
        excess = (variance[expressed] - mean[expressed]) / mean[expressed] ** 2
        assert np.median(excess) == pytest.approx((1 + 1 / 6) * np.exp(0.2**2) / 0.97 - 1, abs=0.04)


def test_every_domain_is_sequenced_to_the_same_depth():
    depth = [counts.sum(axis=1).mean() for counts in draw_pure_spots(600).values()]
    assert max(depth) / min(depth) < 1.05  # the standard error of each is 1 %


@pytest.mark.parametrize("sample", NAMES)
def test_some_spots_failed_and_some_lie_on_glass(linked, sample):
    adata = read_counts(linked, sample)
    total = np.asarray(adata.X.sum(axis=1)).ravel()
    on_tissue = adata.obs["in_tissue"].to_numpy()
    assert ((total[on_tissue] >= 1) & (total[on_tissue] <= 2)).sum() == 2  # 12 * 12 // 60
    assert (~on_tissue).sum() == 2
    assert (total[~on_tissue] < 200).all()
    assert np.median(total[on_tissue]) > 1000
    assert colours(adata)[~on_tissue].min() > colours(adata)[on_tissue].mean()


def test_control_features_are_in_every_slide(linked):
    for sample in NAMES:
        adata = read_counts(linked, sample)
        controls = adata[:, adata.var_names.str.startswith(CONTROL_PREFIXES)]
        assert sorted(controls.var_names) == sorted(CONTROL_FEATURES)
        assert not controls.var["linked"].any()
        assert controls.X.sum() > 0
        assert controls.X.mean() < 0.5


def test_one_symbol_is_doubled_and_one_gene_missing_and_panels_agree_otherwise(linked):
    panels = {sample: read_counts(linked, sample).var_names for sample in NAMES}
    whole = set(panels["A2"])
    assert panels["A2"].is_unique
    assert panels["B1"].tolist() == panels["A2"].tolist()
    doubled = panels["A1"][panels["A1"].duplicated()]
    assert len(doubled) == 1
    assert len(panels["A1"]) == len(whole)
    assert len(whole - set(panels["C1"])) == 1
    assert set(panels["C1"]) < whole
    markers = {marker for home in MARKERS.values() for marker in home}
    assert all(markers <= set(panel) for panel in panels.values())
    assert not markers & set(doubled)


def test_slides_of_a_patient_share_scanner_stain_and_batch(linked):
    pixel_size = {sample: read_metadata(linked, sample)["pixel_size_um_estimated"] for sample in NAMES}
    assert pixel_size["A1"] == pixel_size["A2"]
    assert len(set(pixel_size.values())) == 3

    glass = {
        name: read_counts(linked, name).uns["spatial"]["ST"]["images"]["downscaled_fullres"][2, 2] for name in NAMES
    }
    assert np.abs(glass["A1"].astype(int) - glass["A2"]).max() <= 2
    assert np.abs(glass["A1"].astype(int) - glass["B1"]).max() > 2

    rate = {}
    for sample in NAMES:
        adata, _ = usable(linked, sample)
        genes = gene_programmes(SEED, SIZE.n_genes)
        noise = [gene for gene in adata.var_names if not genes.loc[gene, "linked"]]
        rate[sample] = pd.Series(np.asarray(adata[:, noise].X.sum(axis=0)).ravel() / adata.X.sum(), index=noise)
    within = np.log(rate["A1"] / rate["A2"]).std()
    between = np.log(rate["A1"] / rate["B1"]).std()
    assert within < 0.12
    assert between > 0.3  # two patients' factors, each exp(N(0, 0.3)): sqrt(2) * 0.3 = 0.42


def test_gene_names_do_not_tell_which_genes_are_linked():
    genes = gene_programmes(SEED, 1000)
    demo_genes = genes[genes.index.str.startswith("DEMO")]
    number = demo_genes.index.str.removeprefix("DEMO").astype(int)
    # a point-biserial correlation of 968 names: 0.1 is three standard errors
    assert abs(np.corrcoef(number, demo_genes["linked"])[0, 1]) < 0.1
    effects = genes[[*DOMAINS, "cellularity"]]
    assert (effects[~genes["linked"]] == 0).all(axis=None)
    assert (effects[genes["linked"]] != 0).any(axis=1).all()
    assert genes["linked"].sum() == 500


@pytest.mark.parametrize(("changes", "match"), [({"grid": 3}, "grid: found 3"), ({"n_genes": 20}, "n_genes: found 20")])
def test_sizes_too_small_are_refused(changes, match):
    with pytest.raises(InputError, match=match):
        CohortSize(**changes)
