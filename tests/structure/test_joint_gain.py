"""What joining two modalities gains: MicNet where both show the domains dimly, and where one is of other spots."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from arrays import square
from spotwise.constants import BARCODES, IMAGES
from spotwise.data.folds import SlideSpots, write_fold
from spotwise.structure.clustering_fold import assemble_clustering_fold
from spotwise.structure.joint import embed_joint
from spotwise.structure.spaces import read_space
from spotwise.training.loop import train
from spotwise.training.training_options import TrainingOptions

SIDE, GENES, PX, DOMAINS = 12, 30, 16, 4
TINTS = np.array([[0, 0, 0], [40, 0, -40], [0, 40, 40], [-40, -40, 0]])
MICNET = {"encoder": "test_resnet", "pretrained": "no", "image_size": PX, "embedding_dim": 8, "gene_hidden": "16"}
MICNET |= {"negatives": 32, "augmentation": "turns"}
SGD = {"optimiser": "sgd", "learning_rate": 0.03, "final_learning_rate": 0.003, "weight_decay": 1e-4, "clip_norm": 5}
OPTIONS = TrainingOptions(device="cpu", epochs=60, batch_size=16, threads=1, **SGD)


def trained(folder, seed, shuffled):
    """ARI with the domains that the images show: of the mean colour, of the joint space and of its halves."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    n = SIDE**2
    domain = rng.permutation(np.arange(n) % DOMAINS)
    images = 150 + TINTS[domain][:, None, None] + rng.normal(0, 20, (n, 1, 1, 3)) + rng.normal(0, 25, (n, PX, PX, 3))
    rate = np.exp(rng.normal(1, 0.5, GENES) + rng.normal(size=(DOMAINS, GENES))[domain])
    counts = rng.poisson(rate * rng.gamma(8, 1 / 8, (n, 1)))
    if shuffled:
        counts = counts[rng.permutation(n)]
    barcode = np.array([f"{spot}" for spot in range(n)], dtype=object)
    with h5py.File(folder / "patches.h5", "w") as file:
        file[IMAGES] = images.clip(0, 255).astype(np.uint8)
        file[BARCODES] = barcode.astype("S")
    slide = SlideSpots(
        genes=np.array([f"G{gene:02d}" for gene in range(GENES)], dtype=object),
        expression=sparse.csr_matrix(np.log1p(counts).astype(np.float32)),
        barcode=barcode,
        patch=np.arange(n),
        spatial=square(SIDE),
        array=square(SIDE).astype(int),
        total_counts=counts.sum(axis=1),
    )
    write_fold(folder / "S.h5", assemble_clustering_fold({"S": slide}, {"S": "P"}, "c", 0.2))
    patches = folder / "patches.h5"
    train(folder / "S.h5", {"S": patches}, "MicNet", MICNET, OPTIONS, seed, "1", folder / "state", folder)
    embed_joint(folder, folder / "S.h5", patches, "S", "cpu", 1, "Mine", folder / "space.h5")
    joint, image_half, expression_half = (part.embedding for part in read_space(folder / "space.h5").parts())
    spaces = {"colour": images.mean(axis=(1, 2)), "joint": joint, "image": image_half, "expression": expression_half}
    return SimpleNamespace(
        **{
            name: adjusted_rand_score(domain, KMeans(DOMAINS, n_init=10, random_state=0).fit_predict(embedding))
            for name, embedding in spaces.items()
        }
    )


@pytest.mark.long
def test_the_joint_gain_vanishes_where_the_modalities_are_shuffled_against_each_other(tmp_path):
    linked, shuffled = (
        [trained(tmp_path / f"{kind}{seed}", seed, kind == "shuffled") for seed in range(3)]
        for kind in ("linked", "shuffled")
    )

    def gains(slides):
        over_halves = np.mean([found.joint - max(found.image, found.expression) for found in slides])
        over_colour = np.mean([found.joint - found.colour for found in slides])
        return over_halves, over_colour

    assert min(gains(linked)) > 0.05
    assert max(gains(shuffled)) < 0.05
    assert np.mean([found.expression for found in shuffled]) < 0.1  # it is of other spots
