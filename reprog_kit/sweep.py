"""A run along one weight: accuracy and detection at every alpha, or at every weight of WiSE-FT.

Shapes: N pictures, C classes, D embedding, W weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from .detection import FEATURE_SCORES, SCORES
from .evaluation import ALPHAS, Evaluation
from .explore_settings import SweepSettings
from .features import features, head
from .image_sets import ImageSet
from .metrics import detection_along, masked_logits
from .parameters import InputError
from .residual import MixedCosines, residual
from .results import evaluations_of
from .settings import EvaluateSettings, in_project
from .sweep_rows import USUAL

EVERY_SCORE = (*SCORES, *FEATURE_SCORES)


class Sweep:
    """What one run comes to at every weight.

    Attributes
    ----------
    kind : str
        ``residual``, whose weight is alpha, or ``wise_ft``, whose weight is the share of the fine-tuned weights.
    weights_W : ndarray
    accuracy : dict of ndarray (W,)
        By set; ``validation`` is what the run's settings choose on.
    scores : dict of ndarray (W, N)
        ID scores by (set, detector), of the test set and the OOD sets.
    """

    def __init__(
        self, evaluation: Evaluation, kind: str, weights: Sequence[float], scores: Sequence[str], renormalise: bool
    ):
        self.evaluation, self.kind, self.renormalise = evaluation, kind, renormalise
        self.seed, self.weights_W = evaluation.run.settings.seed, np.asarray(weights, dtype=np.float64)
        self.detectors = list(scores) if evaluation.data.ood else []
        self.sets = {"validation": ("validation", evaluation.held_out), **evaluation.sets}
        self.accuracy: dict[str, np.ndarray] = {}
        self.scores: dict[tuple[str, str], np.ndarray] = {}

    def is_scored(self, name: str) -> bool:
        """Say whether a set has a part in OOD detection."""
        return name == "test" or self.sets[name][0] == "ood"

    def add_cosines(self, at: int, name: str, cosines_NC: np.ndarray, scale: float) -> None:
        """Take what a set's similarities at a weight come to: accuracy, and the scores that look at logits."""
        (role, data), evaluation = self.sets[name], self.evaluation
        if role != "ood":
            logits_NC = masked_logits(scale * cosines_NC, evaluation.in_the_running(data))
            found_W = self.accuracy.setdefault(name, np.full(len(self.weights_W), np.nan))
            found_W[at] = (logits_NC.argmax(axis=1) == data.labels_N).mean()
        for score in [s for s in self.detectors if s in SCORES] if self.is_scored(name) else ():
            self._keep(at, name, score, evaluation.logit_scores(cosines_NC, scale, score))

    def add_features(self, at: int, bank_MD: np.ndarray, sets: dict[str, np.ndarray]) -> None:
        """Take the scores that look at features, given those of the bank and of the scored sets at a weight."""
        for score in [s for s in self.detectors if s in FEATURE_SCORES]:
            try:
                fitted = FEATURE_SCORES[score](bank_MD, self.evaluation.bank.labels_N)
            except InputError as error:  # too few training pictures, in a quick look
                print(f"{self.kind}: no {score} score ({error})")
                self.detectors.remove(score)
                continue
            for name, features_ND in sets.items():
                self._keep(at, name, score, fitted(features_ND))

    def _keep(self, at: int, name: str, score: str, scores_N: np.ndarray) -> None:
        shape = (len(self.weights_W), len(scores_N))
        self.scores.setdefault((name, score), np.full(shape, np.nan))[at] = scores_N

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Every figure at every weight: a row a (weight, set, score, metric)."""
        parts = []
        for name, (role, data) in self.sets.items():
            about = {"kind": self.kind, "seed": self.seed, "set": name, "role": role, "n": len(data)}
            if role != "ood":
                parts.append({**about, "score": None, "metric": "accuracy", "value": self.accuracy[name]})
                continue
            for score in self.detectors:
                found = detection_along(self.scores["test", score], self.scores[name, score])
                parts += [{**about, "score": score, "metric": m, "value": v} for m, v in found.items()]
        return pd.concat([pd.DataFrame({**part, "weight": self.weights_W}) for part in parts], ignore_index=True)


def residual_sweep(
    evaluation: Evaluation,
    weights: Sequence[float] = ALPHAS,
    scores: Sequence[str] = EVERY_SCORE,
    renormalise: bool | None = None,
) -> Sweep:
    """Return the residual at every alpha: arithmetic on features that are computed once, a set at a time.

    Parameters
    ----------
    evaluation : Evaluation
        Of a reprogrammer.
    weights : sequence of float
        The alphas.
    scores : sequence of str
        The detectors.
    renormalise : bool, optional
        Bring residual features back to unit length; by default as the run has it.

    Raises
    ------
    InputError
        If the run is no reprogrammer.
    """
    _refuse(evaluation, "residual")
    renormalise = evaluation.run.settings.renormalise if renormalise is None else renormalise
    found = Sweep(evaluation, "residual", weights, scores, renormalise)
    heads = [evaluation.heads[part] for part in ("reprogrammer", "zero_shot")]
    for name, (_, data) in found.sets.items():
        mixed = MixedCosines.of(_sides(evaluation, data), tuple(h.weights_CD for h in heads), renormalise)
        for at, alpha in enumerate(found.weights_W):
            found.add_cosines(at, name, mixed.at(alpha), heads[0].scale)
    for at, alpha in enumerate(found.weights_W):
        if not set(found.detectors) & set(FEATURE_SCORES):
            break
        sets = {name: data for name, (_, data) in found.sets.items() if found.is_scored(name)}
        mixed = {name: residual(*_sides(evaluation, data), alpha, renormalise) for name, data in sets.items()}
        found.add_features(at, residual(*_sides(evaluation, evaluation.bank), alpha, renormalise), mixed)
    return found


def wise_sweep(evaluation: Evaluation, weights: Sequence[float], scores: Sequence[str] = EVERY_SCORE) -> Sweep:
    """Return WiSE-FT at every weight: a pass over all sets each, kept in the feature cache (Wortsman et al. 2022).

    Raises
    ------
    InputError
        If the run was not fine-tuned.
    """
    _refuse(evaluation, "wise_ft")
    found = Sweep(evaluation, "wise_ft", weights, scores, True)
    cache, precision = in_project(evaluation.settings.runs) / "cache", evaluation.run.settings.precision
    for at, weight in enumerate(found.weights_W):
        model = evaluation.method.interpolated(float(weight))  # one at a time: each holds an image tower
        its = head(model, precision)

        def seen(data: ImageSet, weight=weight, model=model) -> np.ndarray:
            if weight == 0 and model.image_size == evaluation.zero_shot.image_size:
                return evaluation.features("zero_shot", data)
            return features(model, data, cache, evaluation.settings.batch_size, precision)

        scored = {}
        for name, (_, data) in found.sets.items():
            features_ND = seen(data)
            found.add_cosines(at, name, its.cosines(features_ND), its.scale)
            if found.is_scored(name):
                scored[name] = features_ND
        if set(found.detectors) & set(FEATURE_SCORES):
            found.add_features(at, seen(evaluation.bank), scored)
    return found


def sweep_runs(settings: SweepSettings) -> tuple[list[Sweep], pd.DataFrame]:
    """Sweep a run and those that differ from it in the seed alone: over alpha, or over WiSE-FT's weight.

    Returns
    -------
    list of Sweep
        One a seed.
    DataFrame
        The rows of all of them.
    """
    shared = {k: v for k, v in settings.model_dump().items() if k in EvaluateSettings.model_fields}
    found = []
    for evaluation in evaluations_of(EvaluateSettings(**shared)):
        if "wise_ft" in evaluation.methods:
            found.append(wise_sweep(evaluation, weights_of("wise_ft", settings.wise_weights)))
        else:
            found.append(residual_sweep(evaluation, weights_of("residual", settings.steps)))
    return found, rows_of(found)


def rows_of(sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """Return the rows of several seeds below one another."""
    return pd.concat([sweep.curves for sweep in sweeps], ignore_index=True)


def norm_rows(sweeps: Sequence[Sweep], score: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of residual sweeps with and without normalising again; of WiSE-FT, which has neither, none."""
    if sweeps[0].kind != "residual":
        return pd.DataFrame(), pd.DataFrame()
    others = [residual_sweep(s.evaluation, s.weights_W, [score], not s.renormalise) for s in sweeps]
    pair = rows_of(sweeps), rows_of(others)
    return pair if sweeps[0].renormalise else pair[::-1]


def weights_of(kind: str, steps: int) -> np.ndarray:
    """Return so many weights from 0 to 1, and the usual one, if it is not among them."""
    return np.union1d(np.round(np.linspace(0, 1, steps), 6), [USUAL[kind]])


def _sides(evaluation: Evaluation, data: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    return evaluation.features("reprogrammer", data), evaluation.features("zero_shot", data)


def _refuse(evaluation: Evaluation, kind: str) -> None:
    """Refuse a run that has no such weight."""
    if kind in evaluation.methods:
        return
    needed, run = {"residual": "reprogrammer", "wise_ft": "fine_tune"}, evaluation.run
    raise InputError(
        f"{run.name} was trained by {run.settings.method}, which has no weight to sweep: a reprogrammer has alpha, "
        f"fine_tune has WiSE-FT's. Name a {needed[kind]} run with -p run NAME, or train one (papermill "
        f"notebooks/train.ipynb out.ipynb -p method {needed[kind]})."
    )
