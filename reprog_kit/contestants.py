"""The same work done twice, by this library and in the plain way; every function does some and returns its seconds.

Both work in the switches of the recipe ``released``, on pictures of noise: what they show does not change the speed.

Shapes: N pictures, S their side in px, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from .backbone import Backbone
from .detection import SCORES
from .evaluation import ALPHAS
from .explore_settings import BenchmarkSettings
from .features import autocast, encode, features, head
from .image_program import default_padding
from .image_sets import ImageSet
from .machine import synchronised
from .methods import build
from .plain import Plain
from .residual import MixedCosines, residual
from .settings import TrainSettings
from .train import train
from .zero_shot import ZeroShot

ALPHA = 0.4
PROBE_EPOCHS = 25
_SILENT = SimpleNamespace(update=lambda: None, set_postfix_str=lambda text: None)


def silent(total: int, done: int):
    """Stand in for the progress bar of `train`."""
    return nullcontext(_SILENT)


def noise(count: int, classes: int, side: int) -> ImageSet:
    """Return pictures of noise with labels in turn."""
    pixels = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ImageSet("noise", pixels, np.arange(count) % classes, tuple(range(classes)))


def captions_of(classes: int) -> list[str]:
    """Return a caption a class, all of nearly one length."""
    return [f"a photo of a thing {number}" for number in range(classes)]


def made_settings(settings: BenchmarkSettings, model: str, precision: str, **others) -> TrainSettings:
    """Return the training that is measured: the recipe ``released`` on a model."""
    given = {
        "recipe": "released", "model": model, "pretrained": None if model == "mini" else settings.pretrained,
        "precision": precision, "batch_size": settings.batch_size, "device": settings.device, "warmup_steps": 0,
    }  # fmt: skip
    return TrainSettings.build(**{"dataset": "demo", "method": "reprogrammer", **given, **others})


def our_method(backbone: Backbone, classes: int, made: TrainSettings) -> ZeroShot:
    """Return the untrained method; a reprogrammer's border is the reference's share of the canvas."""
    if made.method == "reprogrammer":
        made = made.model_copy(update={"padding": default_padding(backbone.side)})
    return build(backbone, tuple(map(str, range(classes))), captions_of(classes), made)


class Ours:
    """This library's way.

    Parameters
    ----------
    backbone : Backbone
    made : TrainSettings
    data : ImageSet
    classes : int
    folder : Path
        For the cache of features.
    """

    def __init__(self, backbone: Backbone, made: TrainSettings, data: ImageSet, classes: int, folder: Path):
        self.backbone, self.data, self.classes, self.folder = backbone, data, classes, folder
        self.made = made.model_copy(update={"epochs": 10**6, "runs": str(folder)})
        self.method = our_method(backbone, classes, made)
        self.zero_shot = ZeroShot(backbone, captions_of(classes))

    @cached_property
    def _epochs(self) -> Iterator:
        held_out = self.data.take(slice(0, 2))
        return train(self.method, self.data, held_out, self.made, progress=silent)

    def training(self) -> float:
        """Train on every picture once, from uint8 pixels."""
        return next(self._epochs).record["seconds"]

    def evaluation(self) -> float:
        """Return how long the residual's answers and ID scores take, from pixels and captions on."""
        return self._timed(lambda: self._answers(cache=None))

    def second_evaluation(self) -> float:
        """Return how long they take once the features are in the cache."""
        self._answers(cache=self.folder)
        return self._timed(lambda: self._answers(cache=self.folder))

    def sweep(self) -> float:
        """Return how long all alphas take once the features are in the cache."""
        self._answers(cache=self.folder)
        return self._timed(lambda: self._along(self.folder))

    def first_sweep(self) -> float:
        """Return how long all alphas take, from pixels and captions on."""
        return self._timed(lambda: self._along(None))

    def probe(self) -> float:
        """Return how long a linear probe takes, of as many passes as the plain one, from pixels on."""
        made = self.made.model_copy(
            update={"method": "linear_probe", "probe": "adam", "epochs": PROBE_EPOCHS, "lr": 0.01}
        )
        method = our_method(self.backbone, self.classes, made)
        for kept in self.folder.glob("cache/*"):
            kept.unlink()
        held_out = self.data.take(slice(0, 2))
        return self._timed(lambda: list(train(method, self.data, held_out, made, progress=silent)))

    def _sides(self, cache: Path | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        both, size, precision = (self.method, self.zero_shot), self.made.batch_size, self.made.precision
        pictures = [features(method, self.data, cache, size, precision) for method in both]
        return pictures, [head(method, precision).weights_CD for method in both]

    def _answers(self, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
        pictures, captions = self._sides(cache)
        mixed = [residual(*both, ALPHA, renormalise=False) for both in (pictures, captions)]
        return _judged(mixed[0] @ mixed[1].T, self.backbone.scale)

    def _along(self, cache: Path | None) -> list[tuple[np.ndarray, np.ndarray]]:
        pictures, captions = self._sides(cache)
        mixed = MixedCosines.of(tuple(pictures), tuple(captions), renormalise=False)
        return [_judged(mixed.at(alpha), self.backbone.scale) for alpha in ALPHAS]

    def _timed(self, work) -> float:
        started = synchronised(self.backbone.device)
        work()
        return synchronised(self.backbone.device) - started


class Theirs:
    """The plain way; its batches lie ready as floats on the device, so that no loader is counted.

    Parameters
    ----------
    backbone : Backbone
    made : TrainSettings
    data : ImageSet
    classes : int
    folder : Path
        For zero-shot's weights, which every batch of an evaluation reads again.
    """

    def __init__(self, backbone: Backbone, made: TrainSettings, data: ImageSet, classes: int, folder: Path):
        self.device, self.made, self.scale = backbone.device, made, backbone.scale
        self.method = Plain(backbone, captions_of(classes), default_padding(backbone.side))
        self.optimizers, self.weights = self.method.optimizers(made), folder / "zero_shot.safetensors"
        if not self.weights.is_file():
            save_file({name: value.contiguous() for name, value in backbone.clip.state_dict().items()}, self.weights)
        pixels = torch.from_numpy(data.images_NHWC).permute(0, 3, 1, 2).float().div(255).to(self.device)
        labels = torch.from_numpy(data.labels_N).to(self.device)
        self.batches = list(zip(pixels.split(made.batch_size), labels.split(made.batch_size)))

    def training(self) -> float:
        """Train on every picture once."""
        started = synchronised(self.device)
        for pixels, labels in self.batches:
            self.method.step(self.optimizers, pixels, labels, self.made)
        return synchronised(self.device) - started

    def evaluation(self) -> float:
        """Return how long the residual's answers and ID scores take, at one alpha."""
        started = synchronised(self.device)
        for pixels, _ in self.batches:
            _judged(self.method.residual_logits(pixels, ALPHA, self.weights) / self.scale, self.scale)
        return synchronised(self.device) - started

    def probe(self) -> float:
        """Return how long one of the passes of a linear probe takes: every picture is encoded in each."""
        wide = self.method.text_features(self.method.captions[:1]).shape[1]
        last = nn.Linear(wide, len(self.method.captions)).to(self.device)
        optimizer, started = torch.optim.Adam(last.parameters(), 0.01), synchronised(self.device)
        for pixels, labels in self.batches:
            with torch.no_grad():
                normalised = (self.method.enlarged(pixels) - self.method.mean) / self.method.std
                found = F.normalize(self.method.clip.encode_image(normalised), dim=-1)
            optimizer.zero_grad()
            F.cross_entropy(last(found), labels).backward()
            optimizer.step()
        return synchronised(self.device) - started


def _judged(cosines_NC: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return answers (N,) and ID scores (N,)."""
    return cosines_NC.argmax(axis=1), SCORES["msp"](cosines_NC, scale)


def training_step(ours: Ours) -> None:
    """Do the arithmetic of one training step of ours, for its FLOPs to be counted."""
    batch, labels = (
        torch.from_numpy(part[: ours.made.batch_size]) for part in (ours.data.images_NHWC, ours.data.labels_N)
    )
    device = ours.backbone.device
    with autocast(device, ours.made.precision):
        loss = ours.method.loss(batch.to(device), labels.to(device), ours.made)
    loss.backward()


def evaluation_pass(ours: Ours) -> None:
    """Do the arithmetic of an evaluation of ours, for its FLOPs to be counted."""
    for method in (ours.method, ours.zero_shot):
        encode(method, ours.data.images_NHWC, ours.made.batch_size, ours.made.precision)
        head(method, ours.made.precision)
