"""The residual reprogrammer: a weighted mean with the zero-shot features, at inference. Arrays in, arrays out.

Shapes: N pictures, C classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .parameters import InputError

# From so many similarities on they are held in half the space; they are then right to 1e-5.
_MANY = 10**7


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


@dataclass(frozen=True, eq=False)
class MixedCosines:
    """The residual's similarities of one set at any alpha, without its features.

    With p, z the features of a picture under program and zero-shot, P, Z those of a caption, and b = 1 - alpha,

        (b p + alpha z) . (b P + alpha Z) = b^2 p.P + alpha b (p.Z + z.P) + alpha^2 z.Z

    and the squared lengths, which bring both sides back to unit length, are b^2 p.p + 2 alpha b p.z + alpha^2 z.z: in
    float32 a unit feature is 1 long to seven digits only.
    """

    program_NC: np.ndarray
    crossed_NC: np.ndarray
    zero_shot_NC: np.ndarray
    squares_3N: np.ndarray
    squares_3C: np.ndarray
    renormalise: bool

    @classmethod
    def of(
        cls, pictures_ND: tuple[np.ndarray, np.ndarray], captions_CD: tuple[np.ndarray, np.ndarray], renormalise: bool
    ) -> MixedCosines:
        """Return what unit features of pictures and captions, (program, zero-shot) each, come to."""
        many = len(pictures_ND[0]) * len(captions_CD[0]) > _MANY
        p, z, P, Z = (np.asarray(part, np.float32 if many else np.float64) for part in (*pictures_ND, *captions_CD))
        squares = (np.stack([(x * y).sum(axis=1) for x, y in ((q, q), (q, r), (r, r))]) for q, r in ((p, z), (P, Z)))
        return cls(p @ P.T, p @ Z.T + z @ P.T, z @ Z.T, *squares, renormalise)

    def at(self, alpha: float) -> np.ndarray:
        """Return similarities (N, C) at an alpha; at 0 and 1 those of the parts, to the last bit."""
        if alpha in (0, 1):
            return self.zero_shot_NC if alpha else self.program_NC
        a, b = float(alpha), 1 - float(alpha)  # a numpy scalar would turn float32 into float64
        mixed = b * b * self.program_NC + a * b * self.crossed_NC + a * a * self.zero_shot_NC
        if not self.renormalise:
            return mixed
        sides = (self.squares_3N, self.squares_3C)
        pictures_N, captions_C = (np.sqrt(b * b * pp + 2 * a * b * pz + a * a * zz) for pp, pz, zz in sides)
        return mixed / (pictures_N[:, None] * captions_C)
