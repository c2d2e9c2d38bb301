"""ContextRidge: ridge regression on the tissue around a spot, relative to its slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # imports subpackages on first use

from spotwise.data.centring import centred, standardised
from spotwise.data.features import EmbeddedSpots
from spotwise.data.spot_rings import ring_matrices
from spotwise.models.context_ridge_options import ContextRidgeOptions
from spotwise.models.inner_folds import inner_groups

LEVEL, POOLED, STAIN = "level", "pooled", "stain"  # first words of the blocks' names
CONFIDENCE = 0.95


class ContextRidge:
    """Ridge regression of a slide's expression pattern on the tissue around each spot.

    Features are blocks: levels of a frozen encoder, or its pooled output, and statistics of the stain, for squares of
    one or several sizes around a spot. They are standardised on each slide, which needs the slide's image alone, and
    reduced to principal components. To those of the spot come their means over rings of neighbouring spots. Targets are
    centred on each slide and gene, so that nothing can be gained from telling slides apart, and reduced to their
    principal components. A prediction is the training mean plus what the tissue adds to it.

    Penalty and rank are those with the highest correlation on training slides (patients under the patient protocol,
    blocks within a single slide) that were left out in turn: the mean over the slides left out, and over the genes that
    vary most within the training slides.
    """

    weight_names = (
        "block_widths",
        "centre",
        "components",
        "inner_high",
        "inner_low",
        "inner_pcc",
        "loadings",
        "mean",
        "scale",
        "slopes",
        "spread",
    )

    def __init__(self, options: ContextRidgeOptions):
        self.options = options

    def n_parameters(self, features: int, genes: int) -> int:
        """Count the slopes and the components of the expression, for an encoder with three levels."""
        blocks = (3 * self.options.levels + self.options.pooled + self.options.stain) * len(self.options.fields_um)
        inputs = blocks * (self.options.rings + 1) * self.options.components
        rank = self.options.largest_rank or genes
        return rank * (inputs + genes) + genes

    def fit(self, spots: EmbeddedSpots, expression: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Fit on training spots.

        Parameters
        ----------
        spots
            N spots with their blocks of features.
        expression
            (N, G) log-normalised.

        Returns
        -------
        weights, report
            Float32 arrays. ``loadings`` (sum of block widths, C) project the standardised features of each block,
            ``scale`` (blocks, rings + 1) weighs a block and ring, ``slopes`` (blocks x (rings + 1) x C, K) predict the
            ``components`` (K, G) of the expression around its ``mean`` (G,). ``inner_pcc`` (G,) is the mean correlation
            on slides left out, ``inner_low`` and ``inner_high`` its 95 % interval over them. ``centre`` and ``spread``
            (sum of block widths) scale features where that is not done per slide. The report holds ``alpha``, ``rank``,
            and the correlation of every choice.
        """
        weights, inputs = self._project(spots)
        weight = self._spot_weights(spots.total_counts)
        mean, targets = self._targets(spots.slide, expression)
        found = self._choose(inputs, targets, weight, spots)
        components = principal_axes(targets * np.sqrt(weight)[:, None], found.rank)
        slopes = RidgePath(inputs, targets @ components, weight).slopes(found.alpha)
        weights |= {"slopes": slopes, "components": components.T, "mean": mean} | found.of_genes()
        return {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}, {
            **found.report(),
            "blocks": self._names(spots.features),
        }

    def predict(self, weights: dict[str, np.ndarray], spots: EmbeddedSpots, expression: np.ndarray) -> np.ndarray:
        """Predict expression (n, G) float32 of all spots of a slide; ``expression`` of the training is not read."""
        inputs = self._inputs(weights, spots)
        return (inputs @ weights["slopes"] @ weights["components"] + weights["mean"]).astype(np.float32)

    # --- Features -----------------------------------------------------------------------------------------------------

    def _names(self, features: Mapping[str, np.ndarray]) -> list[str]:
        """Select the blocks that the options ask for, in a fixed order."""
        parts = {name: name.split("_") for name in sorted(features)}
        parts = {name: part for name, part in parts.items() if int(part[1]) in self.options.fields_um}
        has_levels = any(part[0] == LEVEL for part in parts.values())
        pooled = self.options.pooled or (self.options.levels and not has_levels)
        wanted = {LEVEL: self.options.levels, POOLED: pooled, STAIN: self.options.stain}
        return [name for name, part in parts.items() if wanted[part[0]]]

    def _project(self, spots: EmbeddedSpots) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Find the principal components of each block, and the scale that gives all blocks and rings their weight.

        Returned with the inputs of the training spots, as :meth:`_inputs` computes them from these weights.
        """
        names, neighbours = self._names(spots.features), self._neighbours(spots)
        loadings, scales, centres, spreads, widths, inputs = [], [], [], [], [], []
        own = np.array([self.options.own_weight, *np.ones(self.options.rings)])
        share = np.sqrt(own / own.sum() / len(names))
        for name in names:
            block = spots.features[name]
            centres.append(block.mean(axis=0, dtype=np.float64))
            spreads.append(np.maximum(block.std(axis=0, dtype=np.float64), np.finfo(np.float32).tiny))
            block = self._standardise(block, spots.slide, centres[-1], spreads[-1])
            axes = principal_axes(block, self.options.components)
            padded = np.pad(axes, ((0, 0), (0, self.options.components - axes.shape[1])))
            around = self._with_rings(block @ padded, neighbours)
            size = [np.sqrt(np.mean(np.sum(part**2, axis=1))) for part in around]
            scales.append([one / two if two else 0.0 for one, two in zip(share, size, strict=True)])
            inputs += [part * factor for part, factor in zip(around, scales[-1], strict=True)]
            loadings.append(padded)
            widths.append(len(axes))
        weights = {
            "block_widths": np.array(widths),
            "loadings": np.concatenate(loadings),
            "scale": np.array(scales),
            "centre": np.concatenate(centres),
            "spread": np.concatenate(spreads),
        }
        return weights, np.concatenate(inputs, axis=1)

    def _inputs(self, weights: dict[str, np.ndarray], spots: EmbeddedSpots) -> np.ndarray:
        """Compute the inputs (N, blocks x (rings + 1) x C) of the regression, whose mean square over spots is 1."""
        names, neighbours = self._names(spots.features), self._neighbours(spots)
        ends = np.cumsum(weights["block_widths"].astype(int))[:-1]
        of_block = (np.split(weights[key], ends) for key in ("loadings", "centre", "spread"))
        parts = []
        for name, loadings, centre, spread, scale in zip(names, *of_block, weights["scale"], strict=True):
            block = self._standardise(spots.features[name], spots.slide, centre, spread)
            around = self._with_rings(block @ loadings, neighbours)
            parts += [part * factor for part, factor in zip(around, scale, strict=True)]
        return np.concatenate(parts, axis=1)

    def _standardise(self, block: np.ndarray, slide: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Scale a block (N, D) on each slide, or by the training spots' ``centre`` and ``spread`` (D,)."""
        block = block.astype(np.float64)
        return standardised(block, slide) if self.options.centre_features else (block - centre) / spread

    def _neighbours(self, spots: EmbeddedSpots) -> list[tuple[np.ndarray, list[scipy.sparse.csr_array]]]:
        """Return the rows of each slide, and the matrices that average over the rings around its spots."""
        slides = [np.flatnonzero(spots.slide == slide) for slide in dict.fromkeys(spots.slide)]
        return [(rows, ring_matrices(spots.spatial[rows], self.options.rings, spots.ring_pitch)) for rows in slides]

    def _with_rings(
        self, values: np.ndarray, neighbours: list[tuple[np.ndarray, list[scipy.sparse.csr_array]]]
    ) -> list[np.ndarray]:
        """Return values (N, C) of the spots, and their means over each ring of neighbours on the slide."""
        found = [values, *(np.zeros_like(values) for _ in range(self.options.rings))]
        for rows, matrices in neighbours:
            for ring, matrix in enumerate(matrices, start=1):
                found[ring][rows] = matrix @ values[rows]
        return found

    # --- Targets ------------------------------------------------------------------------------------------------------

    def _spot_weights(self, total_counts: np.ndarray) -> np.ndarray:
        """Weigh spots (N,) by the share of their variance that is not noise, with mean 1."""
        weight = total_counts / (total_counts + self.options.half_weight_counts)
        return weight / weight.mean()

    def _targets(self, slide: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the training mean (G,), with slides of equal weight, and the deviations (N, G) to predict."""
        expression = expression.astype(np.float64)
        mean = np.mean([expression[slide == one].mean(axis=0) for one in dict.fromkeys(slide)], axis=0)
        return mean, centred(expression, slide) if self.options.centre_targets else expression - mean

    # --- Choice of penalty and rank -----------------------------------------------------------------------------------

    def _choose(self, inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray, spots: EmbeddedSpots) -> Choice:
        """Choose penalty and rank on groups of spots left out in turn."""
        group = inner_groups(spots.group, spots.spatial, self.options.n_blocks)
        alphas = np.geomspace(self.options.smallest_alpha, self.options.largest_alpha, self.options.n_alphas)
        largest = self.options.largest_rank
        ranks = sorted({max(1, largest // 4), max(1, largest // 2), largest}) if largest else [targets.shape[1]]
        within = np.mean([targets[spots.slide == one].var(axis=0) for one in dict.fromkeys(spots.slide)], axis=0)
        judged = np.argsort(-within, kind="stable")[: self.options.judged_genes]
        folds = list(_left_out(inputs, targets, weight, group, spots.slide, ranks[-1]))
        scores = np.array(
            [[[fold.correlation(alpha, rank, judged).mean() for alpha in alphas] for rank in ranks] for fold in folds]
        )  # (folds, ranks, alphas)
        rank, alpha = np.unravel_index(scores.mean(axis=0).argmax(), scores.shape[1:])
        of_gene = np.stack([fold.correlation(alphas[alpha], ranks[rank], slice(None)) for fold in folds])
        return Choice(float(alphas[alpha]), ranks[rank], alphas, ranks, scores, of_gene)


class Choice(NamedTuple):
    """The chosen penalty and rank, and what was seen of all that were tried."""

    alpha: float
    rank: int
    alphas: np.ndarray
    ranks: list[int]
    scores: np.ndarray  # (folds, ranks, alphas) correlation on spots left out
    of_gene: np.ndarray  # (folds, G) correlation of each gene with the chosen penalty and rank

    def of_genes(self) -> dict[str, np.ndarray]:
        """Return mean and t interval over the folds of each gene's correlation, (G,) each."""
        n = len(self.of_gene)
        mean = self.of_gene.mean(axis=0)
        error = self.of_gene.std(axis=0, ddof=1) / np.sqrt(n)
        reach = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error
        return {
            "inner_pcc": mean,
            "inner_low": np.maximum(mean - reach, -1.0),
            "inner_high": np.minimum(mean + reach, 1.0),
        }

    def report(self) -> dict[str, object]:
        """Return the choice and the mean correlation of each rank and penalty."""
        return {
            "alpha": self.alpha,
            "rank": self.rank,
            "inner_folds": len(self.scores),
            "alphas": self.alphas.tolist(),
            "ranks": self.ranks,
            "inner_pcc": self.scores.mean(axis=0).tolist(),
        }


class RidgePath:
    """Ridge regressions of targets (N, K) on inputs (N, D) without intercept, for every penalty at once.

    Spots are weighted by ``weight`` (N,). One eigendecomposition, of the smaller of both Gram matrices, serves all
    penalties.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray):
        root = np.sqrt(weight)[:, None]
        inputs, targets = inputs * root, targets * root
        dual = len(inputs) <= inputs.shape[1]
        self.values, vectors = np.linalg.eigh(inputs @ inputs.T if dual else inputs.T @ inputs)
        self.values = np.maximum(self.values, 0.0)  # rounding
        self.basis = inputs.T @ vectors if dual else vectors  # (D, r)
        self.moments = vectors.T @ targets if dual else vectors.T @ (inputs.T @ targets)  # (r, K)

    def slopes(self, alpha: float) -> np.ndarray:
        """Return the slopes (D, K) for a penalty."""
        return self.basis @ (self.moments / (self.values + alpha)[:, None])

    def predict(self, projected: np.ndarray, alpha: float) -> np.ndarray:
        """Predict (n, K) from inputs times ``basis``, (n, r)."""
        return projected @ (self.moments / (self.values + alpha)[:, None])


class _Fold(NamedTuple):
    """Spots left out, and regressions on the others."""

    path: RidgePath
    projected: np.ndarray  # (n, r)
    components: np.ndarray  # (G, K)
    observed: np.ndarray  # (n, G)
    slides: list[np.ndarray]  # rows of each slide

    def correlation(self, alpha: float, rank: int, genes: Sequence[int] | slice) -> np.ndarray:
        """Compute the correlation of genes, the mean over the slides."""
        predicted = self.path.predict(self.projected, alpha)[:, :rank] @ self.components[genes, :rank].T
        return np.mean([correlations(predicted[rows], self.observed[rows][:, genes]) for rows in self.slides], axis=0)


def _left_out(
    inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray, group: np.ndarray, slide: np.ndarray, rank: int
) -> Iterator[_Fold]:
    for one in dict.fromkeys(group):
        held, kept = np.flatnonzero(group == one), np.flatnonzero(group != one)
        components = principal_axes(targets[kept] * np.sqrt(weight[kept])[:, None], rank)
        path = RidgePath(inputs[kept], targets[kept] @ components, weight[kept])
        slides = [np.flatnonzero(slide[held] == name) for name in dict.fromkeys(slide[held])]
        yield _Fold(path, inputs[held] @ path.basis, components, targets[held], slides)


def principal_axes(values: np.ndarray, n: int) -> np.ndarray:
    """Find the ``n`` leading right singular vectors of values (N, D), as columns (D, n) or fewer where N or D is less.

    All axes are exact where ``n`` is not below the smaller side; otherwise they are approximated (Halko et al., 2011).
    """
    if n >= min(values.shape):
        return np.linalg.svd(values, full_matrices=False)[2].T
    from sklearn.utils.extmath import randomized_svd  # slow to import, and not needed for predictions

    return randomized_svd(values, n, n_iter=7, random_state=0)[2].T


def correlations(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Compute the Pearson correlation (G,) of columns (n, G), 0 where one is constant."""
    predicted, observed = predicted - predicted.mean(axis=0), observed - observed.mean(axis=0)
    norm = np.linalg.norm(predicted, axis=0) * np.linalg.norm(observed, axis=0)
    return np.divide((predicted * observed).sum(axis=0), norm, out=np.zeros_like(norm), where=norm > 0)
