"""Scores and metrics against an independent library, where it is installed. It counts OOD as the positive class."""

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance

from reprog_kit.detection import FEATURE_SCORES, SCORES, knn, mahalanobis
from reprog_kit.metrics import detection, fpr_at_95_id_recall

pytestmark = pytest.mark.slow  # its import alone takes seconds
pytest.importorskip("pytorch_ood", reason="pip install pytorch-ood")

from pytorch_ood import detector as detectors  # noqa: E402
from pytorch_ood.metrics import functional as their_metrics  # noqa: E402


@pytest.fixture(scope="module")
def features():
    """Return unit features: a bank, pictures of its classes, pictures of none; the bank's labels; class weights."""
    rng = np.random.default_rng(0)
    labels, weights = rng.integers(0, 5, 600), rng.normal(size=(5, 16))
    near = [weights[y] + rng.normal(size=(len(y), 16)) for y in (labels, rng.integers(0, 5, 300))]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (*near, rng.normal(size=(200, 16)), weights)]
    return unit[0], unit[1], unit[2], labels, unit[3]


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_logit_scores_equal_the_detectors(features, scale):
    _, pictures, _, _, weights = features
    cosines, fitting = pictures @ weights.T, (detectors.MaxSoftmax, detectors.MaxLogit, detectors.EnergyBased)
    for name, detector in zip(("msp", "max_logit", "energy"), fitting):
        found = -detector(None).predict_logits(torch.from_numpy(scale * cosines)).numpy()
        assert SCORES[name](cosines, scale) == pytest.approx(found, rel=1e-12), name
    mcm = -detectors.MCM(None, torch.from_numpy(weights)).predict_features(torch.from_numpy(pictures)).numpy()
    assert SCORES["mcm"](cosines, scale) == pytest.approx(mcm, rel=1e-6)  # theirs is float32


@pytest.mark.parametrize("k", [1, 5, 50])
def test_knn_equals_the_detector(features, k):
    bank, pictures, _, labels, _ = features
    fitted = detectors.KNN(None, k=k).fit_features(torch.from_numpy(bank), torch.from_numpy(labels))
    found = -fitted.predict_features(torch.from_numpy(pictures)).numpy()
    assert knn(bank, labels, k=k)(pictures) == pytest.approx(found, abs=1e-9)


def test_mahalanobis_without_shrinkage_is_theirs_up_to_a_factor(features):
    # Theirs is half the distance under the sum, not the mean, of the pictures' outer products, in float32.
    bank, pictures, _, labels, _ = features
    fitted = detectors.Mahalanobis(None).fit_features(torch.from_numpy(bank).float(), torch.from_numpy(labels))
    found = -fitted.predict_features(torch.from_numpy(pictures).float()).numpy() * 2 * len(bank)
    assert mahalanobis(bank, labels, EmpiricalCovariance)(pictures) == pytest.approx(found, rel=1e-3)


def both(ids, oods):
    """Return AUROC and FPR95, ours and theirs; turned round, ID is the negative label, which is what they recall."""
    scores, id_negative = torch.from_numpy(np.r_[ids, oods]), torch.ones(len(ids) + len(oods))
    id_negative[: len(ids)] = -1
    found = detection(ids, oods, resamples=0)
    library = their_metrics.auroc(-scores, -id_negative), their_metrics.fpr_at_tpr(scores, id_negative)
    return [found[name].value for name in ("auroc", "fpr_at_95_id_recall")], [float(value) for value in library]


@pytest.mark.parametrize("name", [*SCORES, *FEATURE_SCORES])
def test_auroc_and_fpr95_of_every_score_equal_the_library(features, name):
    bank, pictures, others, labels, weights = features
    if name in SCORES:
        ids, oods = (SCORES[name](x @ weights.T, 14.3) for x in (pictures, others))
    else:
        ids, oods = map(FEATURE_SCORES[name](bank, labels), (pictures, others))
    ours, theirs = both(ids, oods)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_ties_and_small_sides_are_counted_alike(seed):
    rng = np.random.default_rng(seed)
    levels, n_id, n_ood = rng.integers(1, 12), rng.integers(1, 60), rng.integers(1, 60)
    ours, theirs = both(rng.integers(1, levels + 1, n_id) / 7, rng.integers(0, levels, n_ood) / 7)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_not_turned_round_their_fpr95_is_another_number():
    rng = np.random.default_rng(4)
    ids, oods = rng.normal(1, 1, 400), rng.normal(0, 3, 300)
    outlier = torch.from_numpy(-np.r_[ids, oods]), torch.from_numpy(np.r_[np.ones(400), -np.ones(300)])
    assert abs(fpr_at_95_id_recall(ids, oods) - float(their_metrics.fpr_at_tpr(*outlier))) > 0.2
