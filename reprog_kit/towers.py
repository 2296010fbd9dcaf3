"""The towers of an encoder brought into a form that processors like better: same weights, same answers.

Measured on ViT-B/32 at 224 px, 64 pictures, torch 2.15, two cores of an AMD EPYC with bf16 instructions, CPU seconds: a
training step in bf16 fell from 10.7 to 8.6 with the sequence first and to 7.8 with patches as one product, in fp32 from
15.3 to 13.4; an evaluation in bf16 from 4.5 to 3.2.

Shapes: B pictures, C = 3 colours, H x W their size in px, P px a patch's side, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchProduct(nn.Conv2d):
    """A convolution whose patches do not overlap, as the matrix product that it is.

    The gradient towards the pixels is a product too then; as a convolution it took a tenth of a training step.
    """

    @staticmethod
    def fits(conv: nn.Module) -> bool:
        """Say whether a module is such a convolution."""
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == conv.stride
            and conv.kernel_size != (1, 1)
            and conv.padding in ((0, 0), "valid")
            and conv.dilation == (1, 1)
            and conv.groups == 1
        )

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Return (B, D, H // P, W // P); pixels beyond the last whole patch are left out, as a convolution does."""
        (high, wide), count = self.kernel_size, pixels_BCHW.shape[0]  # len() would fix the batch of a graph
        rows, columns = pixels_BCHW.shape[2] // high, pixels_BCHW.shape[3] // wide
        # In the order in which channels_last lies in memory.
        whole = pixels_BCHW[:, :, : rows * high, : columns * wide].permute(0, 2, 3, 1)
        patches = whole.reshape(count, rows, high, columns, wide, self.in_channels).transpose(2, 3)
        flat = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        found = F.linear(patches.reshape(count, rows * columns, flat.shape[1]), flat, self.bias)
        return found.transpose(1, 2).unflatten(2, (rows, columns))


def quicken(clip: nn.Module) -> nn.Module:
    """Change an open_clip model in place so that it answers the same, sooner; what does not fit is left as it is.

    torch's attention turns a batch-first input around, so that its first product meets memory that does not lie in a
    row and is done picture by picture, with the weights copied for each of them in bf16. Sequence first, it is one.
    """
    for part in clip.modules():
        blocks = getattr(part, "resblocks", None)
        if blocks is not None and getattr(part, "batch_first", False) and not hasattr(part, "cross_attn"):
            attentions = [getattr(block, "attn", None) for block in blocks]
            if all(type(attention) is nn.MultiheadAttention for attention in attentions):
                for module in (part, *attentions):
                    module.batch_first = False
        if PatchProduct.fits(part):
            part.__class__ = PatchProduct  # in place, it keeps its name and its weights
    return clip
