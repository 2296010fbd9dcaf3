"""What a compared line comes to at every alpha, as arrays from which a slider only picks.

Shapes: N pictures, C classes, D embedding, W weights, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .detection import FEATURE_SCORES
from .evaluation import Evaluation
from .metrics import binned
from .sweep import Sweep, residual_sweep

BINS = 40
MEANS = ("ID accuracy", "shift accuracy", "AUROC")
_ROLES = dict(zip(("id", "shift", "ood"), MEANS))


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

    def sweep(self, weights: Sequence[float], score: str) -> Sweep:
        """Return the figures at every weight, of a line that does not move as a sweep of one."""
        return residual_sweep(self.evaluation, weights, [score]) if self.moves else _still(self, score)


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
