"""The losses against a worked example of three spots, computed in NumPy, and against their invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spotwise.models.losses import balance, combine, monitored, reconstruction_error, soft_contrastive, spread

IMAGE = [[1, 0, 0.5, -0.5], [0, 1, -0.25, 0.75], [0.5, -0.5, 1, 0.25]]
GENE = [[0.8, 0.2, 0.4, -0.6], [-0.1, 0.9, 0.3, 0.5], [0.6, -0.4, 0.7, -0.2]]

RELEASED_SPOTS = [0.938546, 0.768043, 0.938867]
RELEASED_IMAGES = [1.018130, 0.645049, 0.963013]
PAPER_IMAGES = [0.939915, 0.749721, 0.938751]
PAPER_SPOTS = [1.019955, 0.676138, 0.985130]


def example(requires_grad=False):
    return (torch.tensor(rows, dtype=torch.float64, requires_grad=requires_grad) for rows in (IMAGE, GENE))


def random_embeddings(seed, spots=6, dim=5):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(spots, dim, generator=generator, dtype=torch.float64) for _ in range(2))


def is_close(value, expected):
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=0, atol=6e-7)


def slow_soft_contrastive(image, gene, temperature, target_temperature):
    """Compute the released pairing by loops over pairs of spots."""
    n = len(image)
    scale = temperature if target_temperature == "multiply" else 1 / temperature

    def softmax(row):
        exponentials = [math.exp(value - max(row)) for value in row]
        return [value / sum(exponentials) for value in exponentials]

    target = [softmax([scale * (image[i] @ image[j] + gene[i] @ gene[j]) / 2 for j in range(n)]) for i in range(n)]
    spots, images = [], []
    for i in range(n):
        by_image = softmax([gene[i] @ image[j] / temperature for j in range(n)])
        by_gene = softmax([image[i] @ gene[j] / temperature for j in range(n)])
        spots.append(-sum(target[i][j] * math.log(by_image[j]) for j in range(n)))
        images.append(-sum(target[j][i] * math.log(by_gene[j]) for j in range(n)))
    return spots, images


def test_released_pairing_gives_the_worked_cross_entropies():
    spots, images = soft_contrastive(*example())
    is_close(spots, RELEASED_SPOTS)
    is_close(images, RELEASED_IMAGES)


def test_paper_pairing_gives_the_worked_cross_entropies():
    spots, images = soft_contrastive(*example(), pairing="paper")
    is_close(spots, PAPER_SPOTS)
    is_close(images, PAPER_IMAGES)


@pytest.mark.parametrize(
    ("pairing", "how", "log", "expected"),
    [
        ("released", "average", "per_sample", 0.628347),  # the released code
        ("released", "average", "of_mean", 0.630531),
        ("released", "sum", "of_mean", 1.014221),
        ("released", "sum", "per_sample", 1.010111),
        ("paper", "sum", "of_mean", 1.018800),  # the paper to the letter
        ("paper", "sum", "per_sample", 1.014748),
        ("paper", "average", "of_mean", 0.633893),
        ("paper", "average", "per_sample", 0.631734),
    ],
)
def test_each_reading_of_the_contrastive_term_has_its_own_value(pairing, how, log, expected):
    is_close(balance(combine(*soft_contrastive(*example(), pairing=pairing), how), log), expected)


def test_average_over_samples_is_bleeps_loss():
    averaged = combine(*soft_contrastive(*example()))
    is_close(averaged, [0.978338, 0.706546, 0.950940])
    is_close(averaged.mean(), 0.878608)


def test_sum_is_twice_the_average_before_the_logarithm():
    summed = combine(*soft_contrastive(*example()), "sum")
    is_close(summed, [1.956676, 1.413093, 1.901880])
    is_close(summed.mean(), 1.757216)


def test_exchanging_the_modalities_changes_the_loss():
    image, gene = example()
    is_close(balance(combine(*soft_contrastive(gene, image))), 0.631734)


def test_transposing_the_targets_changes_the_loss():
    """0.629681 would be the released loss if the image term were paired with the targets untransposed."""
    spots, _ = soft_contrastive(*example())
    _, untransposed = soft_contrastive(*example(), pairing="paper")
    is_close(balance((spots + untransposed) / 2), 0.629681)
    assert abs(balance(combine(*soft_contrastive(*example()))) - 0.629681) > 1e-3


def test_total_adds_the_balanced_reconstruction_error():
    reconstruction = reconstruction_error(torch.full((3, 4), 0.5), torch.zeros(3, 4))
    assert reconstruction == 0.25
    is_close(balance(reconstruction), 0.223144)
    is_close(balance(combine(*soft_contrastive(*example()))) + balance(reconstruction), 0.851490)


def test_cosine_error_equals_one_minus_the_cosine_of_each_spot_averaged():
    found, wanted = random_embeddings(seed=6)
    f, w = found.numpy(), wanted.numpy()
    cosines = np.einsum("bd,bd->b", f, w) / np.sqrt((f**2).sum(axis=1) * (w**2).sum(axis=1))
    assert np.ptp(cosines) > 0.5
    np.testing.assert_allclose(reconstruction_error(found, wanted, how="cosine"), 1 - np.mean(cosines), rtol=1e-12)


def test_cosine_error_is_0_to_2_and_blind_to_the_length_of_either_embedding():
    found, wanted = random_embeddings(seed=8)
    lengths = torch.arange(1, 7, dtype=torch.float64)[:, None]
    is_close(reconstruction_error(3 * found, found, how="cosine"), 0)
    is_close(reconstruction_error(found, -found, how="cosine"), 2)
    unscaled = reconstruction_error(found, wanted, how="cosine")
    torch.testing.assert_close(reconstruction_error(lengths * found, wanted / lengths, how="cosine"), unscaled)


def test_temperature_multiplies_the_targets_exponent_in_cmrcnet():
    spots, images = soft_contrastive(*example(), temperature=0.5)
    is_close(spots, [1.411745, 1.346928, 1.392758])
    is_close(images, [1.412403, 1.405674, 1.289720])
    is_close(combine(spots, images).mean(), 1.376538)
    is_close(balance(combine(spots, images)), 0.865571)


def test_temperature_divides_the_targets_exponent_in_bleeps_resnet_class():
    terms = soft_contrastive(*example(), temperature=0.5, target_temperature="divide")
    is_close(combine(*terms).mean(), 0.568063)


@pytest.mark.parametrize("target_temperature", ["multiply", "divide"])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_loss_equals_loops_over_pairs(temperature, target_temperature):
    image, gene = random_embeddings(seed=3)
    fast = soft_contrastive(image, gene, temperature=temperature, target_temperature=target_temperature)
    slow = slow_soft_contrastive(image.numpy(), gene.numpy(), temperature, target_temperature)
    for quick, obvious in zip(fast, slow, strict=True):
        np.testing.assert_allclose(quick, obvious, rtol=1e-10)


def test_gradient_flows_through_the_targets():
    image, gene = example(requires_grad=True)
    balance(combine(*soft_contrastive(image, gene))).backward()
    is_close(
        image.grad,
        [
            [-0.024957, 0.018438, -0.009293, 0.036258],
            [0.042214, -0.074535, 0.047424, -0.054844],
            [-0.017021, 0.046782, -0.032239, 0.019794],
        ],
    )
    is_close(
        gene.grad,
        [
            [-0.030849, 0.021893, -0.010453, 0.034711],
            [0.046041, -0.069352, 0.025114, -0.054019],
            [-0.002980, 0.034842, -0.007300, 0.004473],
        ],
    )
    detached_would_be = torch.tensor([0.008064, -0.004590, 0.009310, -0.002654], dtype=torch.float64)
    assert torch.cosine_similarity(image.grad[0], detached_would_be, dim=0) < 0


@pytest.mark.parametrize("pairing", ["released", "paper"])
@pytest.mark.parametrize("spots", [3, 64])
def test_collapsed_embeddings_cost_the_logarithm_of_the_batch(spots, pairing):
    same = torch.ones(spots, 8)
    for term in soft_contrastive(same, same, pairing=pairing):
        torch.testing.assert_close(term, torch.full((spots,), math.log(spots)))


def test_permuting_the_batch_permutes_the_losses():
    image, gene = random_embeddings(seed=5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for term, permuted in zip(soft_contrastive(image, gene), soft_contrastive(image[order], gene[order]), strict=True):
        torch.testing.assert_close(permuted, term[order], rtol=0, atol=1e-13)


def test_bfloat16_embeddings_are_compared_in_float32_under_autocast():
    image, gene = (8 * tensor.to(torch.bfloat16) for tensor in random_embeddings(seed=9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = soft_contrastive(image, gene)
        errors = [reconstruction_error(image, gene, how=how) for how in ("mse", "cosine")]
    exact_errors = [reconstruction_error(image.float(), gene.float(), how=how) for how in ("mse", "cosine")]
    expected = soft_contrastive(image.float(), gene.float())
    assert errors == exact_errors
    assert {error.dtype for error in errors} == {torch.float32}
    for term, exact in zip(terms, expected, strict=True):
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, exact, rtol=0, atol=0)


def test_spread_is_zero_for_one_shared_embedding_and_one_for_unit_deviation():
    assert spread(torch.full((4, 3), 2.5)) == 0
    assert spread(torch.tensor([[1.0, -3.0], [3.0, -1.0]])) == 1


def test_monitored_contrastive_term_is_the_same_in_every_reading():
    image, gene = example(requires_grad=True)
    terms = soft_contrastive(image, gene)
    watched = monitored(image, gene, *terms)
    is_close(watched["contrastive"], 0.878608)
    is_close(watched["image_spread"], np.std(IMAGE, axis=0).mean())
    is_close(watched["gene_spread"], np.std(GENE, axis=0).mean())
    assert not any(value.requires_grad for value in watched.values())
