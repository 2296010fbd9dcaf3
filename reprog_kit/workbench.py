"""The workbench: every method of a benchmark on the same pictures, as arrays from which a slider only picks.

Shapes: N pictures, C classes, D embedding, W weights, S sets, O OOD sets, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .backbone import Backbone
from .datasets import BenchmarkData
from .detection import FEATURE_SCORES
from .evaluation import Evaluation
from .explore_settings import ExploreSettings
from .image_sets import ImageSet
from .ledger import NAMES
from .metrics import binned
from .results import variant
from .run_folders import Run, find_run, newest_of_each, runs_of
from .settings import EvaluateSettings, TrainSettings
from .sweep import Sweep, residual_sweep, weights_of

BINS = 40
MEANS = ("ID accuracy", "shift accuracy", "AUROC")
_ROLES = dict(zip(("id", "shift", "ood"), MEANS))
_TRAINED_WITH = (
    "dataset",
    "model",
    "pretrained",
    "limit",
    "device",
    "data_root",
    "bad_pictures",
    "missing_sets",
    "runs",
)
_EVALUATED_WITH = ("score", "bank", "batch_size", "device", "data_root", "missing_sets", "runs")


@dataclass(frozen=True, eq=False)
class Line:
    """One thing that is compared: a method, of a run."""

    name: str
    method: str
    evaluation: Evaluation

    @property
    def moves(self) -> bool:
        """Whether alpha changes it."""
        return self.method == "residual"

    def cosines(self, features_ND: np.ndarray, alpha: float) -> tuple[np.ndarray, float]:
        """Return similarities (N, C) of features of this line, and the logit scale; only a residual looks at alpha."""
        head = self.evaluation.head(self.method, alpha if self.moves else None)
        return head.cosines(features_ND), head.scale


@dataclass(frozen=True, eq=False)
class Track:
    """What a line comes to at every alpha; what does not move has one.

    Attributes
    ----------
    weights_W : ndarray
    percent : DataFrame
        Accuracy of ID and shift sets and AUROC of OOD sets, by (role, set) and weight.
    means : DataFrame
        ID accuracy, mean shift accuracy and mean AUROC, in percent, by axis and weight.
    middles_B : ndarray
        Of the bins of ID scores.
    histograms : dict of ndarray, (W, B)
        Percent of a set's pictures whose score is in a bin: of the test set and of every OOD set.
    """

    weights_W: np.ndarray
    percent: pd.DataFrame
    means: pd.DataFrame
    middles_B: np.ndarray
    histograms: dict[str, np.ndarray]

    @classmethod
    def of(cls, sweep: Sweep, score: str) -> Track:
        """Return what a sweep has at a score."""
        rows = sweep.curves
        shown = rows["role"].isin(("id", "shift")) | ((rows["metric"] == "auroc") & (rows["score"] == score))
        percent = 100 * rows[shown].pivot(index=["role", "set"], columns="weight", values="value")
        order = [(role, name) for name, (role, _) in sweep.sets.items() if (role, name) in percent.index]
        percent = percent.loc[order]
        means = percent.groupby(level="role", sort=False).mean().rename(index=_ROLES).reindex(MEANS).dropna(how="all")
        scored = {name: sweep.scores[name, score] for name in sweep.sets if (name, score) in sweep.scores}
        middles_B, parts = binned(list(scored.values()), BINS)
        return cls(sweep.weights_W, percent, means, middles_B, dict(zip(scored, parts)))

    def at(self, alpha: float) -> int:
        """Return the index of the nearest weight."""
        return int(np.abs(self.weights_W - alpha).argmin())


class Workbench:
    """The lines of a benchmark, all on one backbone and the same pictures.

    Parameters
    ----------
    settings : ExploreSettings

    Attributes
    ----------
    zero_shot : Evaluation
    data : BenchmarkData
    backbone : Backbone
    lines : dict of Line
        By name, in the order in which they are shown.

    Raises
    ------
    InputError
        If data or model cannot be had, or a run that the settings name is on another model.
    """

    def __init__(self, settings: ExploreSettings):
        self.settings = settings
        named = [find_run(name, settings.runs) for name in settings.runs_shown or ()]
        found = named or newest_of_each(self.known_runs())
        on = found[0].settings if found and settings.model is None else self.training(method="zero_shot")
        self._on = {"model": on.model, "pretrained": on.pretrained}
        self.zero_shot = Evaluation.untrained(self._evaluation_settings(), self.training(method="zero_shot"))
        self.data: BenchmarkData = self.zero_shot.data
        self.backbone: Backbone = self.zero_shot.method.backbone
        self.lines: dict[str, Line] = {}
        self._tracks: dict[tuple[str, str], Track] = {}
        for method in self.zero_shot.methods:
            name = "prompt ensemble" if method == "prompt_ensemble" else NAMES[method]
            self.lines[name] = Line(name, method, self.zero_shot)
        for run in found:
            self.join(self.evaluate(run))

    def known_runs(self) -> list[Run]:
        """Return the runs of this benchmark on this model, the newest first."""
        found = runs_of(self.settings.dataset, self.settings.runs)
        wanted = {"model": self.settings.model, "pretrained": self.settings.pretrained, **getattr(self, "_on", {})}
        wanted = wanted if wanted["model"] else {}
        return [run for run in found if all(getattr(run.settings, name) == value for name, value in wanted.items())]

    def training(self, **given) -> TrainSettings:
        """Return the settings of a training on this benchmark and model."""
        passed = {name: getattr(self.settings, name) for name in _TRAINED_WITH}
        return TrainSettings.build(**{**passed, **getattr(self, "_on", {}), **given})

    def _evaluation_settings(self) -> EvaluateSettings:
        return EvaluateSettings(**{name: getattr(self.settings, name) for name in _EVALUATED_WITH})

    def evaluate(self, run: Run) -> Evaluation:
        """Return the evaluation of a run on the workbench's pictures, whatever the run's own limit."""
        return Evaluation(self._evaluation_settings(), run, self.zero_shot)

    def join(self, evaluation: Evaluation) -> list[str]:
        """Take what an evaluation has into the comparison, a run again in its old place; return the names."""
        methods = [m for m in evaluation.methods if m not in ("zero_shot", "prompt_ensemble")]
        names = [self._name(evaluation, method) for method in methods]
        for name, method in zip(names, methods):
            self.lines[name] = Line(name, method, evaluation)
            self._tracks = {key: track for key, track in self._tracks.items() if key[0] != name}
        return names

    def _name(self, evaluation: Evaluation, method: str) -> str:
        """Return what a line is called: the method, in what it differs, and the seed where another has the same."""
        differs = variant(evaluation.run, self.backbone, evaluation.run.settings.method)
        name = f"{NAMES[method]} ({differs})" if differs else NAMES[method]
        there = self.lines.get(name)
        if there and there.evaluation.run.name != evaluation.run.name:
            name = f"{name}, seed {evaluation.run.settings.seed}"
        return name

    @property
    def names(self) -> list[str]:
        """The lines' names, by method, in the order of all tables."""
        order = {"prompt_ensemble": 0.5, **{method: place for place, method in enumerate(NAMES)}}
        return sorted(self.lines, key=lambda name: order[self.lines[name].method])

    @property
    def alpha(self) -> float:
        """Where alpha starts: the setting, what validation chooses for the last reprogrammer, or 0 without one."""
        moving = [line for line in self.lines.values() if line.moves]
        if self.settings.alpha is not None:
            return self.settings.alpha
        return moving[-1].evaluation.alpha if moving else 0.0

    def track(self, name: str, score: str) -> Track:
        """Return a line's figures at every alpha with a detector, computed once."""
        if (name, score) not in self._tracks:
            line = self.lines[name]
            if line.moves:
                sweep = residual_sweep(line.evaluation, weights_of("residual", self.settings.steps), [score])
            else:
                sweep = _still(line, score)
            self._tracks[name, score] = Track.of(sweep, score)
        return self._tracks[name, score]

    def set(self, name: str) -> ImageSet:
        """Return a set that is scored, by name."""
        return self.zero_shot.sets[name][1]


def _still(line: Line, score: str) -> Sweep:
    """Return the figures of a line that no weight moves, as a sweep of one."""
    evaluation = line.evaluation
    found = Sweep(evaluation, line.method, [0.0], [score], True)
    for name, (_, data) in found.sets.items():
        found.add_cosines(0, name, *evaluation.cosines(line.method, data))
    if score in FEATURE_SCORES and found.detectors:
        sets = {name: data for name, (_, data) in found.sets.items() if found.is_scored(name)}
        features = {name: evaluation.features(line.method, data) for name, data in sets.items()}
        found.add_features(0, evaluation.features(line.method, evaluation.bank), features)
    return found
