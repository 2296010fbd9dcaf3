"""Metrics against scikit-learn, loops and formulas: ties, constants, perfect and reversed scores, refusals."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from reprog_kit.metrics import (
    DETECTION_METRICS,
    accuracy,
    calibration_error,
    detection,
    detection_from_counts,
    fpr_at_95_id_recall,
    masked_logits,
)


def values(ids, oods) -> dict[str, float]:
    return {name: estimate.value for name, estimate in detection(ids, oods, resamples=0).items()}


def slow_detection(ids, oods) -> dict[str, float]:
    """Walk every threshold, highest first: a score at the threshold passes."""
    ids, oods = np.asarray(ids, float), np.asarray(oods, float)
    thresholds = sorted({*ids, *oods}, reverse=True)
    fpr95 = next(float(np.mean(oods >= t)) for t in thresholds if np.mean(ids >= t) >= 0.95)
    wins = sum((i > o) + 0.5 * (i == o) for i in ids for o in oods)
    error = min([0.5] + [(np.mean(ids < t) + np.mean(oods >= t)) / 2 for t in thresholds])
    aupr_in = sum(np.mean(ids == t) * np.sum(ids >= t) / (np.sum(ids >= t) + np.sum(oods >= t)) for t in thresholds)
    aupr_out = sum(np.mean(oods == t) * np.sum(oods <= t) / (np.sum(ids <= t) + np.sum(oods <= t)) for t in thresholds)
    measured = (fpr95, wins / (len(ids) * len(oods)), aupr_in, aupr_out, error)
    return dict(zip(DETECTION_METRICS, map(float, measured)))


def tied_scores(seed: int):
    """Draw sides of 1 to 60 scores on a grid as coarse as two levels."""
    rng = np.random.default_rng(seed)
    levels, n_id, n_ood = rng.integers(2, 40), rng.integers(1, 60), rng.integers(1, 60)
    return rng.integers(1, levels + 1, n_id) / levels, rng.integers(0, levels, n_ood) / levels


@pytest.mark.parametrize("seed", range(25))
def test_detection_equals_the_loop_on_tied_scores(seed):
    ids, oods = tied_scores(seed)
    assert values(ids, oods) == pytest.approx(slow_detection(ids, oods), abs=1e-12)


@pytest.mark.parametrize("seed", range(25))
def test_counting_each_picture_once_gives_the_scikit_learn_values(seed):
    ids, oods = tied_scores(seed)
    levels = np.unique(np.r_[ids, oods])[::-1]
    counts = [np.array([[np.sum(side == level) for level in levels]]) for side in (ids, oods)]
    counted = {name: float(found[0]) for name, found in detection_from_counts(*counts).items()}
    truth, scores = np.r_[np.ones(len(ids)), np.zeros(len(oods))], np.r_[ids, oods]
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert counted["auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert counted["aupr_in"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert counted["aupr_out"] == pytest.approx(average_precision_score(1 - truth, -scores), abs=1e-12)
    assert counted["fpr_at_95_id_recall"] == fpr[tpr >= 0.95][0]
    assert counted["detection_error"] == pytest.approx(((1 - tpr + fpr) / 2).min(), abs=1e-12)


def test_counts_may_hold_levels_that_a_resample_never_drew():
    ids, oods = np.array([[0, 3, 0, 2, 0]]), np.array([[0, 1, 0, 0, 4]])
    dense = {k: v[0] for k, v in detection_from_counts(ids[:, [1, 3, 4]], oods[:, [1, 3, 4]]).items()}
    sparse = {k: v[0] for k, v in detection_from_counts(ids, oods).items()}
    assert sparse == pytest.approx(dense, abs=1e-12)


def test_constant_scores_pass_all_ood_and_rank_nothing():
    # The authors' loop reads 0 here.
    found = values(np.full(30, 0.7), np.full(20, 0.7))
    assert found["fpr_at_95_id_recall"] == 1.0
    assert found["auroc"] == 0.5
    assert found["detection_error"] == 0.5
    assert (found["aupr_in"], found["aupr_out"]) == pytest.approx((0.6, 0.4))


def test_perfect_separation():
    found = values([3, 4, 5], [0, 1, 2, 2])
    assert found == {"fpr_at_95_id_recall": 0, "auroc": 1, "aupr_in": 1, "aupr_out": 1, "detection_error": 0}


def test_reversed_scores_are_as_bad_as_can_be():
    found = values([0, 1, 2, 2], [3, 4, 5])
    assert (found["fpr_at_95_id_recall"], found["auroc"], found["detection_error"]) == (1, 0, 0.5)


@pytest.mark.parametrize(("i", "o", "auroc", "fpr"), [(2.0, 1.0, 1.0, 0.0), (1.0, 2.0, 0.0, 1.0), (1.0, 1.0, 0.5, 1.0)])
def test_one_picture_a_side(i, o, auroc, fpr):
    found = values([i], [o])
    assert (found["auroc"], found["fpr_at_95_id_recall"]) == (auroc, fpr)


def test_fpr95_by_hand():
    # Of 20 ID scores 95% are 19: the threshold is the second lowest, 2. At or above it are 3 of the 5 OOD scores.
    ids, oods = np.arange(1, 21), [0.5, 1.5, 2, 2.5, 30]
    assert fpr_at_95_id_recall(ids, oods) == pytest.approx(3 / 5)
    # With 19 ID scores, 18 are only 94.7%: all must pass.
    assert fpr_at_95_id_recall(np.arange(2, 21), [1, 2, 3, 4]) == pytest.approx(3 / 4)


def test_fpr95_takes_id_as_the_positive_class():
    rng = np.random.default_rng(4)
    ids, oods = rng.normal(1, 1, 400), rng.normal(0, 3, 300)
    truth, scores = np.r_[np.ones(400), np.zeros(300)], np.r_[ids, oods]
    fpr, tpr, _ = roc_curve(truth, scores)
    other_fpr, other_tpr, _ = roc_curve(1 - truth, -scores)
    assert fpr_at_95_id_recall(ids, oods) == pytest.approx(fpr[tpr >= 0.95][0])
    assert abs(fpr_at_95_id_recall(ids, oods) - other_fpr[other_tpr >= 0.95][0]) > 0.2  # with OOD as positive


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["ID", "OOD"])
def test_scores_that_are_no_numbers_are_refused(bad, side):
    sides = [[1.0, bad, 2.0], [0.0, 1.0]]
    with pytest.raises(ValueError, match=rf"1 of 3 {side} scores are not finite"):
        detection(*(sides if side == "ID" else sides[::-1]))


def test_empty_input_is_refused_by_name():
    with pytest.raises(ValueError, match="ID scores"):
        detection([], [1.0])
    with pytest.raises(ValueError, match="OOD scores"):
        detection([1.0], [])
    with pytest.raises(ValueError, match="accuracy of no pictures"):
        accuracy(np.zeros((0, 3)), np.zeros(0))
    with pytest.raises(ValueError, match="calibration error of no pictures"):
        calibration_error(np.zeros((0, 3)), np.zeros(0))


def test_accuracy_by_hand_and_over_the_covered_classes():
    logits, labels = np.array([[3.0, 1, 0], [0, 1, 5], [0, 2, 9]]), np.array([0, 1, 1])
    assert accuracy(logits, labels).value == pytest.approx(1 / 3)
    assert accuracy(masked_logits(logits, (0, 1)), labels).value == 1.0
    assert logits[1, 2] == 5  # masking copies


def test_masking_leaves_full_cover_and_open_sets_alone():
    logits = np.arange(6.0).reshape(2, 3)
    assert masked_logits(logits, (0, 1, 2)) is logits
    assert masked_logits(logits, ()) is logits
    assert masked_logits(logits, None) is logits
    assert np.array_equal(softmax(masked_logits(logits, (1,)), axis=1), [[0, 1, 0]] * 2)


def test_the_accuracy_interval_is_as_wide_as_the_binomial_one():
    n, right = 400, 300
    logits, labels = np.zeros((n, 2)), np.r_[np.zeros(right), np.ones(n - right)].astype(int)
    found = accuracy(logits, labels, resamples=4000)
    analytic = 2 * 1.96 * np.sqrt(0.75 * 0.25 / n)
    assert found.low < found.value == 0.75 < found.high
    assert found.high - found.low == pytest.approx(analytic, rel=0.1)


def test_the_auroc_interval_is_as_wide_as_hanley_and_mcneil_say():
    rng = np.random.default_rng(1)
    n, m = 200, 150
    found = detection(rng.normal(1, 1, n), rng.normal(0, 1, m), resamples=600)["auroc"]
    a = found.value
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (n - 1) * (q1 - a * a) + (m - 1) * (q2 - a * a)) / (n * m)
    assert found.low < a < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.3)


def test_every_detection_interval_holds_its_value():
    rng = np.random.default_rng(2)
    for name, found in detection(rng.normal(1, 1, 150), rng.normal(0, 1, 150), resamples=200).items():
        assert found.low <= found.value <= found.high, name
        assert found.low < found.high, name


def test_many_resamples_in_chunks_equal_resamples_one_at_a_time(monkeypatch):
    rng = np.random.default_rng(3)
    ids, oods = rng.integers(0, 50, 700) / 10, rng.integers(0, 40, 700) / 10
    found = detection(ids, oods, resamples=1500)["auroc"]  # 1400 scores: a chunk holds 1428 resamples
    again, by_hand = np.random.default_rng(3), []
    for _ in range(400):
        i, o = again.choice(ids, len(ids)), again.choice(oods, len(oods))
        by_hand.append(roc_auc_score(np.r_[np.ones(len(i)), np.zeros(len(o))], np.r_[i, o]))
    low, high = np.percentile(by_hand, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_without_resamples_there_is_no_interval():
    found = detection([1.0, 2.0], [0.0], resamples=0)["auroc"]
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    assert np.isnan(accuracy(np.eye(2), np.arange(2), resamples=0).low)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_the_loop(bins):
    rng = np.random.default_rng(bins)
    logits, labels = rng.normal(scale=2, size=(300, 4)), rng.integers(0, 4, 300)
    expected = 0.0
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for b in range(bins):
        inside = [i for i in range(300) if b / bins < probability[i].max() <= (b + 1) / bins]
        if inside:
            right = np.mean([probability[i].argmax() == labels[i] for i in inside])
            expected += len(inside) / 300 * abs(right - np.mean([probability[i].max() for i in inside]))
    assert calibration_error(logits, labels, bins, resamples=0).value == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_certain_answers_is_the_share_of_wrong_ones():
    logits, labels = 1000 * np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 0])
    assert calibration_error(logits, labels, resamples=0).value == pytest.approx(0.25)
    masked = masked_logits(logits, (0,))
    assert calibration_error(masked, np.zeros(4, int), resamples=0).value == pytest.approx(0, abs=1e-12)
