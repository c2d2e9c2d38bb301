"""MicNet from counts to a space: two planted domains, which each modality shows only in part."""

import json

import h5py
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from spotwise.constants import BARCODES, IMAGES
from spotwise.data.folds import SlideSpots, read_fold, write_fold
from spotwise.models.images import normalise
from spotwise.models.registry import build, restore
from spotwise.models.sizes import Sizes
from spotwise.structure.clustering_fold import assemble_clustering_fold
from spotwise.structure.joint import embed_joint, measured
from spotwise.structure.spaces import read_space
from spotwise.training.dataset import Spots
from spotwise.training.loop import train
from spotwise.training.training_options import TrainingOptions

N, GENES, PX = 80, 30, 32
MICNET = {"encoder": "test_resnet", "pretrained": "no", "image_size": PX, "embedding_dim": 8, "gene_hidden": "16"}
MICNET |= {"negatives": 16, "augmentation": "turns"}
SGD = {"optimiser": "sgd", "learning_rate": 0.03, "final_learning_rate": 0.03, "weight_decay": 1e-4, "clip_norm": 5}
OPTIONS = TrainingOptions(device="cpu", epochs=12, batch_size=16, threads=1, **SGD)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Train on a slide of two domains, nuclei and stripes, with a third of the genes higher in one."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    domain = rng.permutation(np.arange(N) % 2)
    images = rng.normal(150, 25, size=(N, PX, PX, 3))
    stripes = 60 * (np.arange(PX) // 4 % 2)
    images[domain == 1] -= stripes[:, None, None]
    images[domain == 0, :, :, 0] -= 20
    rate = np.exp(rng.normal(1, 0.5, size=GENES) + 1.2 * domain[:, None] * (np.arange(GENES) % 3 == 0))
    counts = rng.poisson(rate * rng.gamma(8, 1 / 8, size=(N, 1)))
    barcode = np.array([f"{spot}" for spot in range(N)], dtype=object)
    patch = rng.permutation(N)
    with h5py.File(folder / "patches.h5", "w") as file:
        stored = np.empty((N, PX, PX, 3), dtype=np.uint8)
        stored[patch] = images.clip(0, 255)
        file[IMAGES] = stored
        file[BARCODES] = barcode[np.argsort(patch)].astype("S")
    slide = SlideSpots(
        genes=np.array([f"G{gene:02d}" for gene in range(GENES)], dtype=object),
        expression=sparse.csr_matrix(counts.astype(np.float32)),
        barcode=barcode,
        patch=patch,
        spatial=rng.uniform(size=(N, 2)),
        array=np.stack(np.divmod(np.arange(N), 9), axis=1),
        total_counts=counts.sum(axis=1),
    )
    write_fold(folder / "S.h5", assemble_clustering_fold({"S": slide}, {"S": "P"}, "c", 0.2))
    train(
        folder / "S.h5", {"S": folder / "patches.h5"}, "MicNet", MICNET, OPTIONS, 0, "1", folder / "state",
        folder,
    )  # fmt: skip
    embed(folder, folder / "space.h5")
    return folder, domain


def embed(folder, output, fold="S.h5"):
    embed_joint(folder, folder / fold, folder / "patches.h5", "S", "cpu", 1, "Mine", output)


def agreement(embedding, domain):
    return adjusted_rand_score(domain, KMeans(2, n_init=10, random_state=0).fit_predict(embedding))


def test_two_planted_domains_are_found_in_the_joint_space(toy):
    folder, domain = toy
    space = read_space(folder / "space.h5")
    assert agreement(space.embedding, domain) > 0.8
    # and not in that of a network which has learnt nothing
    torch.manual_seed(0)
    fold = read_fold(folder / "S.h5")
    fresh = build("MicNet", Sizes.of(fold), MICNET).eval()
    with torch.no_grad():
        assert agreement(fresh.embed_expression(torch.from_numpy(fold.expression)).numpy(), domain) < 0.8


def test_a_space_is_both_halves_of_every_spot_at_length_one(toy):
    folder, _ = toy
    space, fold = read_space(folder / "space.h5"), read_fold(folder / "S.h5")
    assert (space.name, space.seed, space.halves, space.pretrained) == ("Mine", 0, (8, 8), False)
    assert space.barcode.tolist() == fold.barcode.tolist()  # those to validate on, too
    model = restore("MicNet", Sizes.of(fold), MICNET, folder / "weights.safetensors")
    with h5py.File(folder / "patches.h5") as file:
        images = normalise(torch.from_numpy(file[IMAGES][:][fold.patch]))
    with torch.inference_mode():
        image, gene = model.embed_images(images), model.embed_expression(torch.from_numpy(fold.expression))
    for half, expected in ((space.embedding[:, :8], image.numpy()), (space.embedding[:, 8:], gene.numpy())):
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(half, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)


def test_the_kept_epoch_is_that_of_the_highest_spearman(toy):
    folder, _ = toy
    lines = [line.split("\t") for line in (folder / "history.tsv").read_text().splitlines()]
    spearman = [float(row[lines[0].index("val_spearman")]) for row in lines[1:]]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best_epoch"] == 1 + int(np.argmax(spearman)) > 1
    assert summary["best_val_loss"] == pytest.approx(1 - max(spearman), abs=1e-6)
    # the criterion again, from the weights that were kept
    fold = read_fold(folder / "S.h5")
    model = restore("MicNet", Sizes.of(fold), MICNET, folder / "weights.safetensors")
    spots = Spots(
        fold, fold.rows("val"), {"S": folder / "patches.h5"}, torch.device("cpu"), context=model.options.context
    )
    with torch.inference_mode():
        again = model.validate([spots.batch(torch.arange(len(spots)))], len(spots), torch.Generator())
    assert again["spearman"] == pytest.approx(max(spearman), abs=1e-6)


def test_a_gene_missing_from_a_test_slide_has_its_training_mean(fold, caplog):
    tested = fold.rows("test", sample="C")
    fold.expression[tested, 4] = np.nan
    found = measured(fold, tested)
    assert found[:, 4] == pytest.approx(fold.expression[fold.rows("train", "val"), 4].mean(), rel=1e-5)
    np.testing.assert_array_equal(np.delete(found, 4, axis=1), np.delete(fold.expression[tested], 4, axis=1))
    assert "1 genes" in caplog.text
