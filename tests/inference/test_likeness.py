"""Claims about the likeness of a slide to the training slides."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from drawnslides import write_slide
from spotwise.data.nuclear_size import Nuclei
from spotwise.data.patches import extract_patches
from spotwise.data.stain_statistics import STAINS
from spotwise.errors import InputError
from spotwise.inference import likeness
from spotwise.inference.likeness import FACTORS, compare_slide, describe_cohort, read_reference, scale_factor

EDGE, UM_PER_PX, ACROSS = 1400, 0.5, 5
PATIENTS = {"A": "1", "B": "2", "C": "3"}


def draw(seed, radius=7, stain=1.0, grain=6.0):
    """Tissue of disks for nuclei on grained eosin, in a share of haematoxylin that the patient varies a little."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-12:13, -12:13]
    disk = np.hypot(rows, columns) <= radius
    nuclei = np.zeros((EDGE, EDGE))
    for y, x in rng.integers(12, EDGE - 13, (4000, 2)):
        patch = nuclei[y - 12 : y + 13, x - 12 : x + 13]
        patch[disk] = rng.uniform(0.8, 1.1)
    noise = gaussian_filter(rng.normal(size=(EDGE, EDGE)), grain)
    eosin = 0.5 + 0.15 * noise / noise.std()
    amount = rng.uniform(0.95, 1.05) * stain
    density = amount * nuclei[..., None] * STAINS[0] + eosin[..., None] * STAINS[1]
    return np.clip(256 * np.exp(-density) - 1 + rng.normal(0, 2, (EDGE, EDGE, 1)), 0, 255).astype(np.uint8)


class Slide:
    """A slide, its spots and its patches as they are cut at a stated pixel size."""

    def __init__(self, folder, name, image, um_per_px=UM_PER_PX):
        self.path = write_slide(folder / f"{name}.tif", [image])
        self.um_per_px = um_per_px
        places = np.linspace(150, EDGE - 150, ACROSS)
        self.centres = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
        self.barcodes = [f"{spot}x1" for spot in range(len(self.centres))]
        self.patches = folder / f"{name}_{um_per_px}.h5"
        extract_patches(self.path, self.centres, self.barcodes, um_per_px, self.patches)

    def compare(self, reference, **more):
        return compare_slide(self.patches, self.path, self.centres, self.barcodes, self.um_per_px, reference, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("likeness")


@pytest.fixture(scope="module")
def training(folder):
    return {name: Slide(folder, name, draw(seed)).patches for seed, name in enumerate(PATIENTS)}


@pytest.fixture(scope="module")
def reference(folder, training):
    describe_cohort(training, PATIENTS, folder / "reference.safetensors")
    return folder / "reference.safetensors"


@pytest.fixture(scope="module")
def another(folder):
    return Slide(folder, "another", draw(11))


@pytest.fixture(scope="module")
def compared(another, reference):
    return another.compare(reference)


def test_a_slide_like_those_trained_on_is_alike_in_everything(compared):
    _, verdict = compared
    assert verdict["alike"]
    assert not verdict["far_off"]
    assert [verdict[part]["alike"] for part in ("scale", "stain", "tissue")] == [True, True, True]
    assert verdict["words"][0] == "this slide looks like those trained on"
    json.dumps(verdict, allow_nan=False)


def test_spots_have_a_distance_and_a_similarity_that_falls_with_it(compared, another):
    table, _ = compared
    assert table["barcode"].tolist() == another.barcodes
    assert table["similarity"].between(0, 1, inclusive="right").all()
    assert table.sort_values("distance")["similarity"].is_monotonic_decreasing


@pytest.mark.parametrize(("stated", "seems"), [(0.25, "reduced"), (1.0, "enlarged")])
def test_a_wrong_pixel_size_is_named_with_the_one_that_would_fit(folder, reference, stated, seems):
    _, verdict = Slide(folder, "another", draw(11), stated).compare(reference)
    assert verdict["scale"]["alike"] is False
    assert verdict["far_off"]
    assert verdict["scale"]["fitting_um_per_px"] == pytest.approx(UM_PER_PX, rel=0.25)
    assert f"looks {seems} about" in verdict["scale"]["words"]
    assert f"are its pixels really {stated:.3g} um" in " ".join(verdict["words"])


def test_another_stain_is_named_and_no_other_scale(folder, reference):
    image = (draw(11).astype(float) * [0.75, 0.9, 1.0]).astype(np.uint8)
    _, verdict = Slide(folder, "blueish", image).compare(reference)
    assert [verdict[part]["alike"] for part in ("scale", "stain")] == [True, False]
    assert verdict["far_off"]


def test_another_texture_is_named_in_the_same_stain(folder, reference):
    _, verdict = Slide(folder, "coarse", draw(11, grain=60.0)).compare(reference)
    assert verdict["tissue"]["alike"] is False
    assert not verdict["alike"]


def test_without_nuclei_the_scale_is_not_judged(folder, reference):
    image = draw(11, stain=0.0)
    _, verdict = Slide(folder, "no nuclei", image).compare(reference)
    assert verdict["scale"]["alike"] is None
    assert "cannot be judged" in verdict["scale"]["words"]
    json.dumps(verdict, allow_nan=False)


def test_a_patient_trained_on_and_few_patients_are_said(another, reference):
    _, verdict = another.compare(reference, patient="2")
    assert any("patient 2" in line for line in verdict["words"])
    assert any("3 patients only" in line for line in verdict["words"])


@pytest.mark.parametrize(
    ("patients", "left_out"),
    [({"A": "1", "B": "1", "C": "2"}, "patient"), ({"A": "1", "B": "1", "C": "1"}, "slide")],
)
def test_distances_of_training_patches_equal_brute_force(training, tmp_path, patients, left_out):
    facts = describe_cohort(training, patients, tmp_path / "reference.safetensors")
    known = read_reference(tmp_path / "reference.safetensors")
    assert facts["left_out"] == known.left_out == left_out
    points = likeness._Space.of(known.statistics, "both").points
    group = known.slide if left_out == "slide" else np.array(list(patients.values()))[known.slide]
    between = np.where(group[:, None] == group, np.inf, cdist(points, points))
    np.testing.assert_allclose(known.distances["both"], between.min(axis=1), rtol=1e-4)


def test_one_training_slide_leaves_out_single_patches(training, tmp_path):
    describe_cohort({"A": training["A"]}, {"A": "1"}, tmp_path / "reference.safetensors")
    known = read_reference(tmp_path / "reference.safetensors")
    assert known.left_out == "patch"
    assert (known.distances["stain"] > 0).all()


def test_a_reference_is_a_sample_and_is_read_in_blocks(training, tmp_path, monkeypatch, reference):
    monkeypatch.setattr(likeness, "AT_ONCE", 4)
    describe_cohort(training, PATIENTS, tmp_path / "blocks.safetensors")
    np.testing.assert_array_equal(
        read_reference(tmp_path / "blocks.safetensors").statistics, read_reference(reference).statistics
    )
    monkeypatch.setattr(likeness, "PER_SLIDE", 7)
    facts = describe_cohort(training, PATIENTS, tmp_path / "sample.safetensors")
    assert facts["patches"] == 3 * 7


def test_similarity_is_the_share_of_training_patches_as_far():
    shares = likeness._share_as_far(np.array([1.0, 2, 3, 4]), np.array([0.0, 2, 2.5, 9]))
    np.testing.assert_allclose(shares, [1, 4 / 5, 3 / 5, 1 / 5])


@pytest.mark.parametrize("factor", [0.4, 0.8, 1.0, 1.7, 3.0])
def test_the_factor_between_sizes_is_found(factor):
    assert scale_factor(8 * factor / FACTORS, 8) == pytest.approx(factor, rel=1e-6)


def test_a_scale_beyond_all_that_is_measured_is_said_to_be_so():
    sizes = [Nuclei(radius, 200) for radius in 1.0 / FACTORS]
    found = likeness._judge_scale(sizes, 0.25, np.array([16.0]))
    assert found["alike"] is False
    assert "reduced at least 4-fold" in found["words"]
    assert "More than 1 um would fit" in found["words"]


def test_a_file_that_is_no_reference_is_refused(tmp_path, another):
    path = Path(tmp_path / "reference.safetensors")
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="make the final model again"):
        another.compare(path)
