"""The residual reprogrammer: a weighted mean with the zero-shot features, at inference. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from .parameters import InputError


def residual(program_ND: np.ndarray, zero_shot_ND: np.ndarray, alpha: float, renormalise: bool = True) -> np.ndarray:
    """Return (1 - alpha) program + alpha zero-shot.

    Parameters
    ----------
    program_ND, zero_shot_ND : ndarray
        Unit features of pictures, or of captions.
    alpha : float
        Share of the zero-shot features, 0 to 1; at 0 and 1 the features given come back unchanged, to the last bit.
    renormalise : bool
        Bring the mean back to unit length. The authors' code does not, so that text norms tilt the answer.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha} is refused: it is the share of the zero-shot features, 0 to 1.")
    if alpha in (0, 1):
        return zero_shot_ND if alpha else program_ND
    mean = (1 - alpha) * program_ND + alpha * zero_shot_ND
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True) if renormalise else mean


def one_standard_error(alphas: np.ndarray, accuracies: np.ndarray, n: int) -> float:
    """Return the largest alpha whose validation accuracy is within one standard error of the best.

    ID accuracy alone always favours little zero-shot; what it cannot tell apart should be the more robust one.
    Source of the rule: Hastie et al., The Elements of Statistical Learning, Section 7.10.
    """
    best = float(np.max(accuracies))
    error = np.sqrt(best * (1 - best) / n)
    return float(np.max(np.asarray(alphas)[np.asarray(accuracies) >= best - error]))
