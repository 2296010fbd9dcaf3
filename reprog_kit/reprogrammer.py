"""The reprogrammer: a frozen backbone with trained programs on its two inputs.

Shapes: B pictures, C classes, D embedding, S canvas side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .image_program import ImageProgram, default_padding, place
from .losses import caption_loss, symmetric_loss
from .parameters import InputError
from .settings import TrainSettings
from .text_program import TextProgram


class Reprogrammer(nn.Module):
    """A frozen text-image encoder with an image program, a text program, or both.

    Parameters
    ----------
    backbone : Backbone
    captions : list of str
        One a class, in label order.
    program : {"both", "image", "text", "none"}
        ``none`` is zero-shot: the picture on the canvas and the backbone's own captions.
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
        super().__init__()
        if program not in ("both", "image", "text", "none"):
            raise InputError(f"program = {program!r} is refused: both, image, text or none.")
        self.backbone, self.captions = backbone, list(captions)
        self.image_size = image_size or backbone.side
        self.padding = default_padding(backbone.side) if padding is None else padding
        generator = torch.Generator().manual_seed(seed)
        place(torch.zeros(1, 1, 1, 3, dtype=torch.uint8), backbone.side, self.image_size)  # refuses a wrong size now
        self.image_program = (
            ImageProgram(backbone.side, self.padding, init_std, generator) if program in ("both", "image") else None
        )
        self.text_program = TextProgram(backbone, captions) if program in ("both", "text") else None
        self.register_buffer("tokens_TL", backbone.tokenize(captions), persistent=False)
        self.to(backbone.device)

    @classmethod
    def from_settings(cls, backbone: Backbone, captions: list[str], settings: TrainSettings) -> Reprogrammer:
        """Build what a training run's settings ask for."""
        chosen = ("program", "padding", "image_size", "init_std", "seed")
        return cls(backbone, captions, **{name: getattr(settings, name) for name in chosen})

    @property
    def scale(self) -> float:
        """The backbone's logit scale, frozen."""
        return self.backbone.scale

    def program_state(self) -> dict[str, Tensor]:
        """Return the trained tensors alone: border values, token rows, bias."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.")}

    def load_program_state(self, state: dict[str, Tensor]) -> None:
        """Put trained tensors in place; ValueError if names or shapes are not those of this program."""
        mine = self.program_state()
        wrong = [
            k for k in mine.keys() | state.keys() if k not in mine or k not in state or mine[k].shape != state[k].shape
        ]
        if wrong:
            raise ValueError(f"tensors that do not fit this program: {', '.join(sorted(wrong))}")
        with torch.no_grad():
            for name, value in state.items():
                mine[name].copy_(value)

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
        pixels = place(images_BHWC, self.backbone.side, self.image_size)
        return pixels if self.image_program is None else self.image_program(pixels)

    def image_features(self, images_BHWC: Tensor) -> Tensor:
        """Return unit features (B, D) of uint8 pictures, channels last."""
        return self.backbone.encode_image(self.canvas(images_BHWC))

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return unit features (C, D) of the captions of these classes (all by default)."""
        if self.text_program is not None:
            return self.text_program(self.backbone, classes)
        tokens = self.tokens_TL if classes is None else self.tokens_TL[classes]
        return self.backbone.encode_text(tokens)

    def loss(self, images_BHWC: Tensor, labels_B: Tensor, settings: TrainSettings) -> Tensor:
        """Return the training loss of a batch. Captions are encoded once for the classes present, and gathered."""
        images = self.image_features(images_BHWC)
        focal = {"gamma": settings.focal_gamma, "alpha": settings.focal_alpha}
        if settings.loss == "captions":
            return caption_loss(images, self.class_weights(), labels_B, self.scale, **focal)
        present, pair = labels_B.unique(return_inverse=True)
        texts = self.class_weights(present)[pair]
        twins = settings.twins == "positives"
        return symmetric_loss(images, texts, labels_B, self.scale, twins_are_positives=twins, **focal)
