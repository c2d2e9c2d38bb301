"""Claims about collapse: it stops a training, and nothing else does."""

import math

import pytest

from spotwise.errors import CollapseError
from spotwise.training.collapse import COLLAPSE_EPOCHS, check_collapse


def epochs(contrastive, image=1.0, gene=1.0):
    return [
        {"epoch": n + 1, "train_total": loss, "val_total": loss, "train_contrastive": loss}
        | {"val_image_spread": image, "val_gene_spread": gene}
        for n, loss in enumerate(contrastive)
    ]


def test_a_loss_that_stays_at_the_logarithm_of_the_batch_stops_the_training():
    level = math.log(64)
    check_collapse(epochs([level] * (COLLAPSE_EPOCHS - 1)), 64)
    check_collapse(epochs([level] * (COLLAPSE_EPOCHS - 1) + [0.98 * level]), 64)
    with pytest.raises(CollapseError, match=r"ln\(64\) = 4.159"):
        check_collapse(epochs([9.0, *[level] * COLLAPSE_EPOCHS]), 64)


@pytest.mark.parametrize("term", ["train_total", "val_total"])
def test_a_loss_that_is_not_finite_stops_any_training(term):
    row = {"epoch": 1, "train_total": 1.0, "val_total": 1.0}  # of a regression: no contrastive term
    check_collapse([row], 16)
    with pytest.raises(CollapseError, match=f"epoch 1: {term} is nan"):
        check_collapse([row | {term: math.nan}], 16)


@pytest.mark.parametrize(("image", "gene", "named"), [(1e-5, 1, "image"), (1, 0, "gene"), (float("nan"), 1, "image")])
def test_embeddings_that_become_equal_stop_the_training(image, gene, named):
    with pytest.raises(CollapseError, match=f"{named} embeddings have collapsed"):
        check_collapse(epochs([2.0], image, gene), 64)
