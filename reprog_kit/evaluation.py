"""A run beside zero-shot and what follows from it: features once, then every figure from arrays.

Shapes: N pictures, M pictures of the bank, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch

from .backbone import load_backbone
from .baselines import FineTune
from .datasets import BenchmarkData
from .detection import FEATURE_SCORES, SCORES
from .features import Head, ensemble_head, features, head
from .image_sets import ImageSet, limited
from .label_check import LabelAlarm, permuted_labels
from .methods import scored_methods
from .metrics import accuracy, masked_logits
from .residual import one_standard_error, residual
from .run_folders import Run, find_run
from .runs import load_run
from .settings import EvaluateSettings, TrainSettings, in_project
from .zero_shot import PromptEnsemble, ZeroShot

ALPHAS = np.round(np.linspace(0, 1, 101), 2)


class Evaluation:
    """Everything that can be said about one run, from features that are computed once and cached.

    Parameters
    ----------
    settings : EvaluateSettings
    run : Run, optional
        In the place of the one that the settings name.
    beside : Evaluation, optional
        Of the same benchmark on the same model: its backbone, pictures and zero-shot features are used here too.

    Attributes
    ----------
    run : Run
    data : BenchmarkData
    method, zero_shot : ZeroShot
        What was trained, and the same backbone without it.
    methods : tuple of str
        What is scored; ``prompt_ensemble`` is zero-shot with the benchmark's templates.
    """

    def __init__(self, settings: EvaluateSettings, run: Run | None = None, beside: Evaluation | None = None):
        run = run or find_run(settings.run, settings.runs)
        where = (settings.device, settings.data_root, settings.missing_sets)
        held = (beside.method.backbone, beside.data) if beside else None
        self._begin(settings, run, *load_run(run, *where, held))
        if beside and beside.run.settings.precision == run.settings.precision:
            self._plain = beside

    @classmethod
    def untrained(cls, settings: EvaluateSettings, made: TrainSettings) -> Evaluation:
        """Return the evaluation of zero-shot alone, which needs no run: on the model and pictures of a run's settings.

        Raises
        ------
        InputError
            If model or pictures cannot be had.
        """
        data = BenchmarkData.of(made)
        data.check()
        method = ZeroShot(load_backbone(made.model, made.pretrained, made.device), data.captions)
        found = cls.__new__(cls)
        found._begin(settings, Run(in_project(made.runs) / "zero-shot", made), method, data)
        return found

    def _begin(self, settings: EvaluateSettings, run: Run, method: ZeroShot, data: BenchmarkData) -> None:
        self.settings, self.run, self.method, self.data = settings, run, method, data
        self._plain: Evaluation | None = None
        backbone, captions = self.method.backbone, self.method.captions
        self.zero_shot = ZeroShot(backbone, captions)
        own, templates = self.run.settings.method, self.data.benchmark.templates
        self.methods = scored_methods(own, bool(templates))
        self._models: dict[str, ZeroShot] = {own: self.method, "zero_shot": self.zero_shot}
        if templates:
            sentences = [self.data.benchmark.captions(self.data.classes, t) for t in templates]
            self._models["prompt_ensemble"] = PromptEnsemble(backbone, sentences)
        if isinstance(self.method, FineTune) and "wise_ft" in self.methods:
            self._models["wise_ft"] = self.method.interpolated(settings.wise_weight)
        self._features: dict[tuple[str, str], np.ndarray] = {}
        self._fitted: dict[tuple[str, str], tuple[float | None, Callable[[np.ndarray], np.ndarray]]] = {}

    def model(self, method: str) -> ZeroShot:
        """Return what answers under a method; of a residual, which is two, the reprogrammer."""
        return self._models["reprogrammer" if method == "residual" else method]

    @cached_property
    def heads(self) -> dict[str, Head]:
        """The heads of all methods but the residual; captions are encoded once."""
        precision, cache = self.run.settings.precision, in_project(self.settings.runs) / "cache"
        found = {k: v for k, v in self._plain.heads.items() if k in self._models} if self._plain else {}
        for name, model in self._models.items():
            if name not in found:
                own = isinstance(model, PromptEnsemble)
                found[name] = ensemble_head(model, cache, precision) if own else head(model, precision)
        return found

    @cached_property
    def sets(self) -> dict[str, tuple[str, ImageSet]]:
        """Every set that is scored, with its role: id, shift or ood."""
        named = {"test": ("id", self.data.test)}
        named.update({name: ("shift", found) for name, found in self.data.shift.items()})
        named.update({name: ("ood", found) for name, found in self.data.ood.items()})
        return named

    def features(self, method: str, data: ImageSet, alpha: float | None = None) -> np.ndarray:
        """Return a method's image features (N, D), read or computed once; ``residual`` at an alpha, default `alpha`."""
        if method == "residual":
            alpha = self.alpha if alpha is None else alpha
            sides = (self.features(m, data) for m in ("reprogrammer", "zero_shot"))
            return residual(*sides, alpha, self.run.settings.renormalise)
        key = ("zero_shot" if method == "prompt_ensemble" else method, data.fingerprint)
        if self._plain and key[0] == "zero_shot":
            return self._plain.features("zero_shot", data)
        if key not in self._features:
            cache, precision = in_project(self.settings.runs) / "cache", self.run.settings.precision
            self._features[key] = features(self._models[key[0]], data, cache, self.settings.batch_size, precision)
        return self._features[key]

    def head(self, method: str, alpha: float | None = None) -> Head:
        """Return a method's head; ``residual`` at an alpha, default `alpha`."""
        if method != "residual":
            return self.heads[method]
        alpha = self.alpha if alpha is None else alpha
        program, plain = self.heads["reprogrammer"], self.heads["zero_shot"]
        renormalise = self.run.settings.renormalise
        return Head(residual(program.weights_CD, plain.weights_CD, alpha, renormalise), program.scale)

    def cosines(self, method: str, data: ImageSet, alpha: float | None = None) -> tuple[np.ndarray, float]:
        """Return similarities (N, C) and the logit scale of a method."""
        found = self.head(method, alpha)
        return found.cosines(self.features(method, data, alpha)), found.scale

    def logits(self, method: str, data: ImageSet, alpha: float | None = None) -> np.ndarray:
        """Return logits (N, C) of the classes that the set covers; those of the others are -inf."""
        cosines, scale = self.cosines(method, data, alpha)
        return masked_logits(scale * cosines, self.in_the_running(data))

    def in_the_running(self, data: ImageSet) -> Sequence[int] | None:
        """Return the classes that a set is scored over; None for all."""
        return data.covered if self.run.settings.scored_over == "covered" else None

    @property
    def held_out(self) -> ImageSet:
        """What alpha is chosen on: validation, or in the released recipe the test set."""
        return self.data.test if self.run.settings.select_on == "test" else self.data.validation

    @cached_property
    def validation_curve(self) -> np.ndarray:
        """Accuracy of the residual at every alpha of `ALPHAS` on what was held out."""
        found = (self.logits("residual", self.held_out, alpha) for alpha in ALPHAS)
        return np.array([accuracy(logits, self.held_out.labels_N, resamples=0).value for logits in found])

    @cached_property
    def alpha(self) -> float:
        """The residual weight: the setting, the run's, or what validation chooses by the one-standard-error rule."""
        given = self.given_alpha
        return one_standard_error(ALPHAS, self.validation_curve, len(self.held_out)) if given is None else given

    @property
    def given_alpha(self) -> float | None:
        """The residual weight that a setting fixes, if any does."""
        return self.run.settings.alpha if self.settings.alpha is None else self.settings.alpha

    def scores(self, method: str, data: ImageSet, score: str | None = None, alpha: float | None = None) -> np.ndarray:
        """Return the ID scores (N,) of a set; larger is more in-distribution. ``residual`` at an alpha."""
        return self.scores_of(method, self.features(method, data, alpha), score or self.settings.score, alpha)

    def scores_of(self, method: str, features_ND: np.ndarray, score: str, alpha: float | None = None) -> np.ndarray:
        """Return the ID scores (N,) of pictures that are in no set, from a method's features (N, D) of them.

        Raises
        ------
        InputError
            If the detector looks at features and cannot be fitted to the training pictures.
        """
        if score in FEATURE_SCORES:
            return self._feature_score(method, score, alpha)(features_ND)
        found = self.head(method, alpha)
        return self.logit_scores(found.cosines(features_ND), found.scale, score)

    def logit_scores(self, cosines: np.ndarray, scale: float, score: str) -> np.ndarray:
        """Return the ID scores (N,) of similarities (N, C), in the precision that the run's settings ask for."""
        if self.run.settings.score_precision == "fp16":  # as the authors' code: many scores become one
            return SCORES[score](cosines.astype(np.float16), scale).astype(np.float16).astype(np.float64)
        return SCORES[score](cosines, scale)

    def alarms(self) -> list[LabelAlarm]:
        """Return an alarm for each labelled set that is answered much better under other names.

        Zero-shot never saw the labels, and what was trained learnt the ID set's: one of both sees a wrong order.
        """
        found: dict[str, LabelAlarm] = {}
        for method in dict.fromkeys((self.run.settings.method, "zero_shot")):
            for name, (role, data) in self.sets.items():
                if role == "ood" or name in found:
                    continue
                answers = self.logits(method, data).argmax(axis=1)
                if alarm := permuted_labels(answers, data.labels_N, self.data.classes, name):
                    found[name] = alarm
        return list(found.values())

    @cached_property
    def bank(self) -> ImageSet:
        """The training pictures behind the detectors on features."""
        return limited(self.data.train, self.settings.bank)

    def _feature_score(self, method: str, score: str, alpha: float | None) -> Callable[[np.ndarray], np.ndarray]:
        """Return a detector fitted to a method's features; the last alpha's is kept, as each holds a whole bank."""
        key, alpha = (method, score), (self.alpha if alpha is None else alpha) if method == "residual" else None
        if key not in self._fitted or self._fitted[key][0] != alpha:
            bank_MD = self.features(method, self.bank, alpha)
            self._fitted[key] = alpha, FEATURE_SCORES[score](bank_MD, self.bank.labels_N)
        return self._fitted[key][1]

    def describe(self) -> str:
        """Return one line on what the figures rest on: run, pictures, seed, device and version."""
        shift, ood = (sum(len(data) for role, data in self.sets.values() if role == r) for r in ("shift", "ood"))
        return (
            f"{self.run.name}: {len(self.data.test)} ID, {shift} shift and {ood} OOD pictures, seed "
            f"{self.run.settings.seed}, on {self.device_name}, torch {torch.__version__}"
            + ("; chosen on the test set" if self.run.settings.select_on == "test" else "")
            + (f"; without {', '.join(self.data.absent)}, which are not there" if self.data.absent else "")
            + (f"; {bad} pictures could not be read" if (bad := self.unread) else "")
        )

    @property
    def unread(self) -> int:
        """How many pictures of the scored sets were skipped, because they could not be read."""
        return sum(len(data.bad) for _, data in self.sets.values())

    @property
    def device_name(self) -> str:
        """The GPU's name, or cpu."""
        device = self.method.backbone.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
