"""A run beside zero-shot and its residual: features once, then every accuracy, shift and detection figure from arrays.

Shapes: N pictures, C classes, D embedding.
"""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
import torch

from .datasets import ImageSet
from .detection import SCORES
from .features import Head, features, head
from .metrics import Estimate, accuracy, calibration_error, detection, masked_logits
from .reprogrammer import Reprogrammer
from .residual import one_standard_error, residual
from .runs import find_run, load_run
from .settings import EvaluateSettings, in_project

METHODS = ("zero_shot", "reprogrammer", "residual")
ALPHAS = np.round(np.linspace(0, 1, 101), 2)


class Evaluation:
    """Everything that can be said about one run, from features that are computed once and cached.

    Parameters
    ----------
    settings : EvaluateSettings

    Attributes
    ----------
    run : Run
    data : BenchmarkData
    method, zero_shot : Reprogrammer
        The trained program, and the same backbone without one.
    """

    def __init__(self, settings: EvaluateSettings):
        self.settings, self.run = settings, find_run(settings.run, settings.runs)
        self.method, self.data = load_run(self.run, settings.device, settings.data_root)
        self.zero_shot = Reprogrammer(self.method.backbone, self.method.captions, program="none")
        self._features: dict[tuple[str, str], np.ndarray] = {}

    @cached_property
    def heads(self) -> dict[str, Head]:
        """The heads of zero-shot and of the program; captions are encoded once."""
        precision = self.run.settings.precision
        return {"zero_shot": head(self.zero_shot, precision), "reprogrammer": head(self.method, precision)}

    @cached_property
    def sets(self) -> dict[str, tuple[str, ImageSet]]:
        """Every set that is scored, with its role: id, shift or ood."""
        named = {"test": ("id", self.data.test)}
        named.update({name: ("shift", found) for name, found in self.data.shift.items()})
        named.update({name: ("ood", found) for name, found in self.data.ood.items()})
        return named

    def features(self, method: str, data: ImageSet) -> np.ndarray:
        """Return image features (N, D) of ``zero_shot`` or ``reprogrammer``; read or computed once, then held."""
        key = (method, data.fingerprint)
        if key not in self._features:
            model = self.zero_shot if method == "zero_shot" else self.method
            cache, precision = in_project(self.settings.runs) / "cache", self.run.settings.precision
            self._features[key] = features(model, data, cache, self.settings.batch_size, precision)
        return self._features[key]

    def cosines(self, method: str, data: ImageSet, alpha: float | None = None) -> tuple[np.ndarray, float]:
        """Return similarities (N, C) and the logit scale of a method; ``residual`` at an alpha (default: `alpha`)."""
        if method != "residual":
            return self.heads[method].cosines(self.features(method, data)), self.heads[method].scale
        alpha = self.alpha if alpha is None else alpha
        program, plain = self.heads["reprogrammer"], self.heads["zero_shot"]
        renormalise = self.run.settings.renormalise
        mixed = Head(residual(program.weights_CD, plain.weights_CD, alpha, renormalise), program.scale)
        images = (self.features(m, data) for m in ("reprogrammer", "zero_shot"))
        return mixed.cosines(residual(*images, alpha, renormalise)), mixed.scale

    @cached_property
    def validation_curve(self) -> np.ndarray:
        """Validation accuracy of the residual at every alpha of `ALPHAS`."""
        data = self.data.validation
        logits = (masked_logits(self.cosines("residual", data, alpha)[0], data.covered) for alpha in ALPHAS)
        return np.array([accuracy(found, data.labels_N, resamples=0).value for found in logits])

    @cached_property
    def alpha(self) -> float:
        """The residual weight: the setting, or what validation chooses by the one-standard-error rule."""
        if self.settings.alpha is not None:
            return self.settings.alpha
        return one_standard_error(ALPHAS, self.validation_curve, len(self.data.validation))

    def scores(self, method: str, data: ImageSet, score: str | None = None) -> np.ndarray:
        """Return the ID scores (N,) of a set; larger is more in-distribution."""
        return SCORES[score or self.settings.score](*self.cosines(method, data))

    def rows(self) -> list[dict]:
        """Compute every figure of the three methods and add them to the run, a row a (method, set, score, metric)."""
        found = [row for method in METHODS for row in self._rows_of(method)]
        self.run.add_results(found)
        return found

    def describe(self) -> str:
        """Return one line on what the figures rest on: run, pictures, seed, device and version."""
        shift, ood = (sum(len(data) for role, data in self.sets.values() if role == r) for r in ("shift", "ood"))
        return (
            f"{self.run.name}: {len(self.data.test)} ID, {shift} shift and {ood} OOD pictures, seed "
            f"{self.run.settings.seed}, on {self.device_name}, torch {torch.__version__}"
        )

    @property
    def device_name(self) -> str:
        """The GPU's name, or cpu."""
        device = self.method.backbone.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def _rows_of(self, method: str) -> list[dict]:
        resamples, rows, id_scores = self.settings.resamples, [], {}
        for name, (role, data) in self.sets.items():
            cosines, scale = self.cosines(method, data)
            if role != "ood":
                logits = masked_logits(scale * cosines, data.covered)
                for metric, function in (("accuracy", accuracy), ("calibration_error", calibration_error)):
                    estimate = function(logits, data.labels_N, resamples=resamples)
                    rows.append(self._row(method, name, role, None, metric, estimate, len(data)))
            for score in SCORES if role in ("id", "ood") else ():
                scores = SCORES[score](cosines, scale)
                if role == "id":
                    id_scores[score] = scores
                    continue
                for metric, estimate in detection(id_scores[score], scores, resamples).items():
                    rows.append(self._row(method, name, role, score, metric, estimate, len(data)))
        return rows

    def _row(self, method, name, role, score, metric, estimate: Estimate, n: int) -> dict:
        made = self.run.settings
        return {
            "run": self.run.name,
            "dataset": self.data.benchmark.name,
            "method": method,
            "alpha": {"zero_shot": 1.0, "reprogrammer": 0.0, "residual": self.alpha}[method],
            "model": made.model,
            "seed": made.seed,
            "padding": made.padding,
            "recipe": made.recipe,
            "role": role,
            "set": name,
            "score": score,
            "metric": metric,
            "value": estimate.value,
            # JSON has no NaN.
            "low": estimate.low if np.isfinite(estimate.low) else None,
            "high": estimate.high if np.isfinite(estimate.high) else None,
            "n": n,
            "n_id": len(self.data.test),
            "device": self.device_name,
            "torch": torch.__version__,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
