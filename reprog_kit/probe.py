"""The linear probe, solved: scikit-learn's logistic regression on features, its strength chosen on validation.

Shapes: N pictures, C classes, D embedding.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from .parameters import InputError

# Inverse strength of the L2 penalty, from one where nothing is learnt of unit features to one where it hardly counts.
STRENGTHS = 10.0 ** np.arange(-1, 5.5, 0.5)


def fit_probe(
    fit: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (C, D) and bias (C,), float32, of the probe that does best on what was held out.

    Parameters
    ----------
    fit, held_out : (features_ND, labels_N)
        What it is fitted to, and what the strength is chosen on; of equally good ones the strongest penalty is taken.
    classes : int
        C.

    Raises
    ------
    InputError
        If there is a class without a training picture.
    """
    features_ND, labels_N = np.asarray(fit[0], dtype=np.float64), fit[1]
    absent = sorted(set(range(classes)) - set(np.unique(labels_N).tolist()))
    if absent:
        raise InputError(
            f"a linear probe needs a training picture of every class; there is none of label {absent[:10]}. "
            "Give a larger limit, or more pictures."
        )
    best, found = -1.0, None
    model = LogisticRegression(max_iter=1000, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(features_ND, labels_N)
        accuracy = model.score(*held_out)
        if accuracy > best:
            best, found = accuracy, (model.coef_.copy(), model.intercept_.copy())
    weights, bias = found
    if classes == 2:  # scikit-learn keeps the difference of the two rows
        weights, bias = np.r_[-weights / 2, weights / 2], np.r_[-bias / 2, bias / 2]
    return weights.astype(np.float32), bias.astype(np.float32)
