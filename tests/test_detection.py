"""ID scores against their formulas, one picture at a time."""

import math

import numpy as np
import pytest

from reprog_kit.detection import SCORES, energy, max_logit, mcm, msp


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
