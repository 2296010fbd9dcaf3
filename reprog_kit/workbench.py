"""The workbench: every method of a benchmark on the same pictures, and where its sliders and menus stand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from traitlets import Bunch, Enum, Float, HasTraits, Int, List, TraitError, Unicode, validate

from .backbone import Backbone
from .datasets import BenchmarkData
from .evaluation import Evaluation
from .explore_settings import ExploreSettings
from .image_program import default_padding
from .image_sets import ImageSet
from .ledger import DETECTORS, NAMES
from .results import variant
from .run_folders import Run, find_run, newest_of_each, runs_of
from .settings import EvaluateSettings, TrainSettings
from .sweep import weights_of
from .tracks import Line, Track

_PLACES = ("device", "data_root", "missing_sets", "runs")
_TRAINED_WITH = ("dataset", "model", "pretrained", "limit", "bad_pictures", *_PLACES)
_EVALUATED_WITH = ("score", "bank", "batch_size", *_PLACES)


class Workbench(HasTraits):
    """The lines of a benchmark, all on one backbone and the same pictures, and where the sliders and menus stand.

    The panels of `explore.ipynb` observe its traits, and set them; a trait that is set in code moves them too.

    Parameters
    ----------
    settings : ExploreSettings

    Attributes
    ----------
    alpha : float
        The residuals' share of the zero-shot features, 0 to 1.
    score : str
        The detector.
    chosen : str
        The line whose scores and pictures are shown.
    padding : int
        Px of border of the next training, 0 to half the canvas.
    names : list of str
        The lines in the order of all tables; read-only. It grows when a run joins, and its observers are told also
        where a run joins again.
    zero_shot : Evaluation
    data : BenchmarkData
    backbone : Backbone
    lines : dict of Line
        By name.

    Raises
    ------
    InputError
        If data or model cannot be had, or a run that the settings name is on another model.
    """

    alpha = Float()
    score = Enum(list(DETECTORS))
    chosen = Unicode()
    padding = Int()
    names = List(Unicode(), read_only=True)

    def __init__(self, settings: ExploreSettings):
        super().__init__()
        self.settings, self.score = settings, settings.score
        named = [find_run(name, settings.runs) for name in settings.runs_shown or ()]
        found = named or newest_of_each(self.known_runs())
        on = found[0].settings if found and settings.model is None else self.training(method="zero_shot")
        self._on = {"model": on.model, "pretrained": on.pretrained}
        self.zero_shot = Evaluation.untrained(self._evaluation_settings(), self.training(method="zero_shot"))
        self.data: BenchmarkData = self.zero_shot.data
        self.backbone: Backbone = self.zero_shot.method.backbone
        self.lines: dict[str, Line] = {}
        self._tracks: dict[tuple[str, str], Track] = {}
        self._id_scores: dict[tuple[str, str], tuple[float | None, np.ndarray]] = {}
        self.join(self.zero_shot)
        evaluations = [self.evaluate(run) for run in found]
        for evaluation in evaluations:
            self.join(evaluation)
        self.padding = self._first_padding()
        self.settle()

    def describe(self) -> str:
        """Return what is compared, on what, as text; and without a run the way to the first."""
        about = self.zero_shot.describe().partition(": ")[2].replace(f" seed {self.zero_shot.run.settings.seed},", "")
        lines = [f"{self.data.benchmark.title or self.data.benchmark.name}, model {self._on['model']}: {about}"]
        evaluations = {id(line.evaluation): line.evaluation for line in self.lines.values()}
        lines += [f"  {found.run.name}" for found in evaluations.values() if found is not self.zero_shot]
        return "\n".join(
            lines if len(lines) > 1 else [*lines, "  no run yet: zero-shot stands alone until one is trained"]
        )

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

    def join(self, evaluation: Evaluation, tracks: Mapping[tuple[str, str], Track] | None = None) -> list[str]:
        """Take what an evaluation has into the comparison, a run again in its old place; return the names.

        Parameters
        ----------
        tracks : mapping, optional
            Of `tracks_of`, by method and detector.
        """
        methods = self._joining(evaluation)
        names = [self._name(evaluation, method) for method in methods]
        for name, method in zip(names, methods):
            self.lines[name] = Line(name, method, evaluation)
            for kept in (self._tracks, self._id_scores):
                for key in [key for key in kept if key[0] == name]:
                    del kept[key]
            self._tracks |= {(name, score): track for (m, score), track in (tracks or {}).items() if m == method}
        order = {"prompt_ensemble": 0.5, **{method: place for place, method in enumerate(NAMES)}}
        before, after = self.names, sorted(self.lines, key=lambda name: order[self.lines[name].method])
        self.set_trait("names", after)
        if before == after:  # a run in its old place has other figures now
            self.notify_change(Bunch(name="names", old=before, new=after, owner=self, type="change"))
        return names

    def _joining(self, evaluation: Evaluation) -> list[str]:
        """Return the methods that an evaluation brings; what needs no training is there from the start."""
        untrained = ("zero_shot", "prompt_ensemble")
        return [m for m in evaluation.methods if evaluation is self.zero_shot or m not in untrained]

    def tracks_of(self, evaluation: Evaluation) -> dict[tuple[str, str], Track]:
        """Return the figures of an evaluation that is to join, by method and detector: all that takes long of it.

        No trait is set, so another thread may do it ahead of `join`.
        """
        score = self.score
        return {(m, score): self._computed(Line(m, m, evaluation), score) for m in self._joining(evaluation)}

    def _name(self, evaluation: Evaluation, method: str) -> str:
        """Return what a line is called: the method, in what it differs, and the seed where another has the same."""
        if evaluation is self.zero_shot:
            return {"prompt_ensemble": "prompt ensemble", **NAMES}[method]
        differs = variant(evaluation.run, self.backbone, evaluation.run.settings.method)
        name = f"{NAMES[method]} ({differs})" if differs else NAMES[method]
        there = self.lines.get(name)
        if there and there.evaluation.run.name != evaluation.run.name:
            name = f"{name}, seed {evaluation.run.settings.seed}"
        return name

    def settle(self) -> None:
        """Look where a newcomer looks first: at the last residual, with the alpha that validation chooses for it.

        A setting of alpha goes before that; without a reprogrammer it is the last line that joined, and 0.
        """
        moving = [name for name, line in self.lines.items() if line.moves]
        self.chosen = (
            (moving or list(self.lines))[-1] if len(self.lines) > len(self.zero_shot.methods) else self.names[0]
        )
        usual = float(self.lines[moving[-1]].evaluation.alpha) if moving else 0.0
        self.alpha = usual if self.settings.alpha is None else self.settings.alpha

    def _first_padding(self) -> int:
        given = self.settings.padding
        usual = self.training().padding
        return next(width for width in (given, usual, default_padding(self.backbone.side)) if width is not None)

    @validate("alpha")
    def _share(self, proposal) -> float:
        if not 0 <= proposal["value"] <= 1:
            raise TraitError(
                f"alpha = {proposal['value']} is refused: it is the share of the zero-shot features, 0 to 1."
            )
        return proposal["value"]

    @validate("padding")
    def _fits(self, proposal) -> int:
        most = self.backbone.side // 2
        if not 0 <= proposal["value"] <= most:
            raise TraitError(f"padding = {proposal['value']} px is refused: 0 to {most} px fit the canvas.")
        return proposal["value"]

    @validate("chosen")
    def _is_a_line(self, proposal) -> str:
        if proposal["value"] not in self.lines:
            raise TraitError(f"there is no line {proposal['value']!r}; there are: {', '.join(self.names)}.")
        return proposal["value"]

    def track(self, name: str, score: str) -> Track:
        """Return a line's figures at every alpha with a detector, computed once."""
        if (name, score) not in self._tracks:
            self._tracks[name, score] = self._computed(self.lines[name], score)
        return self._tracks[name, score]

    def _computed(self, line: Line, score: str) -> Track:
        return Track.of(line.sweep(weights_of("residual", self.settings.steps), score), score)

    def id_scores(self, name: str, score: str, alpha: float) -> np.ndarray:
        """Return the ID scores of the test pictures under a line, ascending; those at the last alpha are kept.

        Raises
        ------
        InputError
            If the detector looks at features and cannot be fitted to the training pictures.
        """
        line, kept = self.lines[name], self._id_scores.get((name, score))
        alpha = alpha if line.moves else None
        if kept is None or kept[0] != alpha:
            found_N = line.evaluation.scores(line.method, self.data.test, score, alpha)
            kept = self._id_scores[name, score] = alpha, np.sort(found_N)
        return kept[1]

    def pictures(self, name: str) -> ImageSet:
        """Return a set that is scored, by name."""
        return self.zero_shot.sets[name][1]
