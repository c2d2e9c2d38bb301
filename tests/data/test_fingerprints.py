"""Copies of a slide are found however they were changed, other slides are not."""

import hashlib
import io

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from scipy import sparse

from spotwise.constants import BARCODES, DROPPED, IMAGES, PATCH_PX, SPATIAL, TOTAL_COUNTS
from spotwise.data.fingerprints import (
    BLOCK_PX,
    FEWEST_COUNTS,
    HASH_BITS,
    LEAST_TISSUE,
    SKETCH,
    file_record,
    fingerprint,
    picture_distance,
    picture_hashes,
    shared_spots,
    spot_sketch,
    tissue_shares,
)
from spotwise.data.synthetic_slide import paint_slide, patient_stain
from spotwise.data.synthetic_tissue import CohortSize, lay_out_tissue
from spotwise.errors import InputError
from spotwise.evaluation.leak_checks import SAME_COUNTS_SHARE, SAME_PICTURE_DISTANCE

SIZE = CohortSize(grid=6)


def painted(tissue_seed, nuclei_seed=0, patient="P"):
    """Paint a slide of 700 px; two nuclei seeds are two sections through the same tissue."""
    tissue = lay_out_tissue(np.random.default_rng(tissue_seed), SIZE)
    slide = paint_slide(np.random.default_rng(nuclei_seed), tissue, patient_stain(0, patient), SIZE)
    return slide.resize((700, 640))


@pytest.fixture(scope="module")
def slides():
    return [painted(seed) for seed in range(4)]


def distance(one, other):
    return picture_distance(picture_hashes(one), picture_hashes(other))


# --- pictures ---------------------------------------------------------------------------------------------------------


def jpeg(image, quality):
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=quality)
    return Image.open(packed)


def cut(image, share):
    """Cut other shares off each side, ``share`` at most."""
    width, height = image.size
    return image.crop((round(share * width), 0, round((1 - share / 2) * width), round((1 - share / 3) * height)))


def widened(image):
    glass = tuple(np.percentile(np.asarray(image), 90, axis=(0, 1)).astype(int).tolist())
    wider = Image.new("RGB", (image.width + 50, image.height + 60), glass)
    wider.paste(image, (40, 10))
    return wider


COPIES = {
    "itself": lambda image: image,
    "JPEG": lambda image: jpeg(image, 40),
    "smaller": lambda image: image.resize((350, 320)),
    "larger": lambda image: image.resize((1000, 900), Image.Resampling.BICUBIC),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "cut": lambda image: cut(image, 0.04),
    "widened": widened,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned, cut, smaller, JPEG": lambda image: jpeg(
        cut(image.transpose(Image.Transpose.TRANSVERSE), 0.02).resize((500, 600)), 60
    ),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_picture_is_found(slides, copy):
    for slide in slides:
        assert distance(slide, COPIES[copy](slide)) < SAME_PICTURE_DISTANCE


@pytest.mark.parametrize("how", list(Image.Transpose))
def test_rotation_and_mirroring_hardly_change_the_hash(slides, how):
    for slide in slides:
        assert distance(slide, slide.transpose(how)) < 0.06
        assert distance(slide.transpose(how), slide) < 0.06


def test_other_slides_of_the_same_patient_are_not_copies(slides):
    for number, one in enumerate(slides):
        for other in slides[:number]:
            assert distance(one, other) > SAME_PICTURE_DISTANCE + 0.1


@pytest.mark.parametrize("seed", range(4))
def test_the_next_section_through_the_same_tissue_is_not_a_copy(slides, seed):
    assert distance(slides[seed], painted(seed, nuclei_seed=1)) > SAME_PICTURE_DISTANCE + 0.05


def test_the_distance_is_the_share_of_bits_that_differ():
    first = ["0" * (HASH_BITS // 4)]
    assert picture_distance(first, ["f" * (HASH_BITS // 4), "3" + "0" * (HASH_BITS // 4 - 1)]) == 2 / HASH_BITS
    assert picture_distance(first, first) == 0


def test_a_picture_that_shows_nothing_has_no_hash():
    assert picture_hashes(Image.new("RGB", (8, 8), "white")) is None
    assert picture_hashes(Image.new("RGB", (300, 200), (210, 190, 205))) is None


@pytest.mark.parametrize("rightwards", [1, -1])
@pytest.mark.parametrize("downwards", [1, -1])
def test_bits_say_whether_it_gets_brighter_rightwards_and_downwards(rightwards, downwards):
    ramp = np.linspace(-30, 30, 400)
    grey = 100 + rightwards * ramp[None, :] + downwards * ramp[:, None]
    image = Image.new("L", (500, 500), 250)
    image.paste(Image.fromarray(grey.astype(np.uint8)), (50, 50))
    found = picture_hashes(image)
    digits = HASH_BITS // 8
    assert len(found) == 8
    assert found[0] == "".join("f" * digits if way > 0 else "0" * digits for way in (rightwards, downwards))


# --- counts -----------------------------------------------------------------------------------------------------------


def matrix(n, seed, n_genes=30):
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(2, size=(n, n_genes)).astype(np.float32))


GENES = [f"G{number}" for number in range(30)]


def test_neither_order_nor_genes_without_counts_matter_for_spots():
    counts = matrix(50, 0)
    rng = np.random.default_rng(1)
    spots, genes = rng.permutation(50), rng.permutation(30)
    wider = sparse.hstack([counts[spots][:, genes], sparse.csr_matrix((50, 2))]).tocsr()
    assert spot_sketch(wider, [*(GENES[gene] for gene in genes), "NEW1", "NEW2"]) == spot_sketch(counts, GENES)


def test_one_molecule_more_or_another_gene_is_another_spot():
    counts = matrix(1, 0)
    more = counts.copy()
    more[0, 3] += 1
    renamed = [*GENES[:-1], "OTHER"]
    assert counts[0, 29] > 0
    sketches = [spot_sketch(counts, GENES), spot_sketch(more, GENES), spot_sketch(counts, renamed)]
    assert len({sketch[0] for sketch in sketches}) == 3


def test_the_hash_of_a_spot_is_the_weighted_sum_of_its_genes():
    counts = sparse.csr_matrix(np.array([[20, 0, 3], [0, FEWEST_COUNTS - 1, 0]], dtype=np.float32))
    number = {
        gene: int.from_bytes(hashlib.blake2b(gene.encode(), digest_size=8).digest(), "big") for gene in ("A", "C")
    }
    assert spot_sketch(counts, ["A", "B", "C"]) == [f"{(20 * number['A'] + 3 * number['C']) % 2**64:016x}"]


def test_spots_with_too_few_counts_are_left_out():
    counts = sparse.diags([FEWEST_COUNTS - 1.0, float(FEWEST_COUNTS), 0.0]).tocsr()
    assert len(spot_sketch(counts, ["A", "B", "C"])) == 1
    empty = spot_sketch(counts[[0]], ["A", "B", "C"])
    assert empty == []
    assert shared_spots(empty, empty) == 0


@pytest.mark.parametrize(("n", "common"), [(40, 0), (40, 10), (40, 40), (3000, 0), (3000, 1500), (3000, 3000)])
def test_the_share_of_common_spots_is_found_from_sketches(n, common):
    first, second = matrix(n, 0), matrix(n, 1)
    second = sparse.vstack([first[:common], second[common:]]).tocsr()
    one, other = (spot_sketch(counts, GENES) for counts in (first, second))
    assert len(one) == min(n, SKETCH)
    jaccard = common / (2 * n - common)
    exact = 2 * n <= SKETCH or common in (0, n)
    assert shared_spots(one, other) == pytest.approx(jaccard, abs=1e-12 if exact else 0.1)
    assert (shared_spots(one, other) > SAME_COUNTS_SHARE) == (common > 0)


def test_slides_of_different_size_are_compared_fairly():
    """A fifth of a slide: the sketch of the smaller one reaches further than that of the larger one."""
    counts = matrix(3000, 0)
    share = shared_spots(spot_sketch(counts, GENES), spot_sketch(counts[:600], GENES))
    assert share == pytest.approx(0.2, abs=0.06)
    assert share == shared_spots(spot_sketch(counts[:600], GENES), spot_sketch(counts, GENES))


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_hashed_whole_and_named_without_its_root(tmp_path):
    (tmp_path / "st").mkdir()
    content = np.random.default_rng(0).bytes(5_000_000)
    (tmp_path / "st/S1.h5ad").write_bytes(content)
    assert file_record(tmp_path / "st/S1.h5ad") == {
        "path": "st/S1.h5ad",
        "size": 5_000_000,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


# --- tissue -----------------------------------------------------------------------------------------------------------


def patch_file(path, images, barcodes=None):
    with h5py.File(path, "w") as file:
        file[IMAGES] = np.stack(images)
        labels = barcodes or [f"s{number}" for number in range(len(images))]
        file[BARCODES] = np.array(labels, dtype="S")[:, None]
    return path


def flat(value=230):
    return np.full((PATCH_PX, PATCH_PX, 3), value, dtype=np.uint8)


def striped(contrast, rows=PATCH_PX):
    """Stripes of one pixel above and below a mean: an SD of ``contrast`` in the first ``rows``."""
    image = flat(200).astype(int)
    image[:rows, ::2] += contrast
    image[:rows, 1::2] -= contrast
    return image.astype(np.uint8)


def test_tissue_is_where_neighbouring_pixels_differ(tmp_path):
    half = PATCH_PX // 2
    images = [flat(), flat(0), striped(20), striped(20, half), striped(7), striped(5)]
    path = patch_file(tmp_path / "p.h5", images)
    assert tissue_shares(path, np.arange(6)).tolist() == [0, 0, 1, 0.5, 1, 0]
    assert tissue_shares(path, np.array([2, 3])).tolist() == [1, 0.5]


def test_colour_alone_and_slow_changes_of_light_are_not_tissue(tmp_path):
    pink = np.broadcast_to(np.array([235, 190, 225], np.uint8), flat().shape)
    vignette = flat() - (np.arange(PATCH_PX) // 12).astype(np.uint8)[None, :, None]
    path = patch_file(tmp_path / "p.h5", [pink, vignette])
    assert tissue_shares(path, np.arange(2)).tolist() == [0, 0]


def test_patches_by_the_hundred_are_read_in_order(tmp_path):
    images = [striped(20, BLOCK_PX * (number % 5)) for number in range(300)]
    shares = tissue_shares(patch_file(tmp_path / "p.h5", images), np.arange(300))
    np.testing.assert_allclose(shares, [number % 5 * BLOCK_PX / PATCH_PX for number in range(300)])


# --- all together -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sample(tmp_path):
    """Six spots of which one was dropped and one has no patch; two of the other four have little or no tissue."""
    least = round(LEAST_TISSUE * PATCH_PX / BLOCK_PX)  # 2 of 14 rows of blocks are less than .15
    images = [striped(20), flat(), striped(20, least * BLOCK_PX), flat(), striped(20, (least + 1) * BLOCK_PX)]
    patches = patch_file(tmp_path / "S1.h5", images, ["s4", "dropped", "s1", "s0", "s3"])
    names = ["s0", "s1", "s2", "s3", "s4"]
    counts = anndata.AnnData(matrix(5, 0), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=GENES))
    counts.obsm[SPATIAL] = np.arange(10.0).reshape(5, 2)
    counts.obs[TOTAL_COUNTS] = np.asarray(counts.X.sum(axis=1)).ravel()
    counts.uns[DROPPED] = np.array(["dropped"], dtype=object)
    picture = tmp_path / "thumbnail.png"
    painted(0).save(picture)
    return [patches], picture, counts, patches


def test_only_spots_that_were_kept_and_have_a_patch_count(sample):
    found = fingerprint(*sample)
    assert (found["n_spots"], found["n_without_tissue"]) == (4, 2)
    assert found["spots"] == spot_sketch(sample[2].X, GENES)
    assert found["picture"] == picture_hashes(painted(0))
    assert [record["path"].endswith("/S1.h5") for record in found["files"]] == [True]


def test_patches_of_another_slide_are_refused(sample):
    files, picture, counts, patches = sample
    counts.obs_names = [f"other-{name}" for name in counts.obs_names]
    with pytest.raises(InputError, match="barcodes of no spot"):
        fingerprint(files, picture, counts, patches)
