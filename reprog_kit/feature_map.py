"""Features laid out in the plane, and two numbers for what the eye then sees: arrays in, arrays and numbers out.

Shapes: N pictures, D features.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from .explore_settings import UmapSettings
from .parameters import InputError

FEWEST = 5


def feature_map(features_ND: np.ndarray, settings: UmapSettings) -> np.ndarray:
    """Return a place in the plane for every picture, (N, 2), by UMAP (McInnes et al. 2018).

    One thread and a seed: the same features, settings and machine give the same map to the last bit.

    Parameters
    ----------
    features_ND : ndarray
    settings : UmapSettings
        Of them `neighbours`, `min_dist`, `metric` and `seed`.

    Raises
    ------
    InputError
        For fewer than 5 pictures, no more pictures than neighbours, or features that are not finite.
    """
    features_ND = _finite(features_ND)
    _refuse_few(len(features_ND), settings.neighbours)
    from umap import UMAP  # seconds: compiled by numba

    # The spectral start needs an eigenvector more than it has pictures in the smallest of sets.
    start = "spectral" if len(features_ND) > 2 * FEWEST else "random"
    reducer = UMAP(
        n_neighbors=settings.neighbours, min_dist=settings.min_dist, metric=settings.metric, init=start,
        random_state=settings.seed, n_jobs=1,
    )  # fmt: skip
    return np.asarray(reducer.fit_transform(features_ND), dtype=np.float32)


def silhouette(features_ND: np.ndarray, labels_N: np.ndarray, metric: str = "cosine") -> float:
    """Return the mean silhouette of the classes, -1 to 1 (Rousseeuw 1987); NaN where it is not defined.

    A picture's is (b - a) / max(a, b), with a its mean distance to its own class and b that to the nearest other one; 0
    for the only picture of a class. Of one class alone, or where every picture has a class to itself, there is none.
    """
    features_ND, labels_N = _finite(features_ND), np.asarray(labels_N)
    if not 1 < len(np.unique(labels_N)) < len(labels_N):
        return float("nan")
    return float(silhouette_score(features_ND, labels_N, metric=metric))


def like_neighbours(features_ND: np.ndarray, labels_N: np.ndarray, k: int, metric: str = "cosine") -> np.ndarray:
    """Return for every picture (N,) the share of its k nearest others that have its label.

    Raises
    ------
    InputError
        If there are no k others.
    """
    features_ND, labels_N = _finite(features_ND), np.asarray(labels_N)
    if not 1 <= k < len(features_ND):
        raise InputError(f"k = {k} is refused: of {len(features_ND)} pictures each has {len(features_ND) - 1} others.")
    # Without an argument a picture is no neighbour of itself.
    found_NK = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(features_ND).kneighbors()[1]
    return (labels_N[found_NK] == labels_N[:, None]).mean(axis=1)


def knn_purity(features_ND: np.ndarray, labels_N: np.ndarray, k: int, metric: str = "cosine") -> float:
    """Return the mean share of the k nearest others that have a picture's class, 0 to 1.

    Raises
    ------
    InputError
        If there are no k others.
    """
    return float(like_neighbours(features_ND, labels_N, k, metric).mean())


def highest_purity(labels_N: np.ndarray, k: int) -> float:
    """Return what `knn_purity` comes to at best: a class of n pictures offers n - 1 others."""
    _, counts = np.unique(labels_N, return_counts=True)
    return float((counts * np.minimum(counts - 1, k)).sum() / (k * counts.sum()))


def _finite(features_ND: np.ndarray) -> np.ndarray:
    features_ND = np.asarray(features_ND)
    if not np.isfinite(features_ND).all():
        raise InputError("Features that are not finite (NaN or infinite) have no distances: train the run anew.")
    return features_ND


def _refuse_few(count: int, neighbours: int) -> None:
    if count < FEWEST:
        raise InputError(f"A map of {count} pictures says nothing; it takes at least {FEWEST}. Raise count (-p count).")
    if count <= neighbours:
        raise InputError(
            f"neighbours = {neighbours} is refused: of {count} pictures each has {count - 1} others. "
            f"Give fewer neighbours (-p neighbours {max(2, (count - 1) // 2)}) or more pictures (-p count)."
        )
