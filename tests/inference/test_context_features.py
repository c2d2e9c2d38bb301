"""Claims about context features: of the right squares, levels and symmetries, in the order of the patches."""

import anndata
import h5py
import numpy as np
import pytest
import timm
import torch

from drawnslides import halved, texture, write_slide
from spotwise.constants import BARCODES, IMAGES, SPATIAL
from spotwise.data.features import ContextBlocks, embedded_spots, feature_width
from spotwise.data.patches import extract_patches
from spotwise.data.stain_statistics import WIDTH, stain_statistics
from spotwise.inference import context_features
from spotwise.inference.context_features import embed_context, encoder_blocks
from spotwise.models.images import SYMMETRIES, normalise, turn

UM_PER_PX = 0.7
SCALE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # mean and deviation that timm's test_resnet expects
CENTRES = np.array([[300.0, 300.0], [640.0, 420.0], [410.0, 700.0], [30.0, 500.0]])
NAMES = ["1x1", "2x1", "1x2", "0x3"]


@pytest.fixture
def slide(tmp_path):
    """Return a slide, its patches and its counts; one spot is at the edge."""
    image = texture(1024, 1024)
    path = write_slide(tmp_path / "slide.tif", [image, halved(image)], UM_PER_PX)
    extract_patches(path, CENTRES, NAMES, UM_PER_PX, tmp_path / "patches.h5")
    order = [2, 0, 3, 1]  # spots in the counts come in another order
    counts = anndata.AnnData(np.ones((4, 2), dtype=np.float32), obsm={SPATIAL: CENTRES[order]})
    counts.obs_names = [NAMES[spot] for spot in order]
    counts.var_names = ["G0", "G1"]
    counts.write_h5ad(tmp_path / "counts.h5ad")
    return tmp_path


def embed(folder, fields=(112,), views=1, encoder="test_resnet", name="context.h5"):
    slide, counts = folder / "slide.tif", folder / "counts.h5ad"
    output = folder / name
    embed_context(folder / "patches.h5", slide, counts, UM_PER_PX, fields, encoder, "no", views, "cpu", 1, output)
    with h5py.File(output) as file:
        blocks = {block: file["blocks"][block][:] for block in file["blocks"]}
        return blocks, file[BARCODES].asstr()[:].tolist(), dict(file.attrs)


def random_encoder(name):
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=0).eval()


def patches_of(folder):
    with h5py.File(folder / "patches.h5") as file:
        return file[IMAGES][:]


@pytest.mark.parametrize("at_once", [3, 64])
def test_blocks_are_levels_output_and_stain_of_each_patch(slide, monkeypatch, at_once):
    monkeypatch.setattr(context_features, "AT_ONCE", at_once)
    blocks, barcodes, attrs = embed(slide)
    assert barcodes == NAMES
    assert (attrs["encoder"], attrs["pretrained"], attrs["fell_back"], attrs["views"]) == (
        "test_resnet",
        False,
        False,
        1,
    )
    model, images = random_encoder("test_resnet"), torch.from_numpy(patches_of(slide))
    with torch.inference_mode():
        pooled = model(normalise(images, *SCALE)).numpy()
    np.testing.assert_allclose(blocks["pooled_112"], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(blocks["stain_112"], stain_statistics(patches_of(slide)), rtol=1e-5)
    assert sorted(blocks) == ["level_112_0", "level_112_1", "level_112_2", "pooled_112", "stain_112"]
    assert feature_width(slide / "context.h5") == sum(block.shape[1] for block in blocks.values())


def test_the_last_level_holds_mean_and_deviation_of_the_last_map(slide):
    model, images = random_encoder("test_resnet"), torch.from_numpy(patches_of(slide))
    with torch.inference_mode():
        last = model.forward_features(normalise(images, *SCALE))
    expected = torch.cat([last.mean(dim=(2, 3)), last.flatten(2).std(dim=2)], dim=1).numpy()
    np.testing.assert_allclose(embed(slide)[0]["level_112_2"], expected, rtol=1e-4, atol=1e-5)


def test_all_views_together_do_not_know_how_a_patch_lies(slide):
    whole = embed(slide, views=8)[0]
    with h5py.File(slide / "patches.h5", "a") as file:
        turned = [turn(torch.from_numpy(file[IMAGES][row : row + 1]), row + 3)[0] for row in range(4)]
        file[IMAGES][:] = torch.stack(turned).numpy()
    again = embed(slide, views=8, name="again.h5")[0]
    once = embed(slide, views=1, name="once.h5")[0]
    for name in ("level_112_0", "pooled_112"):
        np.testing.assert_allclose(again[name], whole[name], rtol=1e-4, atol=1e-5)
        assert not np.allclose(once[name], whole[name], rtol=1e-3)
    assert SYMMETRIES == 8


def test_a_wide_square_is_cut_around_the_same_spot(slide):
    """Its middle quarter, enlarged, is the patch."""
    blocks = embed(slide, fields=(112, 224))[0]
    extract_patches(slide / "slide.tif", CENTRES, NAMES, UM_PER_PX / 2, slide / "wide.h5")  # a patch of 224 um
    with h5py.File(slide / "wide.h5") as file:
        wide = file[IMAGES][:]
    np.testing.assert_allclose(blocks["stain_224"], stain_statistics(wide), rtol=0.05, atol=0.05)
    middle = wide[:2, 56:168, 56:168].astype(float)
    patch = patches_of(slide)[:2].reshape(2, 112, 2, 112, 2, 3).mean(axis=(2, 4))
    assert np.corrcoef(middle.ravel(), patch.ravel())[0, 1] > 0.95


def test_a_transformer_has_levels_too_and_an_encoder_without_them_its_output():
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        found = encoder_blocks(random_encoder("test_vit"), images)
        pooled = random_encoder("test_vit")(images)
    assert sorted(found) == [*(f"level_{i}" for i in range(len(found) - 1)), "pooled"]
    torch.testing.assert_close(found["pooled"], pooled)
    assert list(encoder_blocks(torch.nn.Flatten(), images)) == ["pooled"]


def test_blocks_are_joined_to_the_spots_of_a_fold_by_barcode(fold, tmp_path):
    files, stored = {}, {}
    rng = np.random.default_rng(0)
    for slide in "ABCD":
        names = fold.barcode[fold.sample == slide]
        order = rng.permutation(len(names))
        stored[slide] = dict(zip(names[order], rng.normal(size=(len(names), 5)).astype(np.float32), strict=True))
        files[slide] = tmp_path / f"{slide}.h5"
        block = np.stack(list(stored[slide].values()))
        context_features.write_context(files[slide], {"stain_112": block}, names[order], encoder="e", pretrained=True)
    rows = rng.permutation(len(fold.sample))
    spots = embedded_spots(fold, rows, files)
    assert isinstance(spots.features, ContextBlocks)
    assert (list(spots.features), len(spots.features)) == (["stain_112"], 1)
    expected = np.stack([stored[fold.sample[row]][fold.barcode[row]] for row in rows])
    np.testing.assert_array_equal(spots.features["stain_112"], expected)
    assert WIDTH == 63


def test_what_a_test_spot_counted_is_not_given_to_a_method(fold, embedded):
    spots = embedded_spots(fold, np.arange(len(fold.sample)), embedded)
    assert np.isnan(spots.total_counts[fold.role == "test"]).all()
    np.testing.assert_array_equal(spots.total_counts[fold.bank], fold.total_counts[fold.bank])
