"""Losses against loops that take one picture at a time, on twins, single pairs and one class."""

import math

import numpy as np
import pytest
import torch

from reprog_kit.losses import caption_loss, focal, symmetric_loss

SCALE = 20.0


def features(n: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=1, keepdim=True)


def pairs(labels: list[int], seed: int = 0):
    """Return unit image features, one text feature a class handed to every pair of it, and labels."""
    classes = features(5, seed + 1)
    return features(len(labels), seed), classes[labels], torch.tensor(labels)


def slow_focal(p: float, gamma: float, alpha: float) -> float:
    return -alpha * (1 - p) ** gamma * math.log(p)


def slow_symmetric(images, texts, labels, twins: bool, gamma: float, alpha: float) -> float:
    """Both directions, one anchor at a time; twins share the probability of the right answer."""
    n, directions = len(labels), []
    for anchors, others in ((images, texts), (texts, images)):
        total = 0.0
        for i in range(n):
            weights = [math.exp(SCALE * float(anchors[i] @ others[j])) for j in range(n)]
            right = [j for j in range(n) if (labels[j] == labels[i] if twins else j == i)]
            total += slow_focal(sum(weights[j] for j in right) / sum(weights), gamma, alpha)
        directions.append(total / n)
    return sum(directions) / 2


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 1, 0, 2, 0, 1], [4, 4, 4, 1], [2]])
@pytest.mark.parametrize("twins", [True, False])
@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, 1.0), (4.0, 0.8), (0.0, 0.3), (1.5, 1.0)])
def test_symmetric_loss_equals_the_loop(labels, twins, gamma, alpha):
    batch = pairs(labels)
    found = symmetric_loss(*batch, SCALE, twins, gamma, alpha).item()
    assert found == pytest.approx(slow_symmetric(*batch, twins, gamma, alpha), rel=1e-9, abs=1e-12)


def test_without_twins_positives_and_negatives_are_the_same_loss():
    batch = pairs([3, 0, 4, 1])
    assert symmetric_loss(*batch, SCALE, True).item() == pytest.approx(symmetric_loss(*batch, SCALE, False).item())


def test_with_twins_they_differ_and_twins_as_positives_cost_less():
    batch = pairs([3, 0, 3, 1])
    assert symmetric_loss(*batch, SCALE, True) < symmetric_loss(*batch, SCALE, False) - 0.1


def test_a_batch_of_one_class_costs_nothing_with_positives_and_at_least_log_n_with_negatives():
    images, texts, labels = pairs([2] * 6)
    assert symmetric_loss(images, texts, labels, SCALE, True).item() == pytest.approx(0, abs=1e-12)
    # Image to text: six equal captions, so exactly log 6; text to image: at least as much on average (Jensen).
    assert symmetric_loss(images, texts, labels, SCALE, False).item() >= math.log(6) - 1e-12


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="empty batch"):
        symmetric_loss(torch.zeros(0, 6), torch.zeros(0, 6), torch.zeros(0, dtype=torch.long), SCALE)


def test_the_gradient_stays_finite_where_the_right_answer_is_certain():
    images = torch.eye(4, dtype=torch.float32, requires_grad=True)
    loss = symmetric_loss(images, torch.eye(4), torch.arange(4), 100.0, True, gamma=4.0, alpha=0.8)
    loss.backward()
    assert torch.isfinite(images.grad).all()


def test_the_gradient_stays_finite_with_twins():
    images, texts, labels = pairs([0, 0, 1, 1, 2])
    images = images.float().requires_grad_()
    symmetric_loss(images, texts.float(), labels, 100.0, True, gamma=4.0).backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().max() > 0


@pytest.mark.parametrize("loss", [symmetric_loss, caption_loss])
def test_under_autocast_the_similarities_keep_full_precision(loss):
    """At scale 100 logits are near 25, where bf16 counts in steps of an eighth."""
    images, classes, labels = features(32, 1).float(), features(5, 2).float(), torch.arange(32) % 5
    images = torch.nn.functional.normalize(images + 0.1 * classes[labels], dim=1)
    texts = classes[labels] if loss is symmetric_loss else classes

    def gradient(autocast: bool) -> torch.Tensor:
        leaf = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(leaf, texts, labels, 20.0)
        value.backward()  # outside, as the training loop does it
        return leaf.grad

    exact, rough = gradient(False), gradient(True)
    assert (rough - exact).norm() / exact.norm() < 1e-3


@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, 1.0), (4.0, 0.8)])
def test_caption_loss_equals_the_loop_over_classes(gamma, alpha):
    images, classes, labels = features(7, 5), features(4, 6), torch.tensor([0, 3, 3, 1, 2, 0, 0])
    total = 0.0
    for image, label in zip(images, labels):
        weights = np.exp(SCALE * (classes @ image).numpy())
        total += slow_focal(weights[label] / weights.sum(), gamma, alpha)
    found = caption_loss(images, classes, labels, SCALE, gamma, alpha).item()
    assert found == pytest.approx(total / len(labels), rel=1e-9)


def test_focal_at_gamma_zero_is_cross_entropy_and_gamma_quiets_easy_answers():
    easy, hard = torch.tensor([math.log(0.9)]), torch.tensor([math.log(0.1)])
    assert focal(easy, 0.0, 1.0).item() == pytest.approx(-math.log(0.9), rel=1e-6)
    kept = [focal(p, 4.0, 1.0).item() / focal(p, 0.0, 1.0).item() for p in (easy, hard)]
    assert kept == pytest.approx([0.1**4, 0.9**4], rel=1e-4)
