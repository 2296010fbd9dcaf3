"""The image program: a picture on a canvas, and a trained perturbation on the canvas' border.

Shapes: B pictures, C = 3, S the canvas' side in px, P border pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parameters import InputError


def default_padding(side: int) -> int:
    """Return the reference's share of the canvas: 16 of 224 px."""
    return side // 14


def border_mask(side: int, padding: int) -> Tensor:
    """Return the mask M (side, side): True on a border of `padding` px, False in the centre.

    Raises
    ------
    InputError
        If `padding` is not in 0..side/2.
    """
    if not 0 <= padding <= side // 2:
        raise InputError(f"padding = {padding} px is refused: 0 to {side // 2} px fit the canvas of {side} px.")
    mask = torch.ones(side, side, dtype=torch.bool)
    mask[padding : side - padding, padding : side - padding] = False
    return mask


def place(images_BHWC: Tensor, side: int, image_size: int) -> Tensor:
    """Put uint8 pictures onto a zero canvas.

    Parameters
    ----------
    images_BHWC : Tensor of uint8
        Square pictures, channels last, on the device where they are to be resized.
    side, image_size : int
        Side of the canvas, and of the picture on it, in px. An odd rest gives its extra pixel to the right and below.

    Returns
    -------
    Tensor of float32, (B, C, side, side), in [0, 1]
        Bicubic, antialiased; overshoot is cut off, as in an 8-bit resize.
    """
    if not 1 <= image_size <= side:
        raise InputError(f"image_size = {image_size} px is refused: 1 to {side} px fit the canvas of {side} px.")
    pixels = images_BHWC.permute(0, 3, 1, 2).float().div_(255)
    if pixels.shape[-1] != image_size:
        size = (image_size, image_size)
        pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)
    left = (side - image_size) // 2
    right = side - image_size - left
    return F.pad(pixels, (left, right, left, right)) if image_size < side else pixels


class ImageProgram(nn.Module):
    """clamp(x + tanh(W * M), 0, 1), with W trained on the border alone.

    Section 3 of the paper, arXiv 2403.10800. W starts at N(0, init_std^2): 1 in the authors' code (IBM/reprogrammer
    f107472), which hides most of the border from the first step on; near 0 the program starts as the identity.
    Only the border's values exist as parameters: (3, P). With padding 0 there are none and the program is the identity.
    """

    def __init__(self, side: int, padding: int, init_std: float = 1.0, generator: torch.Generator | None = None):
        super().__init__()
        mask = border_mask(side, padding)
        self.side, self.padding = side, padding
        self.register_buffer("where_P", mask.flatten().nonzero().squeeze(1), persistent=False)
        self.values = nn.Parameter(init_std * torch.randn(3, len(self.where_P), generator=generator))

    def perturbation(self) -> Tensor:
        """Return tanh(W * M), (3, S, S)."""
        canvas = self.values.new_zeros(3, self.side * self.side)
        return canvas.index_copy(1, self.where_P, self.values.tanh()).view(3, self.side, self.side)

    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        """Return the reprogrammed pixels, (B, C, S, S), in [0, 1]."""
        return (pixels_BCSS + self.perturbation()).clamp(0, 1)
