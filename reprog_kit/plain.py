"""The method written the plain way, to measure against: what IBM/reprogrammer (f107472) computes, without its care.

Each picture leaves the device, is resized by PIL and comes back, inside the forward pass; each picture brings a caption
of its own, over the whole context and the whole token table; frozen weights collect gradients nobody reads; an
evaluation loads zero-shot and encodes every caption again for each batch. Nothing else in the library uses this.

Shapes: B pictures, H x W their size, S canvas side in px, C classes, D embedding, V rows of the token table.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image, to_tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from .backbone import Backbone
from .settings import TrainSettings


class Plain(nn.Module):
    """A reprogrammer in the plain way, with the switches of the recipe ``released``.

    Parameters
    ----------
    backbone : Backbone
        Its weights become this method's own: they are trained, and collect gradients.
    captions : list of str
        One a class, in label order.
    padding : int
        Px of the border.
    values_3P : Tensor, optional
        The border's initial values in row order; by default N(0, 1).
    """

    def __init__(self, backbone: Backbone, captions: list[str], padding: int, values_3P: Tensor | None = None):
        super().__init__()
        # The token table and the positions are trained in place, and every weight collects gradients.
        self.clip = backbone.clip.requires_grad_(True)
        self.side, self.scale, self.captions, self.tokenizer = (
            backbone.side,
            backbone.scale,
            captions,
            backbone.tokenizer,
        )
        self.register_buffer("mean", backbone.mean.clone())
        self.register_buffer("std", backbone.std.clone())
        mask = torch.ones(self.side, self.side, device=backbone.device)
        mask[padding : self.side - padding, padding : self.side - padding] = 0
        self.register_buffer("mask", mask)
        border = torch.randn(3, self.side, self.side, device=backbone.device)
        if values_3P is not None:
            border[:, mask.bool()] = values_3P.detach().to(border)
        self.border = nn.Parameter(border)

    def optimizers(self, settings: TrainSettings) -> list[torch.optim.Optimizer]:
        """Return Adam for the border, and AdamW for the whole token table and the positions."""
        text = [self.clip.token_embedding.weight, self.clip.positional_embedding]
        decay = settings.text_weight_decay
        return [
            torch.optim.Adam([self.border], settings.image_lr, weight_decay=settings.image_weight_decay),
            torch.optim.AdamW(text, settings.text_lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=decay),
        ]

    def enlarged(self, pixels_B3HW: Tensor) -> Tensor:
        """Return pictures (B, 3, S, S) as PIL resizes them, one by one."""
        pictures = [to_pil_image(pixels_3HW.cpu()) for pixels_3HW in pixels_B3HW]
        size = [self.side, self.side]
        return torch.stack([to_tensor(resize(p, size, InterpolationMode.BICUBIC)) for p in pictures]).to(
            self.mean.device
        )

    def image_features(self, pixels_B3HW: Tensor) -> Tensor:
        """Return unit features (B, D) of reprogrammed pictures."""
        canvas = (self.enlarged(pixels_B3HW) + torch.tanh(self.border * self.mask)).clamp(0, 1)
        return F.normalize(self.clip.encode_image((canvas - self.mean) / self.std), dim=-1)

    def text_features(self, captions: list[str]) -> Tensor:
        """Return unit features, one a caption, repeated or not."""
        return F.normalize(self.clip.encode_text(self.tokenizer(captions).to(self.mean.device)), dim=-1)

    def loss(self, pixels_B3HW: Tensor, labels_B: Tensor, settings: TrainSettings) -> Tensor:
        """Return the focal loss of the batch's similarities, each picture against the captions of all of them."""
        texts_BD = self.text_features([self.captions[label] for label in labels_B.tolist()])
        logits_BB = self.scale * self.image_features(pixels_B3HW) @ texts_BD.T
        right = torch.arange(len(labels_B), device=logits_BB.device)
        both = []
        for similarities in (logits_BB, logits_BB.T):
            entropy = F.cross_entropy(similarities, right, reduction="none")
            both.append((settings.focal_alpha * (1 - (-entropy).exp()) ** settings.focal_gamma * entropy).mean())
        return (both[0] + both[1]) / 2

    def step(
        self, optimizers: list[torch.optim.Optimizer], pixels_B3HW: Tensor, labels_B: Tensor, settings: TrainSettings
    ) -> float:
        """Take a training step and return its loss."""
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = self.loss(pixels_B3HW, labels_B, settings)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.item()

    @torch.no_grad()
    def residual_logits(self, pixels_B3HW: Tensor, alpha: float, weights: Path) -> np.ndarray:
        """Return the residual's logits (B, C) of a batch; `weights`, zero-shot's, are read from their file."""
        zero_shot = copy.deepcopy(self.clip)
        zero_shot.load_state_dict(load_file(weights, device=str(self.mean.device)))
        plain = F.normalize(zero_shot.encode_image((self.enlarged(pixels_B3HW) - self.mean) / self.std), dim=-1)
        tokens = self.tokenizer(self.captions).to(self.mean.device)
        captions = F.normalize(zero_shot.encode_text(tokens), dim=-1)
        images = (1 - alpha) * self.image_features(pixels_B3HW) + alpha * plain
        texts = (1 - alpha) * self.text_features(self.captions) + alpha * captions
        return (self.scale * images @ texts.T).cpu().numpy()
