"""Domains, the clusters of a slide's spots in a space, and their scores."""

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
from spotwise.structure.spaces import Space
from spotwise.structure.spot_labels import UNLABELLED

# the columns that identify one clustering
RUN = ["space", "seed", "clustering", "refined"]
SCORES = ("ARI", "AMI", "homogeneity", "completeness", "silhouette", "pas")

KMEANS_STARTS = 10
LEIDEN_NEIGHBOURS = 15
# Resolutions: doubled from 1 up to 2^DOUBLINGS, then bisected
DOUBLINGS = 6
HALVINGS = 30
# Shang & Zhou, Nat Commun 13:7203 (2022): a spot is abnormal if 6 of the 10 nearest belong to other domains
PAS_NEIGHBOURS = 10
PAS_OTHERS = 6


def domains_of_slide(
    runs: Sequence[tuple[object, Space, int]], spatial: np.ndarray, labels: np.ndarray, n_domains: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the domains of one slide in several spaces and their halves, and score them.

    Parameters
    ----------
    runs
        File of each space, for error messages, its contents, and the seed of the clusterings.
    spatial, labels
        Centres and labels of the spots of the first space, see `score_domains`.

    Returns
    -------
    domains, scores
        The rows of `find_domains`, and a row of `score_domains` per space, seed, clustering and refinement.

    Raises
    ------
    InputError
        The spaces differ in their spots, one has fewer distinct rows than domains, or as in `find_domains`. A half
        without distinct rows is no error and has one domain.
    """
    first, parts, rows = runs[0][1], [], []
    for source, space, seed in runs:
        if not np.array_equal(space.barcode, first.barcode):
            raise InputError(source, BARCODES, f"{len(space.barcode)} spots", f"those of {first.name}, in their order")
        different = len(np.unique(space.embedding, axis=0))
        if different < n_domains < len(space.embedding):
            found = f"{different} different rows for {len(space.embedding)} spots"
            raise InputError(source, "embedding", found, f"at least {n_domains}, the number of domains")
        for part in space.parts():
            found = find_domains(part, spatial, n_domains, seed, source)
            parts.append(found)
            for names, spots in found.groupby(RUN, sort=False):
                scores = score_domains(spots["domain"].to_numpy(), part.embedding, spatial, labels)
                rows.append(dict(zip(RUN, names, strict=True)) | scores)
    return pd.concat(parts, ignore_index=True), pd.DataFrame(rows)


def find_domains(space: Space, spatial: np.ndarray, n_domains: int, seed: int, source: object) -> pd.DataFrame:
    """Find the domains of one slide in one space by both clusterings, raw and refined.

    ``spatial`` are (N, 2) spot centres, any unit; ``seed`` is that of k-means and Leiden; errors name ``source``.

    Returns
    -------
    DataFrame
        Long, N rows for each clustering and refinement: ``space``, ``seed``, ``clustering``, ``refined``, ``barcode``,
        ``domain``. Domains are numbered by their size before refinement, from 0 for the largest.

    Raises
    ------
    InputError
        There are no more spots than domains.
    """
    if len(space.embedding) <= n_domains:
        raise InputError(source, "spots", len(space.embedding), f"more than the {n_domains} domains")
    adjacent = adjacency(spatial)
    parts = []
    with threadpool_limits(1):  # the number of threads decides the last bits
        for clustering, cluster in CLUSTERINGS.items():
            raw = number_by_size(cluster(space.embedding, n_domains, seed))
            for refined, domain in ((False, raw), (True, refine(raw, adjacent))):
                described = {"space": space.name, "seed": seed, "clustering": clustering, "refined": refined}
                parts.append(pd.DataFrame({**described, BARCODES: space.barcode, "domain": domain}))
    return pd.concat(parts, ignore_index=True)


def kmeans(embedding: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    """Cluster ``embedding`` (N, D) by k-means++ with the best of `KMEANS_STARTS` starts."""
    from sklearn.cluster import KMeans  # slow to import, and not needed to score

    return KMeans(n_domains, n_init=KMEANS_STARTS, random_state=seed).fit_predict(embedding.astype(np.float64))


def leiden(embedding: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    """Cluster ``embedding`` (N, D) by Leiden on scanpy's graph of nearest neighbours.

    The resolution is chosen so that there are ``n_domains`` communities. Their number grows with the resolution in
    steps that may skip the wanted one, and a graph of several components has at least as many communities. The nearest
    number is then returned, the smaller of two.
    """
    import anndata
    import scanpy as sc

    adata = anndata.AnnData(embedding)
    sc.pp.neighbors(
        adata,
        n_neighbors=min(LEIDEN_NEIGHBOURS, len(embedding)),
        use_rep="X",
        transformer="sklearn",  # exact for any number of spots
        random_state=seed,
    )

    def communities(resolution: float) -> np.ndarray:
        sc.tl.leiden(adata, resolution=resolution, flavor="igraph", directed=False, n_iterations=-1, random_state=seed)
        return adata.obs["leiden"].cat.codes.to_numpy()

    return search_resolution(communities, n_domains)


def search_resolution(communities: Callable[[float], np.ndarray], wanted: int) -> np.ndarray:
    """Double, then bisect the resolution, and return the labels nearest to ``wanted`` in number."""
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


def number_by_size(labels: np.ndarray) -> np.ndarray:
    """Renumber labels (N,) from 0 by decreasing size, then first occurrence."""
    _, first, of_spot, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[of_spot]


def refine(domains: np.ndarray, adjacent: sparse.csr_array) -> np.ndarray:
    """Smooth domains (N,) by majority among each spot and its neighbours in ``adjacent`` (N, N).

    A majority is more than half. This is SpaGCN's rule (Hu et al., Nat Methods 18:1342, 2021; 4 neighbours on a square
    array, 6 on a hexagonal one), with fewer neighbours at borders and holes. All spots are updated once, from the
    original domains.
    """
    members = (domains[:, None] == np.arange(domains.max() + 1)).astype(np.float64)
    share = (adjacent + sparse.eye_array(len(domains))) @ members
    return np.where(2 * share.max(axis=1) > share.sum(axis=1), share.argmax(axis=1), domains)


def score_domains(
    domains: np.ndarray, embedding: np.ndarray, spatial: np.ndarray, labels: np.ndarray
) -> dict[str, float | int]:
    """Score domains (N,) against labels, in their space and on the slide.

    ``embedding`` (N, D) is the space of the domains; ``labels`` (N,) are `UNLABELLED` without a label.

    Returns
    -------
    dict
        ``n_domains``; `SCORES`: adjusted Rand index, adjusted mutual information, homogeneity (a domain holds one
        label) and completeness (a label lies in one domain) of the labelled spots, NaN without labels; ``silhouette``
        of the domains in the space, NaN for a single one; ``pas``, see `abnormal_share`; ``n_spots``, ``n_labelled``.
    """
    from sklearn import metrics

    labelled = labels != UNLABELLED
    number = len(np.unique(domains))
    scores = dict.fromkeys(SCORES, float("nan"))
    if labelled.any():
        known, found = labels[labelled].astype(str), domains[labelled]
        scores["ARI"] = metrics.adjusted_rand_score(known, found)
        scores["AMI"] = metrics.adjusted_mutual_info_score(known, found)
        scores["homogeneity"], scores["completeness"], _ = metrics.homogeneity_completeness_v_measure(known, found)
    if 1 < number < len(domains):
        scores["silhouette"] = float(metrics.silhouette_score(embedding, domains))
    scores["pas"] = abnormal_share(domains, spatial)
    return {"n_domains": number, **scores, "n_spots": len(domains), "n_labelled": int(labelled.sum())}


def abnormal_share(domains: np.ndarray, spatial: np.ndarray) -> float:
    """Compute the percentage of abnormal spots (PAS) as a share.

    Of the `PAS_NEIGHBOURS` spots nearest to an abnormal spot, at least `PAS_OTHERS` belong to other domains, or the
    same share of all others on a slide of fewer spots.
    """
    k = min(PAS_NEIGHBOURS, len(spatial) - 1)
    _, nearest = scipy.spatial.KDTree(spatial).query(spatial, k=k + 1)
    others = (domains[nearest[:, 1:]] != domains[:, None]).mean(axis=1)
    return float((others >= PAS_OTHERS / PAS_NEIGHBOURS).mean())
