"""What a reprogrammer is compared with: the linear probe, and fine-tuning with its kin. CoOp is in `coop`.

Shapes: B pictures, C classes, D embedding.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from .backbone import Backbone
from .features import run_features
from .image_sets import ImageSet
from .parameters import InputError
from .probe import fit_probe
from .settings import TrainSettings
from .zero_shot import ZeroShot


class LinearProbe(ZeroShot):
    """A linear classifier on the frozen unit features, started at random.

    ``probe = "lbfgs"`` solves the logistic regression, its strength chosen on validation (Radford et al. 2021,
    Appendix A.3); ``probe = "adam"`` takes the steps of IBM/reprogrammer.
    """

    def __init__(self, backbone: Backbone, captions: list[str], image_size: int | None = None, seed: int = 1):
        super().__init__(backbone, captions, image_size)
        dimensions = backbone.encode_text(self.tokens_TL[:1]).shape[1]
        generator = torch.Generator().manual_seed(seed)
        bound = dimensions**-0.5  # torch's own start of a linear layer
        self.weights_CD = nn.Parameter(bound * (2 * torch.rand(len(captions), dimensions, generator=generator) - 1))
        self.bias_C = nn.Parameter(torch.zeros(len(captions)))
        self.to(backbone.device)

    @classmethod
    def from_settings(
        cls, backbone: Backbone, classes: tuple[str, ...], captions: list[str], settings: TrainSettings
    ) -> LinearProbe:
        """Build what a training run's settings ask for."""
        return cls(backbone, captions, settings.image_size, settings.seed)

    @property
    def scale(self) -> float:
        """The mean length of the weight rows, so that scores at a temperature of 1 mean what they do for captions."""
        return float(self.weights_CD.detach().norm(dim=1).mean()) or 1.0

    def bias(self) -> Tensor:
        """Return what is added to the logits, (C,)."""
        return self.bias_C

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return the weight rows (C, D) of these classes (all by default), in units of `scale`."""
        weights = self.weights_CD / self.scale
        return weights if classes is None else weights[classes]

    def prepare(self, data: ImageSet, validation: ImageSet, settings: TrainSettings) -> None:
        """Solve the logistic regression, if that is the recipe."""
        if settings.probe == "lbfgs":
            weights, bias = _solved_probe(self, data, validation, settings)
            self.load_program_state({"weights_CD": torch.from_numpy(weights), "bias_C": torch.from_numpy(bias)})

    def optimizers(self, settings: TrainSettings) -> list[torch.optim.Optimizer]:
        """Return Adam, or nothing where the regression is solved."""
        if settings.probe == "lbfgs":
            return []
        return [torch.optim.Adam([self.weights_CD, self.bias_C], settings.lr)]


class FineTune(ZeroShot):
    """The image tower and a head, trained together; the head starts at the captions' features.

    Everything stays in evaluation mode: BatchNorm keeps its pre-trained statistics and trains its scale and shift
    only (the `use_net_val_mode` of Kumar et al.'s code; a tower without BatchNorm does not notice), dropout is off.
    The text tower and the logit scale stay frozen.
    """

    def __init__(self, backbone: Backbone, captions: list[str], image_size: int | None = None):
        super().__init__(backbone, captions, image_size)
        shared = [p for name, p in backbone.clip.named_parameters() if not name.startswith("visual.")]
        self.tuned = copy.deepcopy(backbone, {id(part): part for part in (*shared, backbone.tokenizer)})
        self.tuned.clip.visual.requires_grad_(True)
        with torch.no_grad():
            weights = super().class_weights().float()
        self.weights_CD, self.bias_C = nn.Parameter(weights.clone()), nn.Parameter(weights.new_zeros(len(captions)))
        self.register_buffer("head_scale", torch.tensor(backbone.scale, dtype=torch.float64))
        self.register_buffer("start_CD", weights, persistent=False)
        self.to(backbone.device)

    @property
    def image_frozen(self) -> bool:
        """Whether training leaves image features as they are: no."""
        return False

    @property
    def encoder(self) -> Backbone:
        """What encodes the canvas: the backbone with the tuned image tower."""
        return self.tuned

    @property
    def scale(self) -> float:
        """The backbone's logit scale, or that of the probe from which the head started."""
        return float(self.head_scale)

    def bias(self) -> Tensor:
        """Return what is added to the logits, (C,)."""
        return self.bias_C

    def program_state(self) -> dict[str, Tensor]:
        """Return the image tower and the head."""
        found = super().program_state()
        tower = {k.removeprefix("tuned.clip."): v for k, v in found.items() if k.startswith("tuned.clip.visual.")}
        return {**{k: v for k, v in found.items() if not k.startswith("tuned.")}, **tower}

    def image_state(self) -> dict[str, Tensor]:
        """Return the image tower."""
        return {k: v for k, v in self.program_state().items() if k.startswith("visual.")}

    def class_weights(self, classes: Tensor | None = None) -> Tensor:
        """Return the head's rows (C, D) of these classes (all by default), in units of `scale`."""
        return self.weights_CD if classes is None else self.weights_CD[classes]

    def optimizers(self, settings: TrainSettings) -> list[torch.optim.Optimizer]:
        """Return AdamW on the tower and on the head times its scale, as IBM/reprogrammer and WiSE-FT have it.

        The head is held in units of the scale, so its step is divided by it and its decay multiplied; Adam's step
        does not depend on the unit of the gradient.
        """
        lr, decay, scale = settings.lr, settings.weight_decay, self.scale
        groups = [
            {"params": list(self.tuned.clip.visual.parameters()), "weight_decay": decay},
            {"params": [self.weights_CD], "lr": lr / scale, "weight_decay": decay * scale},
            {"params": [self.bias_C], "weight_decay": decay},
        ]
        return [torch.optim.AdamW(groups, lr, betas=(0.9, 0.98), eps=1e-6)]

    @torch.no_grad()
    def interpolated(self, wise_weight: float) -> FineTune:
        """Return WiSE-FT: tower and head between zero-shot (weight 0) and this (weight 1); both ends are exact.

        Source: Wortsman et al. 2022, Eq. 3.
        """
        if not 0 <= wise_weight <= 1:
            raise InputError(f"wise_weight = {wise_weight} is refused: it is the share of the fine-tuned weights, 0-1.")
        mixed = FineTune(self.backbone, self.captions, self.image_size)
        start, end = mixed.program_state(), self.program_state()
        state = {k: v.lerp(end[k], wise_weight) if v.is_floating_point() else end[k] for k, v in start.items()}
        mixed.load_program_state(state)
        return mixed


class LPFT(FineTune):
    """Linear probe, then fine-tuning from it (Kumar et al. 2022)."""

    def prepare(self, data: ImageSet, validation: ImageSet, settings: TrainSettings) -> None:
        """Start the head from the solved logistic regression."""
        frozen = ZeroShot(self.backbone, self.captions, self.image_size)  # its features are in the cache
        weights, bias = (torch.from_numpy(part) for part in _solved_probe(frozen, data, validation, settings))
        scale = weights.norm(dim=1).mean()
        state = {"weights_CD": weights / scale, "bias_C": bias, "head_scale": scale.double()}
        self.load_program_state({**self.program_state(), **state})


class L2SP(FineTune):
    """Fine-tuning with a penalty on the distance to the start, tower and head (Li et al. 2018, Eq. 2)."""

    def loss(self, images_BHWC: Tensor, labels_B: Tensor, settings: TrainSettings) -> Tensor:
        """Return cross-entropy + l2_sp / 2 times the squared distance to the pre-trained weights."""
        plain = super().loss(images_BHWC, labels_B, settings)
        if settings.l2_sp == 0:
            return plain
        return plain + settings.l2_sp / 2 * self.squared_distance()

    def squared_distance(self) -> Tensor:
        """Return the squared distance of tower and head (times its scale) to where they started."""
        pairs = zip(self.tuned.clip.visual.parameters(), self.backbone.clip.visual.parameters(), strict=True)
        tower = sum((mine - start).square().sum() for mine, start in pairs)
        return tower + (self.scale * (self.weights_CD - self.start_CD)).square().sum()


def _solved_probe(
    method: ZeroShot, data: ImageSet, validation: ImageSet, settings: TrainSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (C, D) and bias (C,) of the regression on the cached features of both sets."""
    sides = [(run_features(method, part, settings), part.labels_N) for part in (data, validation)]
    return fit_probe(*sides, classes=len(method.captions))
