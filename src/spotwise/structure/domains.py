"""Domains: groups of a slide's spots found in a space, smoothed over the slide, and judged against labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used
from scipy import sparse
from threadpoolctl import threadpool_limits

from spotwise.constants import BARCODES, KMEANS, LEIDEN
from spotwise.errors import InputError
from spotwise.evaluation.spatial_metrics import adjacency
from spotwise.structure.labels import UNLABELLED
from spotwise.structure.spaces import Space

# One clustering is one value of all of these
RUN = ["space", "seed", "clustering", "refined"]
SCORES = ("ARI", "AMI", "homogeneity", "completeness", "silhouette", "pas")

KMEANS_STARTS = 10
LEIDEN_NEIGHBOURS = 15
# Resolutions tried: doubled from 1 up to 2^DOUBLINGS, then halving the interval
DOUBLINGS = 6
HALVINGS = 30
# Shang & Zhou, Nat Commun 13:7203 (2022): a spot is out of place where 6 of the 10 nearest are of other domains
PAS_NEIGHBOURS = 10
PAS_OTHERS = 6


def domains_of_slide(
    runs: Sequence[tuple[object, Space, int]], spatial: np.ndarray, labels: np.ndarray, n_domains: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Domains of one slide in several spaces, and their scores.

    Parameters
    ----------
    runs
        The file of each space, which error messages name, its contents, and the seed of the clusterings. Of a model's
        space the halves are judged, too (`Space.parts`): joint embedding gains what it has beyond the better of them.
    spatial, labels
        Of the spots of the first space, see `score_domains`.
    n_domains
        How many to find.

    Returns
    -------
    domains
        The rows of `find_domains` of every space and half.
    scores
        A row per space, seed, clustering and refinement, with what `score_domains` returns.

    Raises
    ------
    InputError
        The spaces differ in their spots, or fewer spots differ in one of them than domains are sought, and as
        `find_domains`. A half without differences is a finding: it has one domain.
    """
    first, parts, rows = runs[0][1], [], []
    for source, space, seed in runs:
        if not np.array_equal(space.barcode, first.barcode):
            raise InputError(source, BARCODES, f"{len(space.barcode)} spots", f"those of {first.name}, in their order")
        different = len(np.unique(space.embedding, axis=0))
        if different < n_domains < len(space.embedding):
            found = f"{different} different rows for {len(space.embedding)} spots"
            raise InputError(source, "embedding", found, f"at least {n_domains}, as many domains are sought")
        for part in space.parts():
            found = find_domains(part, spatial, n_domains, seed, source)
            parts.append(found)
            for names, spots in found.groupby(RUN, sort=False):
                scores = score_domains(spots["domain"].to_numpy(), part.embedding, spatial, labels)
                rows.append(dict(zip(RUN, names, strict=True)) | scores)
    return pd.concat(parts, ignore_index=True), pd.DataFrame(rows)


def find_domains(space: Space, spatial: np.ndarray, n_domains: int, seed: int, source: object) -> pd.DataFrame:
    """Domains of one slide in one space, by both clusterings, raw and refined.

    Parameters
    ----------
    space
        (N, D).
    spatial
        (N, 2) centres of its spots, any unit.
    n_domains
        How many to find.
    seed
        Of k-means and Leiden.
    source
        The space's file, which error messages name.

    Returns
    -------
    DataFrame
        Long, N rows for each clustering and refinement: ``space``, ``seed``, ``clustering``, ``refined``, ``barcode``,
        ``domain``. Domains are numbered by their size before refinement, the largest 0, so that a number means the same
        before and after.

    Raises
    ------
    InputError
        No more spots than domains.
    """
    n = len(space.embedding)
    if n <= n_domains:
        raise InputError(source, "spots", n, f"more than the {n_domains} domains sought")
    near = adjacency(spatial)
    parts = []
    with threadpool_limits(1):  # the number of threads decides the last bits
        for clustering, cluster in CLUSTERINGS.items():
            raw = by_size(cluster(space.embedding, n_domains, seed))
            for refined, domain in ((False, raw), (True, refine(raw, near))):
                described = {"space": space.name, "seed": seed, "clustering": clustering, "refined": refined}
                parts.append(pd.DataFrame({**described, BARCODES: space.barcode, "domain": domain}))
    return pd.concat(parts, ignore_index=True)


# --- Clustering -------------------------------------------------------------------------------------------------------


def kmeans(embedding: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    """Labels (N,) of k-means on ``embedding`` (N, D): k-means++, the best of `KMEANS_STARTS` starts."""
    from sklearn.cluster import KMeans  # not for those who only score

    model = KMeans(n_domains, init="k-means++", n_init=KMEANS_STARTS, random_state=seed)
    return model.fit_predict(embedding.astype(np.float64))


def leiden(embedding: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    """Labels (N,) of Leiden on the graph of nearest neighbours in ``embedding`` (N, D), as scanpy makes it.

    The resolution is sought at which the number of communities is ``n_domains``: doubled until there are as many, then
    by halving the interval. The number rises with the resolution in steps, which may leave it out, and a graph in
    pieces has at least as many communities; then the nearest number found is what comes back, the smaller of two. The
    table of scores holds the number, so that this is seen.
    """
    import anndata
    import scanpy as sc

    adata = anndata.AnnData(embedding)
    sc.pp.neighbors(
        adata,
        n_neighbors=min(LEIDEN_NEIGHBOURS, len(embedding)),
        use_rep="X",
        transformer="sklearn",  # exact, whatever the number of spots
        random_state=seed,
    )

    def communities(resolution: float) -> np.ndarray:
        sc.tl.leiden(adata, resolution=resolution, flavor="igraph", directed=False, n_iterations=-1, random_state=seed)
        return adata.obs["leiden"].cat.codes.to_numpy()

    return match_number(communities, n_domains)


def match_number(communities: Callable[[float], np.ndarray], wanted: int) -> np.ndarray:
    """The labels whose number comes nearest to ``wanted`` among the resolutions tried (see `leiden`)."""
    low, high, tried = 0.0, 1.0, {}

    def number(resolution: float) -> int:
        labels = communities(resolution)
        tried.setdefault(len(np.unique(labels)), labels)
        return len(np.unique(labels))

    for _ in range(DOUBLINGS):
        if number(high) >= wanted:
            break
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        if wanted in tried:
            break
        middle = (low + high) / 2
        low, high = (middle, high) if number(middle) < wanted else (low, middle)
    return tried[min(tried, key=lambda found: (abs(found - wanted), found))]


CLUSTERINGS = {KMEANS: kmeans, LEIDEN: leiden}


def by_size(labels: np.ndarray) -> np.ndarray:
    """Labels (N,) as numbers from 0, the largest group first; of equal ones the one that comes first."""
    _, first, of_spot, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[of_spot]


def refine(domains: np.ndarray, near: sparse.csr_array) -> np.ndarray:
    """Domains (N,) smoothed over the slide: a spot joins the domain that most of its neighbourhood holds.

    The neighbourhood is the spot and those adjacent to it, by ``near`` (N, N); most is more than half of it. That is
    SpaGCN's rule (Hu et al., Nat Methods 18:1342, 2021; 4 neighbours on a square array, 6 on a hexagonal one), with
    fewer neighbours where fewer are there. All spots are judged by the domains as they were, once.
    """
    number = np.arange(domains.max() + 1)
    members = (domains[:, None] == number).astype(np.float64)
    share = (near + sparse.eye_array(len(domains))) @ members
    commonest = share.argmax(axis=1)
    is_most = 2 * share.max(axis=1) > share.sum(axis=1)
    return np.where(is_most, commonest, domains)


# --- Scores -----------------------------------------------------------------------------------------------------------


def score_domains(
    domains: np.ndarray, embedding: np.ndarray, spatial: np.ndarray, labels: np.ndarray
) -> dict[str, float | int]:
    """Judge domains (N,) by labels, in their space and on the slide.

    Parameters
    ----------
    domains
        (N,) int.
    embedding, spatial
        (N, D) the space in which they were found, and (N, 2) the spots' centres.
    labels
        (N,) str, `UNLABELLED` where there is none; all of them where the slide has no labels.

    Returns
    -------
    dict
        ``n_domains``; `SCORES`: adjusted Rand index, adjusted mutual information, homogeneity (a domain holds one
        label) and completeness (a label lies in one domain) of the labelled spots, NaN without labels; ``silhouette``
        of the domains in the space, NaN for a single one; ``pas``, see `out_of_place`; ``n_spots``, ``n_labelled``.
    """
    from sklearn import metrics

    labelled = labels != UNLABELLED
    number = len(np.unique(domains))
    scores = dict.fromkeys(SCORES, float("nan"))
    if labelled.any():
        known, found = labels[labelled].astype(str), domains[labelled]
        scores["ARI"] = metrics.adjusted_rand_score(known, found)
        scores["AMI"] = metrics.adjusted_mutual_info_score(known, found)
        scores["homogeneity"] = metrics.homogeneity_score(known, found)
        scores["completeness"] = metrics.completeness_score(known, found)
    if 1 < number < len(domains):
        scores["silhouette"] = float(metrics.silhouette_score(embedding, domains))
    scores["pas"] = out_of_place(domains, spatial)
    return {"n_domains": number, **scores, "n_spots": len(domains), "n_labelled": int(labelled.sum())}


def out_of_place(domains: np.ndarray, spatial: np.ndarray) -> float:
    """PAS: share of spots of whose `PAS_NEIGHBOURS` nearest on the slide at least `PAS_OTHERS` are of other domains.

    On a slide of fewer spots, of all others, the same share of them.
    """
    k = min(PAS_NEIGHBOURS, len(spatial) - 1)
    _, nearest = scipy.spatial.KDTree(spatial).query(spatial, k=k + 1)
    others = (domains[nearest[:, 1:]] != domains[:, None]).mean(axis=1)
    return float((others >= PAS_OTHERS / PAS_NEIGHBOURS).mean())
