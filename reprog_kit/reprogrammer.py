"""The reprogrammer: a frozen backbone with trained programs on its two inputs.

Shapes: B pictures, C classes, D embedding, S canvas side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .image_program import ImageProgram, default_padding
from .losses import caption_loss, symmetric_loss
from .parameters import InputError
from .settings import TrainSettings
from .text_program import TextProgram
from .zero_shot import ZeroShot


class Reprogrammer(ZeroShot):
    """A frozen text-image encoder with an image program, a text program, or both.

    Parameters
    ----------
    backbone : Backbone
    captions : list of str
        One a class, in label order.
    program : {"both", "image", "text"}
    padding, image_size : int, optional
        In px; by default the reference's share of the canvas, and the whole canvas.
    init_std : float
        Standard deviation of the border's initial W.
    seed : int
        Of the border's initial values.
    """

    def __init__(
        self,
        backbone: Backbone,
        captions: list[str],
        program: str = "both",
        padding: int | None = None,
        image_size: int | None = None,
        init_std: float = 1.0,
        seed: int = 1,
    ):
        super().__init__(backbone, captions, image_size)
        if program not in ("both", "image", "text"):
            raise InputError(f"program = {program!r} is refused: both, image or text.")
        self.padding = default_padding(backbone.side) if padding is None else padding
        generator = torch.Generator().manual_seed(seed)
        self.image_program = (
            ImageProgram(backbone.side, self.padding, init_std, generator) if program in ("both", "image") else None
        )
        self.text_program = TextProgram(backbone, captions) if program in ("both", "text") else None
        self.to(backbone.device)

    @classmethod
    def from_settings(
        cls, backbone: Backbone, classes: tuple[str, ...], captions: list[str], settings: TrainSettings
    ) -> Reprogrammer:
        """Build what a training run's settings ask for."""
        chosen = ("program", "padding", "image_size", "init_std", "seed")
        return cls(backbone, captions, **{name: getattr(settings, name) for name in chosen})

    @property
    def image_frozen(self) -> bool:
        """Whether there is no border to train."""
        return self.image_program is None or self.padding == 0

    def image_state(self) -> dict[str, Tensor]:
        """Return the border and its values, if there is one."""
        if self.image_frozen:
            return {}
        return {"padding": torch.tensor(self.padding), "values": self.image_program.values}

    def image_parts(self) -> list[nn.Module]:
        """Return the modules that a picture goes through, image tower first."""
        return super().image_parts() + ([] if self.image_program is None else [self.image_program])

    def optimizers(self, settings: TrainSettings) -> list[torch.optim.Optimizer]:
        """Return Adam (L2 coupled into the gradient) for the border and AdamW for the text, as the reference has them.

        Raises
        ------
        InputError
            If there is nothing to train.
        """
        found: list[torch.optim.Optimizer] = []
        if self.image_program is not None and self.padding > 0:
            border = self.image_program.parameters()
            found.append(torch.optim.Adam(border, settings.image_lr, weight_decay=settings.image_weight_decay))
        if self.text_program is not None:
            text, decay = self.text_program.parameters(), settings.text_weight_decay
            found.append(torch.optim.AdamW(text, settings.text_lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=decay))
        if not found:
            raise InputError(
                "nothing to train: program = 'image' with padding = 0. Give a padding, or program = 'both'."
            )
        return found

    def canvas(self, images_BHWC: Tensor) -> Tensor:
        """Return what the backbone sees of uint8 pictures before it normalises, (B, 3, S, S) in [0, 1]."""
        pixels = super().canvas(images_BHWC)
        return pixels if self.image_program is None else self.image_program(pixels)

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return unit features (C, D) of the captions of these classes (all by default)."""
        if self.text_program is not None:
            return self.text_program(self.backbone, classes)
        return super().class_weights(classes)

    def feature_loss(self, features_BD: Tensor, labels_B: Tensor, settings: TrainSettings) -> Tensor:
        """Return the training loss of a batch. Captions are encoded once for the classes present, and gathered."""
        focal = {"gamma": settings.focal_gamma, "alpha": settings.focal_alpha}
        if settings.loss == "captions":
            return caption_loss(features_BD, self.class_weights(), labels_B, self.scale, **focal)
        if 4 * len(self.captions) <= len(labels_B):  # all are there, nearly; looking for them makes a GPU wait
            texts = self.class_weights()[labels_B]
        else:
            present, pair = labels_B.unique(return_inverse=True)
            texts = self.class_weights(present)[pair]
        twins = settings.twins == "positives"
        return symmetric_loss(features_BD, texts, labels_B, self.scale, twins_are_positives=twins, **focal)
