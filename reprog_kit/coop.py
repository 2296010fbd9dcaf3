"""CoOp: trained context tokens in the place of a caption's words.

Shapes: C classes, D embedding, K context tokens, L tokens of the longest prompt, V rows and W width of a token table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .parameters import InputError
from .ranks import spread
from .settings import TrainSettings
from .zero_shot import ZeroShot


class CoOp(ZeroShot):
    """Context optimisation: K trained token rows before the class name, shared by all classes (Zhou et al. 2022).

    Parameters
    ----------
    names : sequence of str
        The class names as they stand in the captions.
    contexts : int
        K.
    context_init : str, optional
        Words whose rows the contexts start at; K is then their number of tokens.
    """

    def __init__(
        self,
        backbone: Backbone,
        names: list[str],
        captions: list[str],
        image_size: int | None = None,
        contexts: int = 16,
        context_init: str | None = None,
        seed: int = 1,
    ):
        super().__init__(backbone, captions, image_size)
        if backbone.text_pool != "argmax":
            raise InputError(f"model = {backbone.name!r} does not pool at the end-of-text token, as CoOp needs it.")
        table = backbone.token_table.detach()
        # What stands behind the class name in the caption, such as a full stop, stays.
        tails = [caption.rpartition(name)[2] if name in caption else "" for name, caption in zip(names, captions)]
        tokens = backbone.tokenize([name + tail for name, tail in zip(names, tails)])
        if context_init:
            words = backbone.tokenize([context_init])[0, 1:-1]
            start = table[words].float().clone()
        else:
            generator = torch.Generator().manual_seed(seed)
            start = 0.02 * torch.randn(contexts, table.shape[1], generator=generator)
        count, length = len(start), len(backbone.positions)
        if count + tokens.shape[1] > length:
            room = length - tokens.shape[1]
            raise InputError(f"contexts = {count} is refused: {room} fit before the longest class name.")
        self.context_KW = nn.Parameter(start)
        used, compact = tokens.unique(sorted=True, return_inverse=True)
        self.register_buffer("used_VW", table[used].float(), persistent=False)
        # Contexts come first in the table, so that end-of-text keeps the highest number, where the tower pools.
        numbers = torch.arange(count, device=compact.device).expand(len(names), count)
        compact = compact + count
        self.register_buffer(
            "prompts_TL", torch.cat([compact[:, :1], numbers, compact[:, 1:]], dim=1), persistent=False
        )
        self.to(backbone.device)

    @classmethod
    def from_settings(
        cls, backbone: Backbone, classes: tuple[str, ...], captions: list[str], settings: TrainSettings
    ) -> CoOp:
        """Build what a training run's settings ask for."""
        names = [name.replace("_", " ") for name in classes]
        chosen = ("image_size", "contexts", "context_init", "seed")
        return cls(backbone, names, captions, **{name: getattr(settings, name) for name in chosen})

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return unit features (C, D) of these classes' prompts (all by default)."""
        prompts = self.prompts_TL if classes is None else self.prompts_TL[classes]
        return spread(self.backbone.encode_text, prompts, torch.cat([self.context_KW, self.used_VW]))

    def optimizers(self, settings: TrainSettings) -> list[torch.optim.Optimizer]:
        """Return SGD with momentum 0.9 on the contexts."""
        return [torch.optim.SGD([self.context_KW], settings.lr, momentum=0.9, weight_decay=settings.weight_decay)]
