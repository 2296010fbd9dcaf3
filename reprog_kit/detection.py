"""ID scores: arrays in, one number a picture out; larger means more in-distribution, always.

`SCORES` look at the logits, `FEATURE_SCORES` at the features beside a bank of ID features whose labels are known.

Shapes: N pictures, M pictures of the bank, C classes, D features. Everything is float64: in half precision ties make
a detector look better than it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from .parameters import InputError

Score = Callable[[np.ndarray], np.ndarray]


def msp(cosines_NC: np.ndarray, scale: float) -> np.ndarray:
    """Maximum softmax probability at the model's logit scale (Hendrycks & Gimpel 2017; the paper's score)."""
    return softmax(scale * np.asarray(cosines_NC, dtype=np.float64), axis=1).max(axis=1)


def mcm(cosines_NC: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Maximum concept matching: softmax over the cosines themselves, temperature 1 (Ming et al. 2022, Eq. 1)."""
    return softmax(np.asarray(cosines_NC, dtype=np.float64), axis=1).max(axis=1)


def max_logit(cosines_NC: np.ndarray, scale: float) -> np.ndarray:
    """Largest logit (Hendrycks et al. 2022)."""
    return scale * np.asarray(cosines_NC, dtype=np.float64).max(axis=1)


def energy(cosines_NC: np.ndarray, scale: float) -> np.ndarray:
    """Negative free energy, log sum exp of the logits (Liu et al. 2020, Eq. 4 at T = 1)."""
    return logsumexp(scale * np.asarray(cosines_NC, dtype=np.float64), axis=1)


SCORES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {f.__name__: f for f in (msp, mcm, max_logit, energy)}


def knn(bank_MD: np.ndarray, labels_M: np.ndarray, k: int | None = None) -> Score:
    """Return the score: minus the distance of the unit feature to the k-th nearest of the bank (Sun et al. 2022).

    Parameters
    ----------
    bank_MD : ndarray
        Features of training pictures; not of the pictures to be scored, each of which would find itself.
    labels_M : ndarray of int
        Not looked at; every feature score is called alike.
    k : int, optional
        1 to M; by default a thousandth of the bank (theirs was 50 of 50,000), at least 1.

    Raises
    ------
    InputError
        If the bank is empty, or k is outside 1 to M.
    """
    bank_MD, _ = _bank(bank_MD, labels_M)
    k = max(1, round(len(bank_MD) / 1000)) if k is None else k
    if not 1 <= k <= len(bank_MD):
        raise InputError(f"k = {k} is refused: the bank has {len(bank_MD)} pictures, and k is 1 to that.")
    # Brute force: with hundreds of features a tree is slower.
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(normalize(bank_MD))
    return lambda features_ND: -neighbours.kneighbors(normalize(_float64(features_ND)))[0][:, -1]


def mahalanobis(bank_MD: np.ndarray, labels_M: np.ndarray, covariance: type[EmpiricalCovariance] = LedoitWolf) -> Score:
    """Return the score: minus the smallest squared Mahalanobis distance to a class mean (Lee et al. 2018, Eq. 2).

    Parameters
    ----------
    bank_MD, labels_M : ndarray
        Features and labels of training pictures; a class may be absent, or have one picture.
    covariance : type
        Estimator of the covariance that the classes share. They take the empirical one, which has no inverse where the
        bank is smaller than D; shrinkage gives it one and hardly changes that of a large bank (Ledoit & Wolf 2004).

    Raises
    ------
    InputError
        If the bank is empty or a label is negative, or if the features vary too little within the classes: the
        covariance has no inverse, and what differs from the bank in such a direction would look like it.
    """
    bank_MD, labels_M = _bank(bank_MD, labels_M)
    classes, label_M = np.unique(labels_M, return_inverse=True)
    if classes[0] < 0:
        raise InputError("Mahalanobis distances need a bank with labels; some are -1 (pictures of no class).")
    means_CD = np.stack([bank_MD[label_M == c].mean(axis=0) for c in range(len(classes))])
    shared = covariance(assume_centered=True).fit(bank_MD - means_CD[label_M])
    if np.linalg.matrix_rank(shared.covariance_, hermitian=True) < bank_MD.shape[1]:
        raise InputError(
            f"Mahalanobis distances are not defined: within the {len(classes)} classes, the bank's {len(bank_MD)} "
            "pictures differ in too few directions. Give more pictures a class, or features that are not constant."
        )
    # Whitened, the distances are Euclidean. The centre goes first, lest large numbers cancel.
    centre_D, white_DD = bank_MD.mean(axis=0), np.linalg.cholesky(shared.precision_)
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit((means_CD - centre_D) @ white_DD)
    return lambda features_ND: -(nearest.kneighbors((_float64(features_ND) - centre_D) @ white_DD)[0][:, 0] ** 2)


def _float64(features_ND: np.ndarray) -> np.ndarray:
    return np.asarray(features_ND, dtype=np.float64)


def _bank(bank_MD: np.ndarray, labels_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Refuse a bank without pictures or with labels for others."""
    bank_MD, labels_M = _float64(bank_MD), np.asarray(labels_M)
    if not len(bank_MD):
        raise InputError("The bank of ID features is empty: a feature score needs training pictures to compare with.")
    if len(bank_MD) != len(labels_M):
        raise InputError(f"The bank has {len(bank_MD)} pictures and {len(labels_M)} labels; give one a picture.")
    return bank_MD, labels_M


FEATURE_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], Score]] = {f.__name__: f for f in (knn, mahalanobis)}
