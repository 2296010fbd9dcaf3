"""Zero-shot: the frozen backbone as it is, and with it what every method is.

Shapes: B pictures, C classes, D embedding, S canvas side in px, T prompt templates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone
from .image_program import place
from .image_sets import ImageSet
from .losses import focal
from .ranks import current, spread
from .settings import TrainSettings


class ZeroShot(nn.Module):
    """The frozen backbone and one caption a class; every other method changes a part of it.

    A method is unit image features, class weights, a scale and, for a head that was fitted, a bias. What is trained
    are its own parameters; the backbone's never collect a gradient.

    Parameters
    ----------
    backbone : Backbone
    captions : list of str
        One a class, in label order.
    image_size : int, optional
        Px to which pictures are resized on the canvas; by default all of it.
    """

    def __init__(self, backbone: Backbone, captions: list[str], image_size: int | None = None):
        super().__init__()
        self.backbone, self.captions = backbone, list(captions)
        self.image_size = image_size or backbone.side
        place(torch.zeros(1, 1, 1, 3, dtype=torch.uint8), backbone.side, self.image_size)  # refuses a wrong size now
        self.register_buffer("tokens_TL", backbone.tokenize(captions), persistent=False)

    @classmethod
    def from_settings(
        cls, backbone: Backbone, classes: tuple[str, ...], captions: list[str], settings: TrainSettings
    ) -> ZeroShot:
        """Build what a training run's settings ask for."""
        return cls(backbone, captions, image_size=settings.image_size)

    @property
    def image_frozen(self) -> bool:
        """Whether training leaves image features as they are, so that they are computed once, ahead of it."""
        return True

    @property
    def encoder(self) -> Backbone:
        """What encodes the canvas."""
        return self.backbone

    @property
    def scale(self) -> float:
        """The factor from cosines to logits; the backbone's own, frozen."""
        return self.backbone.scale

    def bias(self) -> Tensor | None:
        """Return what is added to the logits, (C,), if anything."""
        return None

    def trainable_numbers(self) -> int:
        """Return how many numbers are trained."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def program_state(self) -> dict[str, Tensor]:
        """Return the trained tensors alone."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.")}

    def load_program_state(self, state: dict[str, Tensor]) -> None:
        """Put trained tensors in place; ValueError if names or shapes are not those of this method."""
        mine = self.program_state()
        wrong = [
            k for k in mine.keys() | state.keys() if k not in mine or k not in state or mine[k].shape != state[k].shape
        ]
        if wrong:
            raise ValueError(f"tensors that do not fit this program: {', '.join(sorted(wrong))}")
        with torch.no_grad():
            for name, value in state.items():
                mine[name].copy_(value)

    def image_state(self) -> dict[str, Tensor]:
        """Return the tensors that decide image features beside the backbone's own."""
        return {}

    def image_parts(self) -> list[nn.Module]:
        """Return the modules that a picture goes through, image tower first."""
        return [self.encoder.clip.visual]

    def prepare(self, data: ImageSet, validation: ImageSet, settings: TrainSettings) -> None:
        """Do what comes before the first step, such as fitting a head on cached features."""

    def optimizers(self, settings: TrainSettings) -> list[torch.optim.Optimizer]:
        """Return the optimizers; none if there are no steps to take."""
        return []

    def canvas(self, images_BHWC: Tensor) -> Tensor:
        """Return what the backbone sees of uint8 pictures before it normalises, (B, 3, S, S) in [0, 1]."""
        return place(images_BHWC, self.backbone.side, self.image_size)

    def image_features(self, images_BHWC: Tensor) -> Tensor:
        """Return unit features (B, D) of uint8 pictures, channels last."""
        return self.encoder.encode_image(self.canvas(images_BHWC))

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return unit features (C, D) of the captions of these classes (all by default)."""
        return spread(self.backbone.encode_text, self.tokens_TL if classes is None else self.tokens_TL[classes])

    def loss(self, images_BHWC: Tensor, labels_B: Tensor, settings: TrainSettings) -> Tensor:
        """Return the training loss of a batch, given its labels and this process' share of its pictures."""
        features_BD = current().gather(self.image_features(images_BHWC), len(labels_B))
        return self.feature_loss(features_BD, labels_B, settings)

    def feature_loss(self, features_BD: Tensor, labels_B: Tensor, settings: TrainSettings) -> Tensor:
        """Return the training loss of a batch of image features: cross-entropy over the classes."""
        with torch.autocast(features_BD.device.type, enabled=False):
            logits = self.scale * features_BD.float() @ self.class_weights().float().T
            if self.bias() is not None:
                logits = logits + self.bias()
        return focal(F.log_softmax(logits, dim=1).gather(1, labels_B[:, None]).squeeze(1), gamma=0.0, alpha=1.0)


class PromptEnsemble(ZeroShot):
    """Zero-shot with several captions a class: the mean of their unit features, of unit length again.

    Source: Radford et al. 2021, Section 3.1.4.

    Parameters
    ----------
    captions_TC : list of list of str
        For every template one caption a class.
    """

    def __init__(self, backbone: Backbone, captions_TC: list[list[str]], image_size: int | None = None):
        super().__init__(backbone, captions_TC[0], image_size)
        self.captions_TC = captions_TC

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return the class weights (C, D) of these classes (all by default)."""
        several = [self.backbone.encode_text(self.backbone.tokenize(captions)) for captions in self.captions_TC]
        found = F.normalize(torch.stack(several).mean(dim=0), dim=-1)
        return found if classes is None else found[classes]
