"""One picture as every line of a workbench sees it: what takes a pass is done once, the rest is arithmetic.

Shapes: H the benchmark's side and S the canvas' in px, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from .evaluation import Evaluation
from .features import autocast, encode
from .parameters import InputError
from .program_doctor import canvas_gradient
from .reprogrammer import Reprogrammer
from .residual import residual
from .tracks import Line
from .workbench import Workbench
from .zero_shot import ZeroShot


class Seen:
    """A picture as the lines of a workbench see it, each from its first use on.

    Parameters
    ----------
    bench : Workbench
    picture_HWC : ndarray of uint8
        A square of the benchmark's side; `pictures.squares` makes one of any picture.
    label : int, optional
        Its class; -1 is none.

    Raises
    ------
    InputError
        For other pixels.
    """

    def __init__(self, bench: Workbench, picture_HWC: np.ndarray, label: int | None = None):
        side, picture = bench.data.benchmark.side, np.asarray(picture_HWC)
        if picture.dtype != np.uint8 or picture.shape != (side, side, 3):
            raise InputError(
                f"{picture.dtype} of shape {picture.shape} is no picture of this benchmark: give uint8 of shape "
                f"{(side, side, 3)}; next(reprog_kit.pictures.squares(any_picture, {side}))[0] is one."
            )
        self.bench = bench
        self.label = None if label is None or label < 0 else bench.data.classes[label]
        self._images = torch.from_numpy(picture[None].copy()).to(bench.backbone.device)
        self._kept: dict[Hashable, Any] = {}

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def features(self, line: Line, alpha: float, border: bool = True) -> np.ndarray:
        """Return a line's features of the picture, (1, D); with no border on it, if that is asked for."""
        evaluation = line.evaluation
        model = evaluation.model(line.method)
        own = self._features(evaluation, model) if border else self._bare(evaluation, model)
        if not line.moves:
            return own
        plain = self._features(evaluation, evaluation.zero_shot)
        return residual(own, plain, alpha, evaluation.run.settings.renormalise)

    def _features(self, evaluation: Evaluation, model: ZeroShot) -> np.ndarray:
        def compute() -> np.ndarray:
            precision = evaluation.run.settings.precision
            # Whatever leaves the encoder as it is sees the same.
            shared = model if model.image_state() else (model.image_size, precision)
            return self._once(("encoded", shared), lambda: encode(model, self._images, 1, precision))

        return self._once(("features", model), compute)

    def _bare(self, evaluation: Evaluation, model: ZeroShot) -> np.ndarray:
        def compute() -> np.ndarray:
            with torch.inference_mode(), autocast(model.backbone.device, evaluation.run.settings.precision):
                return model.encoder.encode_image(ZeroShot.canvas(model, self._images)).float().cpu().numpy()

        return self._once(("bare", model), compute)

    def probabilities(self, line: Line, alpha: float, border: bool = True) -> np.ndarray:
        """Return the probabilities of all classes under a line, (C,); with no border, if that is asked for."""
        cosines_1C, scale = line.cosines(self.features(line, alpha, border), alpha)
        return softmax(scale * cosines_1C, axis=1)[0]

    def id_score(self, line: Line, score: str, alpha: float) -> float:
        """Return the picture's ID score under a line.

        Raises
        ------
        InputError
            If the detector looks at features and cannot be fitted to the training pictures.
        """
        found = self.features(line, alpha)
        return float(line.evaluation.scores_of(line.method, found, score, alpha if line.moves else None)[0])

    def canvases(self, line: Line) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture on a line's canvas, and what its encoder sees of it, as uint8 (S, S, 3)."""
        model = line.evaluation.model(line.method)

        def compute() -> tuple[np.ndarray, ...]:
            with torch.inference_mode():
                pair = ZeroShot.canvas(model, self._images), model.canvas(self._images)
                return tuple((255 * part[0]).round().byte().permute(1, 2, 0).cpu().numpy() for part in pair)

        return self._once(("canvases", model), compute)

    def gradient(self, line: Line, label: int) -> np.ndarray:
        """Return the absolute gradient of a class' logit by the canvas' pixels, added up over the channels, (S, S).

        Of a residual, which has two canvases, it is its reprogrammer's.
        """
        evaluation, method = line.evaluation, "reprogrammer" if line.moves else line.method
        model, head = evaluation.model(method), evaluation.head(method)
        device = model.backbone.device

        def compute() -> np.ndarray:
            row_D = torch.from_numpy(head.weights_CD[label]).to(device)
            with autocast(device, evaluation.run.settings.precision):
                found = canvas_gradient(model, self._images, lambda seen_1D: head.scale * (seen_1D.float() @ row_D)[0])
            return found.abs().sum(dim=1)[0].float().cpu().numpy()

        return self._once(("gradient", model, label), compute)


def border_of(line: Line) -> int:
    """Return the px of border that a line trained; 0 where it has none."""
    model = line.evaluation.model(line.method)
    return model.padding if isinstance(model, Reprogrammer) and not model.image_frozen else 0
