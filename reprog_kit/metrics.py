"""Numbers from arrays: accuracy, calibration and OOD detection, each with a bootstrap interval.

Shapes: N pictures, C classes, R resamples, U distinct scores. ID is the positive class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score, roc_curve

DETECTION_METRICS = ("fpr_at_95_id_recall", "auroc", "aupr_in", "aupr_out", "detection_error")


@dataclass(frozen=True)
class Estimate:
    """A value with the 2.5% and 97.5% points of its bootstrap distribution (NaN where none was asked for)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def _estimate(value: float, resampled_R: np.ndarray) -> Estimate:
    if len(resampled_R) == 0:
        return Estimate(float(value))
    low, high = np.percentile(resampled_R, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def masked_logits(logits_NC: np.ndarray, covered: Sequence[int] | None) -> np.ndarray:
    """Leave only the classes that a set covers in the running (ImageNet-A and -R hold 200 of 1,000)."""
    if not covered or len(covered) == logits_NC.shape[1]:
        return logits_NC
    masked = np.full_like(logits_NC, -np.inf)
    masked[:, list(covered)] = logits_NC[:, list(covered)]
    return masked


def accuracy(logits_NC: np.ndarray, labels_N: np.ndarray, resamples: int = 200, seed: int = 0) -> Estimate:
    """Return the share of pictures whose largest logit is their label's."""
    _refuse_empty(labels_N, "accuracy")
    value, n = accuracy_score(labels_N, logits_NC.argmax(axis=1)), len(labels_N)
    # The mean of n draws with replacement from zeros and ones is binomial.
    return _estimate(value, np.random.default_rng(seed).binomial(n, value, size=resamples) / n)


def calibration_error(
    logits_NC: np.ndarray, labels_N: np.ndarray, bins: int = 15, resamples: int = 200, seed: int = 0
) -> Estimate:
    """Return the expected calibration error of the top answer in equally wide bins (Guo et al. 2017, Eq. 3)."""
    _refuse_empty(labels_N, "calibration error")
    probability, n = softmax(np.asarray(logits_NC, dtype=np.float64), axis=1), len(labels_N)
    gap_N = (probability.argmax(axis=1) == labels_N) - probability.max(axis=1)
    bin_N = np.clip(np.ceil(probability.max(axis=1) * bins).astype(int) - 1, 0, bins - 1)

    def error(picked: np.ndarray) -> float:
        return float(np.abs(np.bincount(bin_N[picked], gap_N[picked], minlength=bins)).sum() / n)

    rng = np.random.default_rng(seed)
    return _estimate(error(np.arange(n)), np.array([error(rng.integers(n, size=n)) for _ in range(resamples)]))


def fpr_at_95_id_recall(id_scores_N: np.ndarray, ood_scores_M: np.ndarray) -> float:
    """Return the share of OOD that passes the highest threshold at which at least 95% of ID passes; a tie passes."""
    return detection(id_scores_N, ood_scores_M, resamples=0)["fpr_at_95_id_recall"].value


def detection(
    id_scores_N: np.ndarray, ood_scores_M: np.ndarray, resamples: int = 200, seed: int = 0
) -> dict[str, Estimate]:
    """Return every detection metric of ID against OOD scores.

    Returns
    -------
    dict
        ``fpr_at_95_id_recall``: see there. ``auroc``. ``aupr_in``, ``aupr_out``: average precision with ID, with OOD as
        the positive class. ``detection_error``: the smallest mean of missed ID and passed OOD over all thresholds
        (Lee et al. 2018 report one minus it).

    Raises
    ------
    ValueError
        If either side is empty or a score is not finite.
    """
    ids, oods = np.asarray(id_scores_N, dtype=np.float64), np.asarray(ood_scores_M, dtype=np.float64)
    for name, scores in (("ID", ids), ("OOD", oods)):
        _refuse_empty(scores, f"detection ({name} scores)")
        if not np.isfinite(scores).all():
            raise ValueError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} {name} scores are not finite")
    truth, scores = np.r_[np.ones(len(ids)), np.zeros(len(oods))], np.r_[ids, oods]
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    values = {
        "fpr_at_95_id_recall": fpr[np.argmax(tpr >= 0.95)],
        "auroc": roc_auc_score(truth, scores),
        "aupr_in": average_precision_score(truth, scores),
        "aupr_out": average_precision_score(1 - truth, -scores),
        "detection_error": ((1 - tpr + fpr) / 2).min(),
    }
    resampled = _resampled_detection(ids, oods, resamples, seed)
    return {name: _estimate(value, resampled[name]) for name, value in values.items()}


def detection_along(id_scores_WN: np.ndarray, ood_scores_WM: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``auroc`` and ``fpr_at_95_id_recall``, (W,) each, of many pairs of ID and OOD scores; see `detection`."""
    for name, scores in (("ID", id_scores_WN), ("OOD", ood_scores_WM)):
        _refuse_empty(scores.T, f"detection ({name} scores)")
        if not np.isfinite(scores).all():
            raise ValueError(f"{(~np.isfinite(scores)).sum()} of {scores.size} {name} scores are not finite")
    ids, n = np.sort(id_scores_WN, axis=1), id_scores_WN.shape[1]
    # an OOD score beats the IDs below it, and half of those that tie
    pairs = [(row.searchsorted(ood), row.searchsorted(ood, "right")) for row, ood in zip(ids, ood_scores_WM)]
    beaten_W = np.array([(below + upto).mean() / (2 * n) for below, upto in pairs])
    passed = np.argmax(np.arange(1, n + 1) / n >= 0.95) + 1  # so many of ID are the least that are 95%
    fpr_W = (ood_scores_WM >= ids[:, [n - passed]]).mean(axis=1)
    return {"fpr_at_95_id_recall": fpr_W, "auroc": 1 - beaten_W}


def binned(parts_WN: Sequence[np.ndarray], bins: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return histograms of several sets of scores in the same bins, which hold every score of every row.

    Returns
    -------
    ndarray, (bins,)
        The middles of the bins.
    list of ndarray, (W, bins)
        For each set and row the percentage of its scores in a bin; of a set without scores, zeros.
    """
    sized = [part_WN for part_WN in parts_WN if part_WN.size]
    low, high = (float(edge([edge(part) for part in sized] or [0.0])) for edge in (np.min, np.max))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    found = [np.zeros((len(part_WN), bins)) for part_WN in parts_WN]
    for part_WN, into in zip(parts_WN, found):
        for at, scores_N in enumerate(part_WN if part_WN.size else ()):
            into[at] = 100 * np.histogram(scores_N, edges)[0] / len(scores_N)
    return (edges[:-1] + edges[1:]) / 2, found


def _resampled_detection(ids: np.ndarray, oods: np.ndarray, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Draw both sides with replacement, a chunk of resamples at a time so that memory stays flat."""
    rng, chunk = np.random.default_rng(seed), max(1, 2_000_000 // (len(ids) + len(oods)))
    _, level = np.unique(-np.r_[ids, oods], return_inverse=True)  # 0 is the highest score
    levels, sides = level.max() + 1, (level[: len(ids)], level[len(ids) :])
    found = {name: [] for name in DETECTION_METRICS}
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        counts = []
        for side in sides:
            drawn = side[rng.integers(len(side), size=(rows, len(side)))] + levels * np.arange(rows)[:, None]
            counts.append(np.bincount(drawn.ravel(), minlength=rows * levels).reshape(rows, levels))
        for name, values in detection_from_counts(*counts).items():
            found[name].append(values)
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in found.items()}


def detection_from_counts(id_RU: np.ndarray, ood_RU: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of `detection`, (R,) each, from how often each distinct score occurs, highest score first."""
    id_passed, ood_passed = id_RU.cumsum(axis=1), ood_RU.cumsum(axis=1)
    n_id, n_ood = id_passed[:, -1:], ood_passed[:, -1:]
    tpr, fpr = id_passed / n_id, ood_passed / n_ood
    id_held, ood_held = n_id - id_passed + id_RU, n_ood - ood_passed + ood_RU  # at or below the level
    with np.errstate(invalid="ignore"):
        precision_in = np.nan_to_num(id_passed / (id_passed + ood_passed))
        precision_out = np.nan_to_num(ood_held / (id_held + ood_held))
    return {
        "fpr_at_95_id_recall": np.take_along_axis(fpr, np.argmax(tpr >= 0.95, axis=1)[:, None], axis=1)[:, 0],
        "auroc": (ood_RU / n_ood * (tpr - 0.5 * id_RU / n_id)).sum(axis=1),
        "aupr_in": (id_RU / n_id * precision_in).sum(axis=1),
        "aupr_out": (ood_RU / n_ood * precision_out).sum(axis=1),
        "detection_error": np.minimum(((1 - tpr + fpr) / 2).min(axis=1), 0.5),
    }


def _refuse_empty(values: np.ndarray, what: str) -> None:
    if len(values) == 0:
        raise ValueError(f"{what} of no pictures is not defined")
