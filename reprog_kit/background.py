"""One training of a kernel in the background: measured, trained and evaluated in a thread, stopped within a step."""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .budget import fitted, pace, spoken, told, warmed
from .evaluation import Evaluation
from .features import between_batches
from .ledger import NAMES
from .methods import FOLLOWS
from .parameters import InputError
from .run_folders import Run
from .runs import train_run
from .settings import TrainSettings
from .tracks import Track
from .workbench import Workbench

_TELL_EVERY_S = 0.2
_LEAVE_WITHIN_S = 2.0  # Jupyter's patience with a kernel that shuts down is 2.5 s


@dataclass(frozen=True)
class State:
    """Where a job stands.

    Attributes
    ----------
    phase : str
        measuring, training, evaluating, done, stopped or failed.
    step, total : int
        Steps done, and all of them; while evaluating batches, about.
    text : str
        What is going on, for people; in the end what came of it.
    run, evaluation : Run, Evaluation, optional
        What was trained, and its evaluation, whose features are computed.
    tracks : dict
        Its figures, for `Workbench.join`.
    """

    phase: str = "measuring"
    step: int = 0
    total: int = 0
    text: str = ""
    run: Run | None = None
    evaluation: Evaluation | None = None
    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in ("done", "stopped", "failed")


class Job:
    """A training in a thread of its own; `start` makes the one there is.

    Parameters
    ----------
    bench : Workbench
        Its backbone is trained on, and its pictures are evaluated on.
    asked : TrainSettings
    seconds : float
        What the training may take; infinity is all that `asked` asks for.

    Attributes
    ----------
    state : State
        Replaced as a whole by the thread, so that any other may read it.
    """

    def __init__(self, bench: Workbench, asked: TrainSettings, seconds: float):
        self.bench, self.asked, self.seconds = bench, asked, seconds
        self.what = NAMES[asked.method][0].upper() + NAMES[asked.method][1:]
        if asked.padding is not None and asked.method == "reprogrammer":
            self.what += f", {asked.padding} px of border"
        self.state = State(text=f"{self.what}: starting.")
        self._plan, self._epochs, self._figures = "all the epochs of the benchmark", asked.epochs, ""
        self._first, self._began, self._told = 0, 0.0, 0.0
        self._listeners: list[Callable[[Job], object]] = []
        self._stop, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="reprog_kit training", daemon=True)
        self._thread.start()

    def listen(self, listener: Callable[[Job], object]) -> None:
        """Call a function with the job whenever its state changed, in the job's thread."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """End what is under way within a step or a batch: the training, whose run is then evaluated; or that."""
        self._stop.set()

    def leave(self, timeout: float = _LEAVE_WITHIN_S) -> None:
        """End all of it, and wait at most so many seconds, so that a file that is being written becomes whole."""
        self._leave.set()
        self._thread.join(timeout)

    def wait(self, timeout: float | None = None) -> State:
        """Return the state once the job is over, or after so many seconds."""
        self._thread.join(timeout)
        return self.state

    def _work(self) -> None:
        between_batches.set(self._heed)
        try:
            settings = self._within_budget()
            said: list[str] = []
            run = train_run(settings, self._progress, said.append, self.bench.backbone)
            came = f"{self.what}: {outcome(run, self._plan, bool(said))}"
            self._stop.clear()
            total = self._batches(run)
            self._tell("evaluating", text=f"{came} Evaluating it on every set.", run=run, step=0, total=total)
            evaluation = self.bench.evaluate(run)
            tracks = self.bench.tracks_of(evaluation)
            self._tell("done" if run.finished else "stopped", text=came, evaluation=evaluation, tracks=tracks)
        except KeyboardInterrupt:
            kept = "the run is kept, but not evaluated; Train takes it up again."
            none = "before an epoch was done; nothing is kept."
            self._tell("stopped", text=f"{self.what}: stopped; {kept if self.state.run else none}")
        except InputError as error:
            self._tell("failed", text=str(error))
        except Exception as error:  # whatever it is belongs where people look
            self._tell("failed", text=f"{type(error).__name__}: {error}")

    def _within_budget(self) -> TrainSettings:
        if math.isinf(self.seconds):
            return warmed(self.asked, len(self.bench.data.train))
        self._tell("measuring", text=f"{self.what}: measuring how fast it is on this machine.")
        speed = pace(self.bench.backbone, self.bench.data, self.asked)
        found = fitted(self.asked, speed, self.seconds)
        self._plan, self._epochs = told(self.asked, found, speed), found.epochs
        self._tell("training", text=f"{self.what}: {self._plan}.")
        return found

    @contextlib.contextmanager
    def _progress(self, total: int, done: int) -> Iterator[Job]:
        """Be the training's progress bar."""
        self._first, self._began = done, time.perf_counter()
        self._tell("training", step=done, total=total)
        yield self

    def update(self) -> None:
        """Count a step, as tqdm does; KeyboardInterrupt where the job is to stop."""
        step, total = self.state.step + 1, self.state.total
        left = (time.perf_counter() - self._began) / (step - self._first) * (total - step)
        at = min(self._epochs, step * self._epochs // total + 1)
        text = f"{self.what}: {self._plan}. Epoch {at} of {self._epochs}{self._figures}, {spoken(left)} left."
        self._tell("training", often=True, step=step, text=text)
        self._heed()

    def set_postfix_str(self, text: str) -> None:
        """Take what is said of the last epoch, as tqdm does."""
        self._figures = f"; {text}"

    def _batches(self, run: Run) -> int:
        """Return how many batches an evaluation encodes, unless features are there already."""
        held = [data for _, data in self.bench.zero_shot.sets.values()] + [self.bench.data.validation]
        models = 1 + ("wise_ft" in FOLLOWS.get(run.settings.method, ()))
        return models * sum(math.ceil(len(data) / self.bench.settings.batch_size) for data in held)

    def _heed(self) -> None:
        """Do what comes between two batches or steps: KeyboardInterrupt where the job is to stop."""
        if self.state.phase == "evaluating":
            self._tell("evaluating", often=True, step=min(self.state.step + 1, self.state.total))
        if self._stop.is_set() or self._leave.is_set():
            raise KeyboardInterrupt

    def _tell(self, phase: str, often: bool = False, **changes) -> None:
        self.state = replace(self.state, phase=phase, **changes)
        now = time.perf_counter()
        if not often or now - self._told > _TELL_EVERY_S:
            self._told = now
            for listener in self._listeners:
                listener(self)


def outcome(run: Run, plan: str, known: bool = False) -> str:
    """Return what came of a training, in a sentence or two.

    Parameters
    ----------
    plan : str
        What was to be trained; see `reprog_kit.budget.told`.
    known : bool
        Whether a finished run was there already.
    """
    rows = run.history
    accuracies = [row["validation_accuracy"] for row in rows]
    accuracy = accuracies[-1] if run.settings.keep == "last" else max(accuracies)
    took = "trained before" if known else f"trained in {spoken(sum(row['seconds'] for row in rows))}"
    if run.finished:
        return f"{plan}; {took}, validation {accuracy:.1%}."
    done = f"stopped after {len(rows)} of {run.settings.epochs} epochs, validation {accuracy:.1%}"
    return f"{done}. Train goes on from there."


_lock = threading.Lock()
_latest: Job | None = None


def start(bench: Workbench, asked: TrainSettings, seconds: float = math.inf) -> tuple[Job, bool]:
    """Start a training; return it and True, or the one that is under way and False: there is one at a time."""
    global _latest
    with _lock:
        if _latest and not _latest.state.over:
            return _latest, False
        _latest = Job(bench, asked, seconds)
        return _latest, True


def latest() -> Job | None:
    """Return the training that was started last, if any was, whether it is over or not."""
    return _latest


@atexit.register
def _leave() -> None:
    """End a training with the process, whole files behind it."""
    if _latest:
        _latest.leave()
