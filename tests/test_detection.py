"""ID scores against their formulas, one picture at a time."""

import math
from functools import partial

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, ledoit_wolf

from reprog_kit.detection import FEATURE_SCORES, SCORES, energy, knn, mahalanobis, max_logit, mcm, msp
from reprog_kit.parameters import InputError


@pytest.fixture
def cosines():
    return np.random.default_rng(0).uniform(-0.4, 0.4, size=(40, 7))


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_scores_equal_their_formulas(cosines, scale):
    for row, (a, b, c, d) in zip(cosines, zip(*(f(cosines, scale) for f in (msp, mcm, max_logit, energy)))):
        weights = [math.exp(scale * x) for x in row]
        assert a == pytest.approx(max(weights) / sum(weights), rel=1e-12)
        assert b == pytest.approx(max(math.exp(x) for x in row) / sum(math.exp(x) for x in row), rel=1e-12)
        assert c == pytest.approx(scale * max(row), rel=1e-12)
        assert d == pytest.approx(math.log(sum(weights)), rel=1e-12)


def test_mcm_knows_no_scale(cosines):
    assert np.array_equal(mcm(cosines, 100.0), mcm(cosines, 1.0))


def test_every_score_grows_when_the_best_class_fits_better():
    worse, better = np.array([[0.2, 0.1, 0.0]]), np.array([[0.3, 0.1, 0.0]])
    for name, score in SCORES.items():
        assert score(better, 100.0) > score(worse, 100.0), name


def test_msp_in_half_precision_keeps_the_order_of_near_certain_pictures():
    # In fp16 these would all be 1.0; they are raised to float64 first.
    gaps = np.linspace(0.10, 0.25, 50)
    cosines = np.stack([0.3 + gaps, np.full(50, 0.3)], axis=1).astype(np.float32)
    scores = msp(cosines, 100.0)
    assert scores.dtype == np.float64
    assert (np.diff(scores) > 0).all()
    assert (np.diff(msp(cosines.astype(np.float16), 100.0)) >= 0).all()


def test_constant_rows_and_a_single_class():
    assert msp(np.full((2, 4), 0.3), 100.0) == pytest.approx([0.25, 0.25])
    assert msp(np.array([[0.1], [0.3]]), 100.0) == pytest.approx([1, 1])
    assert energy(np.zeros((1, 4)), 100.0) == pytest.approx([math.log(4)])


def test_large_logits_do_not_overflow():
    cosines = np.array([[1.0, -1.0]])
    for name, score in SCORES.items():
        assert np.isfinite(score(cosines, 1e5)).all(), name


def test_scores_are_listed_by_the_names_of_settings_and_ledger():
    assert list(SCORES) == ["msp", "mcm", "max_logit", "energy"]


@pytest.fixture
def bank():
    """Return 60 unit features of three classes, and their labels: 0, 2 and 5."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 2, 5], [30, 20, 10])
    features = rng.normal(size=(60, 6)) * [1, 1, 1, 1, 0.3, 0.1] + 3 * np.eye(6)[labels]
    return features / np.linalg.norm(features, axis=1, keepdims=True), labels


@pytest.fixture
def pictures():
    features = np.random.default_rng(2).normal(size=(25, 6))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def slow_mahalanobis(bank, labels, pictures):
    """Invert the pooled, shrunk covariance and go through pictures and classes."""
    means = {c: np.mean([x for x, label in zip(bank, labels) if label == c], axis=0) for c in set(labels)}
    spread = np.array([x - means[label] for x, label in zip(bank, labels)])
    inverse = np.linalg.inv(ledoit_wolf(spread, assume_centered=True)[0])
    return [-min((x - mean) @ inverse @ (x - mean) for mean in means.values()) for x in pictures]


@pytest.mark.parametrize("k", [1, 2, 7, 60])
def test_knn_equals_the_sorted_distances(bank, pictures, k):
    expected = [-sorted(math.dist(x, y) for y in bank[0])[k - 1] for x in pictures]
    assert knn(*bank, k=k)(pictures) == pytest.approx(expected, abs=1e-9)


def test_mahalanobis_equals_the_explicit_inverse(bank, pictures):
    assert mahalanobis(*bank)(pictures) == pytest.approx(slow_mahalanobis(*bank, pictures), rel=1e-9)


@pytest.mark.parametrize(("size", "k"), [(1, 1), (499, 1), (1400, 1), (1600, 2), (5000, 5)])
def test_knn_looks_at_a_thousandth_of_the_bank(size, k):
    bank, x = np.random.default_rng(3).normal(size=(size, 3)), np.ones((1, 3))
    assert knn(bank, np.zeros(size))(x) == pytest.approx(knn(bank, np.zeros(size), k=k)(x), abs=0)
    assert size < 5000 or knn(bank, np.zeros(size))(x) < knn(bank, np.zeros(size), k=k - 1)(x)


def test_knn_knows_directions_only(bank, pictures):
    stretched = bank[0] * np.linspace(0.1, 9, 60)[:, None]
    assert knn(stretched, bank[1])(7 * pictures) == pytest.approx(knn(*bank)(pictures), abs=1e-9)


def test_a_bank_thrice_over_moves_the_kth_neighbour_to_3k(bank, pictures):
    thrice = np.concatenate([bank[0]] * 3), np.concatenate([bank[1]] * 3)
    assert knn(*thrice, k=12)(pictures) == pytest.approx(knn(*bank, k=4)(pictures), abs=1e-9)
    assert knn(*thrice, k=10)(pictures) == pytest.approx(knn(*bank, k=4)(pictures), abs=1e-9)  # a tie of three


def test_mahalanobis_without_shrinkage_cares_for_no_linear_map_and_no_copies(bank, pictures):
    bend, plain = np.random.default_rng(4).normal(size=(6, 6)), partial(mahalanobis, covariance=EmpiricalCovariance)
    expected = plain(*bank)(pictures)
    assert plain(bank[0] @ bend + 5, bank[1])(pictures @ bend + 5) == pytest.approx(expected, rel=1e-6)
    thrice = np.concatenate([bank[0]] * 3), np.concatenate([bank[1]] * 3)
    assert plain(*thrice)(pictures) == pytest.approx(expected, rel=1e-9)


def test_shrinkage_hardly_matters_to_a_large_bank_and_makes_a_small_one_possible(pictures):
    rng = np.random.default_rng(5)
    large, labels = rng.normal(size=(20_000, 6)) * np.arange(1, 7), rng.integers(0, 4, 20_000)
    shrunk, plain = mahalanobis(large, labels), mahalanobis(large, labels, EmpiricalCovariance)
    assert shrunk(pictures) == pytest.approx(plain(pictures), rel=0.01)
    assert np.isfinite(mahalanobis(large[:5], labels[:5] % 2)(pictures)).all()
    with pytest.raises(InputError, match="5 pictures differ in too few directions"):
        mahalanobis(large[:5], labels[:5] % 2, EmpiricalCovariance)


@pytest.mark.parametrize("score", FEATURE_SCORES.values(), ids=list(FEATURE_SCORES))
def test_feature_scores_prefer_the_bank_to_what_is_far_and_know_no_order(bank, pictures, score):
    features, labels = bank
    made, order = score(features, labels), np.random.default_rng(6).permutation(60)
    assert made(features).mean() > made(pictures).mean() > made(-features).mean()
    assert score(features[order], labels[order])(pictures) == pytest.approx(made(pictures), rel=1e-9)
    assert score(features, labels * 3 + 1)(pictures) == pytest.approx(made(pictures), rel=1e-9)
    assert made(np.repeat(pictures[:1], 3, axis=0)) == pytest.approx(np.repeat(made(pictures[:1]), 3), abs=1e-12)


@pytest.mark.parametrize("score", FEATURE_SCORES.values(), ids=list(FEATURE_SCORES))
def test_half_precision_is_raised_to_float64_first(bank, pictures, score):
    half = [x.astype(np.float16) for x in (bank[0], pictures)]
    found = score(half[0], bank[1])(half[1])
    assert found.dtype == np.float64
    assert np.array_equal(found, score(half[0].astype(float), bank[1])(half[1].astype(float)))


def test_a_feature_of_the_bank_or_of_a_class_mean_is_as_near_as_can_be(bank):
    assert knn(*bank, k=1)(bank[0]) == pytest.approx(0, abs=1e-7)
    means = np.stack([bank[0][bank[1] == c].mean(axis=0) for c in (0, 2, 5)])
    assert mahalanobis(*bank)(means) == pytest.approx(0, abs=1e-9)


def test_a_class_of_one_picture_is_its_own_mean(bank, pictures):
    features, labels = np.r_[bank[0], pictures[:1]], np.r_[bank[1], 9]
    assert mahalanobis(features, labels)(pictures[:1]) == pytest.approx(0, abs=1e-9)
    assert mahalanobis(features, labels)(pictures) == pytest.approx(slow_mahalanobis(features, labels, pictures))


def test_a_feature_that_never_varies_is_shrunk_to_finite_weight(bank, pictures):
    features = bank[0] * [1, 1, 1, 1, 1, 0]
    found = mahalanobis(features, bank[1])(pictures)
    assert np.isfinite(found).all()
    assert found == pytest.approx(slow_mahalanobis(features, bank[1], pictures), rel=1e-9)
    assert knn(np.zeros((3, 6)), np.zeros(3))(pictures) == pytest.approx(-1)  # no direction, no NaN


@pytest.mark.parametrize("score", FEATURE_SCORES.values(), ids=list(FEATURE_SCORES))
def test_a_bank_of_no_pictures_or_other_pictures_labels_is_refused(score):
    with pytest.raises(InputError, match="empty"):
        score(np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(InputError, match="3 pictures and 2 labels"):
        score(np.ones((3, 4)), np.zeros(2))


@pytest.mark.parametrize("k", [0, -1, 61])
def test_a_neighbour_that_the_bank_does_not_have_is_refused(bank, k):
    with pytest.raises(InputError, match=f"k = {k} is refused: the bank has 60 pictures"):
        knn(*bank, k=k)


def test_a_bank_without_spread_within_classes_or_without_labels_is_refused(bank):
    for features, labels in (
        (np.ones((8, 3)), np.arange(8) % 2),  # constant
        (np.eye(3), np.arange(3)),  # a picture a class
        (np.eye(3)[:2], np.zeros(2)),  # two pictures differ in one direction of three
    ):
        with pytest.raises(InputError, match="too few directions"):
            mahalanobis(features, labels)
    with pytest.raises(InputError, match="-1"):
        mahalanobis(bank[0], np.where(bank[1] == 5, -1, bank[1]))


def test_feature_scores_are_listed_by_name():
    assert list(FEATURE_SCORES) == ["knn", "mahalanobis"]
