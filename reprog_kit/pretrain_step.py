"""One step of pre-training: the image tower in sleeping threads, the loss over a batch's captions.

Shape suffixes: B pictures of a batch, C distinct captions, D embedding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import Backbone


def contrastive_loss(logits_BC: Tensor, target_B: Tensor, caption_weight: float) -> Tensor:
    """Return the cross-entropy of pictures over the batch's distinct captions, plus that of captions over pictures.

    A caption has many pictures: each of them is a positive with an equal share of the target. Every column must be
    some picture's target.
    """
    positive_BC = F.one_hot(target_B, logits_BC.size(1)).to(logits_BC.dtype)
    share_BC = positive_BC / positive_BC.sum(0)
    caption_loss = -(share_BC * logits_BC.log_softmax(0)).sum(0).mean()
    return F.cross_entropy(logits_BC, target_B) + caption_weight * caption_loss


class Towers:
    """The image tower as copies that share weights, one a thread, each for its part of a batch.

    oneDNN's own threads wait for each other by spinning: on two cores that also served other programs, a step took
    eight times as long. These wait asleep, and each computes alone. A part has batch statistics of its own; the
    running ones are averaged after each step.
    """

    def __init__(self, encoder: Backbone, count: int):
        self.encoder, tower = encoder, encoder.clip.visual
        self.pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
        self.copies = [tower, *(copy.deepcopy(tower) for _ in range(count - 1))]
        for twin in self.copies[1:]:
            for module, twins in zip(tower.modules(), twin.modules(), strict=True):
                twins._parameters.update(module._parameters)

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return each part's unit features, with a graph of its own."""
        parts = images_BCHW.to(self.encoder.device).chunk(len(self.copies))
        return list(self.pool.map(self._one, self.copies, parts))

    def _one(self, tower: nn.Module, images_BCHW: Tensor) -> Tensor:
        pixels = ((images_BCHW - self.encoder.mean) / self.encoder.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.encoder.device.type, torch.bfloat16):
            return F.normalize(tower(pixels).float(), dim=-1)

    def backward(self, parts: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add each part's gradient to the shared weights, and bring the running statistics together."""
        # Two summands: their order, which is up to chance, does not change the sum. Three would.
        list(self.pool.map(torch.autograd.backward, parts, gradients))
        with torch.no_grad():
            for buffers in zip(*(tower.buffers() for tower in self.copies), strict=True):
                mean = torch.stack(buffers).float().mean(0)
                for buffer in buffers:
                    buffer.copy_(mean)


def train_step(towers: Towers, optimizers, images_BCHW, captions, target_B, factor, settings) -> tuple[float, float]:
    """Make one step; return its loss and the share of pictures whose own caption came first."""
    encoder = towers.encoder
    parts = towers.forward(images_BCHW)
    with torch.autocast(encoder.device.type, torch.bfloat16):
        text_CD = encoder.encode_text(encoder.tokenize(captions))
    # CLIP's cap: beyond it a few wrong labels would decide the gradient.
    scale = encoder.clip.logit_scale.clamp(max=math.log(100)).exp()
    target_B = target_B.to(encoder.device)
    leaves = [part.detach().requires_grad_() for part in parts]
    logits_BC = scale * torch.cat(leaves) @ text_CD.T
    loss = contrastive_loss(logits_BC, target_B, settings.caption_weight)
    loss.backward()
    towers.backward(parts, [leaf.grad for leaf in leaves])
    for optimizer, lr in zip(optimizers, (settings.muon_lr, settings.adam_lr), strict=True):
        (group,) = optimizer.param_groups
        group["lr"] = lr * factor
        nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item(), (logits_BC.argmax(1) == target_B).float().mean().item()
