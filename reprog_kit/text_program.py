"""The text program: a trained table over the tokens that the captions use, and a trained bias per position.

Shapes: T captions, L tokens of the longest, V distinct tokens, W width of the text tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .parameters import InputError
from .ranks import spread


class TextProgram(nn.Module):
    """Replaces the token rows and the positional embedding of the captions; starts at the backbone's own values.

    An untrained text program is therefore the identity, to the last bit. The reference trains the whole table
    (49,408 rows in CLIP); rows that no caption uses never change an answer, so they are not held here.

    Parameters
    ----------
    backbone : Backbone
    captions : list of str
        One a class, in label order.
    """

    def __init__(self, backbone: Backbone, captions: list[str]):
        super().__init__()
        if backbone.text_pool == "eos":  # it would look for a token number that the compact table does not have
            raise InputError(f"model = {backbone.name!r} pools at a fixed token; program = 'image' works with it.")
        tokens = backbone.tokenize(captions)
        # Sorted, so that the end-of-text token keeps the highest number, where the tower pools.
        used, compact = tokens.unique(sorted=True, return_inverse=True)
        self.register_buffer("used_V", used, persistent=False)
        self.register_buffer("tokens_TL", compact, persistent=False)
        self.rows = nn.Parameter(backbone.token_table.detach()[used].float().clone())
        self.bias = nn.Parameter(backbone.positions.detach()[: tokens.shape[1]].float().clone())

    def forward(self, backbone: Backbone, classes_T: Tensor | None = None) -> Tensor:
        """Return unit features (T, D) of these classes' captions (all by default)."""
        tokens = self.tokens_TL if classes_T is None else self.tokens_TL[classes_T]
        return spread(backbone.encode_text, tokens, self.rows, self.bias)

    @torch.no_grad()
    def moved(self, backbone: Backbone) -> Tensor:
        """Return how far each used token row moved, relative to its length, (V,)."""
        start = backbone.token_table[self.used_V]
        return (self.rows - start).norm(dim=1) / start.norm(dim=1).clamp_min(1e-12)
