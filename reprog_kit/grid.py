"""The plan of a grid of runs, as data: what is done, what was started, what is missing, and what that will cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backbone import Backbone
from .budget import spoken
from .datasets import BenchmarkData
from .grid_cost import paces, speed, training_pictures
from .grid_settings import GridSettings
from .ledger import NAMES
from .methods import scored_methods
from .parameters import InputError
from .run_folders import Run
from .runs import opened, prepare
from .settings import TrainSettings
from .train import steps_per_epoch

STATES = ("done", "started", "missing")
_OPENS = ("dataset", "model", "pretrained", "limit", "data_root", "stream", "bad_pictures", "missing_sets", "runs")


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes
    ----------
    run : Run
        Its folder, and its settings with nothing left open.
    given : dict
        The parameters of `train.ipynb` that lead to it.
    sets : frozenset of str
        What its ledger has to hold: every set that is scored.
    ensemble : bool
        Whether it has to hold the prompt ensemble too.
    left : float or None
        Seconds that its training will take still, by the pace of earlier runs; None: there is none to go by.
    """

    run: Run
    given: dict[str, Any]
    sets: frozenset[str]
    ensemble: bool
    left: float | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return min(len(self.run.history), self.run.settings.epochs)

    @property
    def state(self) -> str:
        """One of `STATES`, as it is on the disk now."""
        if self.run.finished and evaluated(self.run, self.sets, self.ensemble):
            return "done"
        return "started" if self.epochs else "missing"

    def __str__(self) -> str:
        made = self.run.settings
        width = f", padding {made.padding}" if made.method == "reprogrammer" else ""
        return f"{NAMES[made.method]}, seed {made.seed}{width}"


@dataclass(frozen=True)
class Grid:
    """All runs of a benchmark that were asked for.

    Attributes
    ----------
    dataset : str
        A benchmark's name, or the path of its YAML.
    settings : GridSettings
    cells : tuple of Cell
    anew : bool
        Whether runs that are done are trained again.
    """

    dataset: str
    settings: GridSettings
    cells: tuple[Cell, ...]
    anew: bool = False

    @property
    def runs(self) -> Path:
        """The folder of the run folders."""
        return self.cells[0].run.folder.parent

    def todo(self) -> list[Cell]:
        """Return the cells that are not done."""
        return [cell for cell in self.cells if self.anew or cell.state != "done"]

    def describe(self) -> str:
        """Return the plan as text: a run a line with state and cost, then the sum."""
        states = Counter(cell.state for cell in self.cells)
        counts = ", ".join(f"{states[state]} {state}" for state in STATES)
        lines = [f"{Path(self.dataset).stem}: {_runs(len(self.cells))}, of which {counts}; in {self.runs}", ""]
        form = "{:<8}  {:<13} {:>6}  {:>7}  {:>8}  {}"
        lines.append(form.format("state", "method", "seed", "padding", "epochs", "training"))
        for cell in self.cells:
            made, again = cell.run.settings, self.anew and cell.state != "missing"
            width = f"{made.padding} px" if made.method == "reprogrammer" else ""
            epochs = f"{0 if self.anew else cell.epochs}/{made.epochs}"
            cost = ("unknown" if cell.left is None else spoken(cell.left)) if cell in self.todo() else ""
            state = "again" if again else cell.state
            lines.append(form.format(state, NAMES[made.method], made.seed, width, epochs, cost).rstrip())
        return "\n".join([*lines, "", self._sum()])

    def _sum(self) -> str:
        todo = self.todo()
        unknown = sum(cell.left is None for cell in todo)
        known = sum(cell.left for cell in todo if cell.left is not None)
        if not todo:
            return "Nothing is left to run but the report."
        if unknown == len(todo):
            one = next((cell for cell in todo if cell.run.settings.method != "zero_shot"), todo[0]).run.settings
            return (
                f"{_runs(len(todo))} to go; what they cost is unknown: no such run was evaluated here on this device.\n"
                f"One run tells what its kind takes: -p methods {one.method} -p seeds {one.seed}, without --dry-run."
            )
        rest = f", and {_runs(unknown)} of which that is unknown" if unknown else ""
        about = "by the pace of earlier runs here; starting the notebooks and the evaluation come on top"
        return f"{_runs(len(todo))} to go: about {spoken(known)} of training in all{rest} ({about})."


def plan_grid(dataset: str, whole: bool = False, **given: Any) -> Grid:
    """Return the grid that parameters ask for; nothing is written and nothing is trained.

    Parameters
    ----------
    dataset : str
        A benchmark's name in params/, or the path of a YAML.
    whole : bool
        All methods and seeds 1, 2, 3, where no list says otherwise.
    **given
        Fields of `GridSettings` and `TrainSettings`; what only some methods have goes to those.

    Raises
    ------
    InputError
        Says all that is wrong with any run.
    """
    settings, rest = GridSettings.sort(dataset, whole, given)
    wrong: dict[str, list[str]] = defaultdict(list)
    if useless := settings.useless(rest):
        names = ", ".join(settings.methods)
        raise InputError(f"none of the grid's methods ({names}) has a use for: {', '.join(useless)}.")
    cells, held, wanted = {}, {}, settings.each(dataset, rest)
    for each in wanted:
        try:
            cell = _cell(each, held)
            cells.setdefault(cell.name, cell)
        except InputError as error:
            width = f", padding {each['padding']}" if "padding" in each else ""
            wrong[str(error)].append(f"{NAMES[each['method']]}, seed {each['seed']}{width}")
    if wrong:
        lines = [
            f"  {'every run' if len(of) == len(wanted) else '; '.join(of)}:\n    {why}" for why, of in wrong.items()
        ]
        count = sum(map(len, wrong.values()))
        raise InputError("\n".join([f"{count} of {_runs(len(wanted))} are refused, and none is started:", *lines]))
    any_settings = next(iter(cells.values())).run.settings
    return Grid(dataset, settings, tuple(cells.values()), anew=not any_settings.resume)


def _cell(each: dict[str, Any], held: dict[tuple, tuple[Backbone, BenchmarkData, str, dict]]) -> Cell:
    """Return one run; `held` keeps what many runs share: backbone, data, and the pace of earlier runs."""
    settings = TrainSettings.build(**each)
    key = tuple(getattr(settings, name) for name in _OPENS)
    if key not in held:
        # On the CPU: the GPUs are the runs' own.
        held[key] = (*opened(settings.model_copy(update={"device": "cpu"})), paces(each["dataset"], settings))
    backbone, data, listed, known = held[key]
    run, method, _ = prepare(settings, (backbone, data, listed))
    pictures = training_pictures(data)
    if method.optimizers(settings):
        steps_per_epoch(pictures, run.settings)  # refuses a warm-up that is longer than the run
    found = {"dataset": run.settings.dataset, "data_root": run.settings.data_root, "runs": str(run.folder.parent)}
    sets = frozenset({"test", *data.benchmark.shift, *data.benchmark.ood} - set(data.absent))
    cell = Cell(run, {**each, **found}, sets, bool(data.benchmark.templates))
    done = cell.epochs if settings.resume else 0
    pace = known.get(speed(run.settings))
    left = None if pace is None else pace * pictures * (run.settings.epochs - done)
    return Cell(run, cell.given, sets, cell.ensemble, left)


def evaluated(run: Run, sets: Collection[str], ensemble: bool = False) -> bool:
    """Say whether a run's ledger has every method of its evaluation, on all of these sets and as the run has it.

    A residual at an alpha that was given to `evaluate.ipynb` is another line, as is WiSE-FT at another weight.
    """
    scored: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in run.results:
        # Corrupted pictures that are made here are called so.
        scored[row["method"], row["variant"]].add(row["set"].removesuffix("_made"))
    wanted = {name.removesuffix("_made") for name in sets}
    lines: dict[str, set[str]] = defaultdict(set)
    for (method, variant), there in scored.items():
        many = method == "zero_shot" and "prompt ensemble" in variant
        if there >= wanted:
            lines["prompt_ensemble" if many else method].add(variant)
    own = run.settings.method
    usual = lines[own]
    others = [name for name in scored_methods(own, ensemble) if name != own]
    same = (name for name in others if name not in ("zero_shot", "prompt_ensemble"))
    return bool(usual) and all(lines[name] for name in others) and all(usual & lines[name] for name in same)


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
