"""From runs to maps: the pictures that are mapped, the features of every kind, what each method answers to them.

Shapes: N pictures of the set, M pictures with those of the OOD sets behind them, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from .evaluation import Evaluation
from .explore_settings import UmapSettings
from .feature_map import feature_map, highest_purity, knn_purity, like_neighbours, silhouette
from .image_sets import ImageSet
from .ledger import NAMES
from .map_sources import chosen_sets, shown_runs
from .parameters import InputError
from .settings import EvaluateSettings


@dataclass(frozen=True, eq=False)
class Answers:
    """What one method says to the pictures: class numbers (M,) and ID scores (M,), larger is more in-distribution."""

    answers_M: np.ndarray
    scores_M: np.ndarray


@dataclass(frozen=True, eq=False)
class Panel:
    """One kind of features, its map and its numbers.

    Attributes
    ----------
    name : str
        What the features are called.
    methods : tuple of str
        Those that look at the pictures through these features; the last one's wrong answers are marked.
    features_MD, map_M2 : ndarray
    silhouette, purity : float
        Of the classes in feature space, by the settings' metric; OOD pictures are left out.
    map_silhouette, map_purity : float
        The same in the map, where distances are Euclidean.
    apart : float
        The share of an OOD picture's nearest pictures that are OOD too, in feature space; NaN without OOD pictures.
    """

    name: str
    methods: tuple[str, ...]
    features_MD: np.ndarray
    map_M2: np.ndarray
    silhouette: float
    purity: float
    map_silhouette: float
    map_purity: float
    apart: float


class FeatureMaps:
    """The same pictures in the features of zero-shot, of each run, and of a reprogrammer's residual.

    A linear probe and CoOp leave the image encoder as it is, so theirs are zero-shot's features: one map for all.

    Parameters
    ----------
    settings : UmapSettings

    Attributes
    ----------
    evaluations : list of Evaluation
        One a run.
    set, pictures : str, ImageSet
        What is mapped.
    outside : dict of str to ImageSet
        The OOD sets that are laid over.

    Raises
    ------
    InputError
        If there is no such run or set, if runs do not fit together, or if pictures are too few for a map.
    """

    def __init__(self, settings: UmapSettings):
        self.settings = settings
        shared = ("alpha", "score", "device", "data_root", "missing_sets", "runs")
        given = {name: getattr(settings, name) for name in shared}
        self.evaluations = [Evaluation(EvaluateSettings.build(**given), run) for run in shown_runs(settings)]
        first = self.evaluations[0]
        for other in self.evaluations[1:]:
            if (other.data.classes, _eyes(other)) != (first.data.classes, _eyes(first)):
                raise InputError(
                    f"{other.run.name} and {first.run.name} differ in classes or in the backbone: their maps cannot "
                    "stand beside one zero-shot. Name runs of one benchmark and one model (-p runs_shown)."
                )
        self.set, self.pictures, self.outside = chosen_sets(settings, first)
        self.classes = first.data.classes

    def picture(self, number: int) -> np.ndarray:
        """Return one of the M pictures, uint8 (H, W, 3)."""
        for part in (self.pictures, *self.outside.values()):
            if number < len(part):
                return np.asarray(part.images_NHWC[number])
            number -= len(part)
        raise IndexError(number)

    @cached_property
    def labels_M(self) -> np.ndarray:
        """Their classes, -1 for OOD."""
        return np.concatenate([self.pictures.labels_N, *(data.labels_N for data in self.outside.values())])

    @cached_property
    def sets_M(self) -> np.ndarray:
        """The names of the sets that they are from."""
        return np.repeat([self.set, *self.outside], [len(self.pictures), *map(len, self.outside.values())])

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """What each method says, zero-shot first."""
        return {name: self._answers(evaluation, method) for name, (evaluation, method) in self._methods.items()}

    @cached_property
    def panels(self) -> tuple[Panel, ...]:
        """The maps, a kind of features each."""
        kinds: list[tuple[list[str], np.ndarray]] = []
        for name, (evaluation, method) in self._methods.items():
            found = self._each(lambda data, of=evaluation, method=method: of.features(method, data))
            same = next((names for names, other in kinds if np.allclose(found, other, atol=1e-6)), None)
            if same:
                same.append(name)
            else:
                kinds.append(([name], found))
        return tuple(self._panel(tuple(names), found) for names, found in kinds)

    def _panel(self, methods: tuple[str, ...], features_MD: np.ndarray) -> Panel:
        k, metric, labels_M = self.settings.neighbours, self.settings.metric, self.labels_M
        map_M2, known = feature_map(features_MD, self.settings), labels_M >= 0
        inside, flat, labels_N = features_MD[known], map_M2[known], labels_M[known]
        apart = like_neighbours(features_MD, known, k, metric)[~known].mean() if self.outside else float("nan")
        return Panel(
            methods[0], methods, features_MD, map_M2,
            silhouette(inside, labels_N, metric), knn_purity(inside, labels_N, k, metric),
            silhouette(flat, labels_N, "euclidean"), knn_purity(flat, labels_N, k, "euclidean"), float(apart),
        )  # fmt: skip

    @cached_property
    def _methods(self) -> dict[str, tuple[Evaluation, str]]:
        """Every method by the name under which it is shown."""
        found = {NAMES["zero_shot"]: (self.evaluations[0], "zero_shot")}
        own = [evaluation.run.settings.method for evaluation in self.evaluations]
        for evaluation, method in zip(self.evaluations, own):
            # Two runs of a method differ in the end of their names at least.
            which = "" if own.count(method) == 1 else f" {evaluation.run.name.split('-', 3)[-1]}"
            for each in (method, "residual") if "residual" in evaluation.methods else (method,):
                found.setdefault(NAMES[each] + which, (evaluation, each))
        return found

    def _answers(self, evaluation: Evaluation, method: str) -> Answers:
        answers_M = self._each(lambda data: evaluation.logits(method, data).argmax(axis=1))
        return Answers(answers_M, self._each(lambda data: evaluation.scores(method, data)))

    def _each(self, of: Callable[[ImageSet], np.ndarray]) -> np.ndarray:
        return np.concatenate([of(data) for data in (self.pictures, *self.outside.values())])

    def table(self) -> pd.DataFrame:
        """Return the numbers of every kind of features, in feature space and in the map, and its methods' accuracy."""
        k, known, rows = self.settings.neighbours, self.labels_M >= 0, {}
        for panel in self.panels:
            right = [100 * (self.answers[m].answers_M == self.labels_M)[known].mean() for m in panel.methods]
            rows[" = ".join(panel.methods)] = [
                written(panel.silhouette, 1), written(panel.purity), written(panel.map_silhouette, 1),
                written(panel.map_purity), " / ".join(f"{share:.1f}" for share in right), written(panel.apart),
            ]  # fmt: skip
        heads = [(where, name) for where in ("features", "map") for name in ("silhouette", f"{k}-NN purity, %")]
        heads += [("answers", "accuracy, %"), ("OOD", f"OOD among its {k} nearest, %")]
        table = pd.DataFrame.from_dict(rows, "index", columns=pd.MultiIndex.from_tuples(heads))
        return table if self.outside else table.iloc[:, :-1]

    def describe(self) -> str:
        """Return what the maps rest on: pictures, runs, alpha, seed, device, and what the numbers cannot reach."""
        first, labels_N = self.evaluations[0], self.pictures.labels_N
        covered, highest = len(np.unique(labels_N)), highest_purity(labels_N, self.settings.neighbours)
        outside = ", ".join(f"{len(data)} of {name}" for name, data in self.outside.items())
        alphas = {f"{e.alpha:.2f}": None for e in self.evaluations if "residual" in e.methods}
        lines = [
            f"{len(labels_N)} pictures of {self.set}, {covered} of {len(self.classes)} classes"
            + (f", and OOD {outside}" if outside else ""),
            f"runs: {', '.join(e.run.name for e in self.evaluations)}"
            + (f"; alpha {', '.join(alphas)}" if alphas else ""),
            f"map: seed {self.settings.seed}, {self.settings.neighbours} neighbours, on {first.device_name}",
        ]
        if covered == 1:
            lines.append("One class alone: it has no silhouette, and its purity is 100% whatever the features.")
        elif highest < 1:
            lines.append(f"Classes this small allow a purity of {100 * highest:.1f}% at best.")
        return "\n".join(lines)


def _eyes(evaluation: Evaluation) -> str:
    return evaluation.zero_shot.backbone.fingerprint


def written(value: float, factor: int = 100) -> str:
    """Return a share in percent, or with factor 1 a silhouette, as people read it; a dash for NaN."""
    return "–" if np.isnan(value) else f"{factor * value:.{1 if factor == 100 else 2}f}"
