"""Losses over cosine similarities.

Shapes: B image-caption pairs, C classes, D embedding. Features are of unit length; `scale` is the logit scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def logits(images_BD: Tensor, texts_ND: Tensor, scale: float) -> Tensor:
    """Return scaled cosines (B, N) in fp32 also under autocast: in bf16 a logit of 25 moves in steps of 0.125."""
    with torch.autocast(images_BD.device.type, enabled=False):
        widest = torch.promote_types(torch.float32, images_BD.dtype)
        return scale * images_BD.to(widest) @ texts_ND.to(widest).T


def focal(log_p: Tensor, gamma: float, alpha: float) -> Tensor:
    """Return the mean focal loss -alpha (1 - p)^gamma log p of log-probabilities of the right answer.

    Source: Lin et al. 2017, Eq. 5. gamma = 0 and alpha = 1 are cross-entropy.
    """
    weight = 1.0 if gamma == 0 else (1 - log_p.exp()).clamp_min(0) ** gamma
    return -(alpha * weight * log_p).mean()


def caption_loss(
    images_BD: Tensor, classes_CD: Tensor, labels_B: Tensor, scale: float, gamma: float = 0.0, alpha: float = 1.0
) -> Tensor:
    """Return the loss of picking each picture's caption among the captions of all classes."""
    log_p = F.log_softmax(logits(images_BD, classes_CD, scale), dim=1)
    return focal(log_p.gather(1, labels_B[:, None]).squeeze(1), gamma, alpha)


def symmetric_loss(
    images_BD: Tensor,
    texts_BD: Tensor,
    labels_B: Tensor,
    scale: float,
    twins_are_positives: bool = True,
    gamma: float = 0.0,
    alpha: float = 1.0,
) -> Tensor:
    """Return the mean of the image-to-text and the text-to-image loss over the batch's similarity matrix.

    With few classes a caption stands in a batch many times. The authors' code counts these twins as negatives; with
    `twins_are_positives` the probability of the right answer is the sum over all pairs of the same class.

    Raises
    ------
    ValueError
        If the batch is empty.
    """
    if len(labels_B) == 0:
        raise ValueError("the loss of an empty batch is not defined")
    logits_BB = logits(images_BD, texts_BD, scale)
    if twins_are_positives:
        right_BB = labels_B[:, None] == labels_B[None, :]
    else:
        right_BB = torch.eye(len(labels_B), dtype=torch.bool, device=logits_BB.device)
    wrong_out = logits_BB.masked_fill(~right_BB, -torch.inf)
    both = [wrong_out.logsumexp(dim) - logits_BB.logsumexp(dim) for dim in (1, 0)]
    return sum(focal(log_p, gamma, alpha) for log_p in both) / 2
