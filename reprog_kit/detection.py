"""ID scores: arrays in, one number a picture out; larger means more in-distribution, always.

Shapes: N pictures, C classes. Everything is float64: in half precision ties make a detector look better than it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp, softmax


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
