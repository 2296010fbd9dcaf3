"""The weighted mean of features, and the rule that chooses its weight."""

import numpy as np
import pytest

from reprog_kit.parameters import InputError
from reprog_kit.residual import one_standard_error, residual


@pytest.fixture
def two():
    drawn = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    return tuple(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True))


@pytest.mark.parametrize("renormalise", [True, False])
def test_the_ends_come_back_to_the_last_bit(two, renormalise):
    program, plain = two
    assert np.array_equal(residual(program, plain, 0, renormalise), program)
    assert np.array_equal(residual(program, plain, 1.0, renormalise), plain)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.99])
def test_between_them_it_is_the_weighted_mean(two, alpha):
    program, plain = two
    mean = np.array([[(1 - alpha) * p + alpha * z for p, z in zip(*rows)] for rows in zip(program, plain)])
    assert residual(program, plain, alpha, renormalise=False) == pytest.approx(mean, abs=1e-6)
    unit = residual(program, plain, alpha, renormalise=True)
    assert np.linalg.norm(unit, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert unit == pytest.approx(mean / np.sqrt((mean**2).sum(axis=1))[:, None], abs=1e-6)


def test_without_renormalising_features_that_disagree_get_shorter(two):
    program, plain = two
    assert (np.linalg.norm(residual(program, plain, 0.5, renormalise=False), axis=1) < 0.99).all()


@pytest.mark.parametrize("alpha", [-0.01, 1.01, float("nan")])
def test_a_weight_outside_0_to_1_is_refused(two, alpha):
    with pytest.raises(InputError, match=rf"alpha = {alpha} is refused.*0 to 1"):
        residual(*two, alpha)


def test_the_rule_takes_the_largest_alpha_within_one_standard_error():
    alphas = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    # Best 0.9 of 100: the standard error is 0.03, so 0.87 is still in and 0.869 is out.
    assert one_standard_error(alphas, np.array([0.88, 0.90, 0.89, 0.8701, 0.60]), 100) == 0.75
    assert one_standard_error(alphas, np.array([0.88, 0.90, 0.89, 0.8690, 0.60]), 100) == 0.5


def test_the_rule_skips_a_dip_and_takes_the_end_of_a_flat_curve():
    alphas = np.array([0.0, 0.5, 1.0])
    assert one_standard_error(alphas, np.array([0.9, 0.1, 0.9]), 100) == 1.0
    assert one_standard_error(alphas, np.array([0.7, 0.7, 0.7]), 100) == 1.0


def test_the_rule_stays_at_the_best_where_all_else_is_worse():
    alphas = np.array([0.0, 0.5, 1.0])
    assert one_standard_error(alphas, np.array([1.0, 0.99, 0.5]), 10) == 0.0  # at 100% the error is 0
    assert one_standard_error(alphas, np.array([0.9, 0.8, 0.7]), 1_000_000) == 0.0
