"""A training fitted into seconds: its speed measured on this machine, then fewer epochs, or fewer pictures."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import torch

from .backbone import Backbone
from .datasets import BenchmarkData
from .features import between_batches
from .image_sets import limited
from .machine import synchronised
from .methods import build
from .parameters import InputError
from .settings import TrainSettings
from .train import train

_STEPS = 3  # in each of two epochs
_ENOUGH = 3.0  # seconds after which a slow machine need not take all of them
_BELOW_TEN, _FROM_TEN = (1, 2, 3, 5, 8), (10, 15, 20, 25, 30, 40, 50, 60, 80)
# What the speed does not depend on; a border of 0 px is another matter than any other.
_NOT_OF_THE_SPEED = {"padding", "seed", "seeds", "epochs", "warmup_steps", "runs", "resume"}
_measured: dict[tuple[str, bool], Pace] = {}


@dataclass(frozen=True)
class Pace:
    """What a training costs on this machine.

    Attributes
    ----------
    pictures, held_out, classes : int
        Pictures to train on, pictures behind the validation accuracy, classes.
    ahead_s : float
        Seconds a picture ahead of the steps: features that are computed once, a probe that is solved.
    step_s : float
        Seconds a step; 0 for a method that takes none.
    after_s : float
        Seconds a held-out picture at the end of each epoch.
    """

    pictures: int
    held_out: int
    classes: int
    ahead_s: float
    step_s: float
    after_s: float

    def seconds(self, epochs: int, batch_size: int, limit: int | None = None) -> float:
        """Return how long a training takes, in seconds, with at most `limit` pictures of each set."""
        most = limit or math.inf
        pictures, held_out = min(self.pictures, most), min(self.held_out, most)
        epoch = math.ceil(pictures / batch_size) * self.step_s + held_out * self.after_s
        return self.ahead_s * (pictures + held_out) + epochs * epoch


def pace(backbone: Backbone, data: BenchmarkData, settings: TrainSettings) -> Pace:
    """Return how fast a training runs here, measured at the first call; so asking again leads to the same run."""
    key = (settings.model_dump_json(exclude=_NOT_OF_THE_SPEED), settings.padding == 0)
    if key not in _measured:
        _measured[key] = measured(backbone, data, settings)
    return _measured[key]


def measured(backbone: Backbone, data: BenchmarkData, settings: TrainSettings) -> Pace:
    """Take a few steps of the real loop on a throw-away method and return what they cost; the first is not counted.

    Raises
    ------
    InputError
        If the settings cannot be trained.
    """
    held_out = data.test if settings.select_on == "test" else data.validation
    few = limited(data.train, max(_STEPS * settings.batch_size, len(data.classes)))
    fewer = limited(held_out, settings.batch_size)
    clock, ends = _Clock(backbone.device), []
    with TemporaryDirectory() as runs:  # features of these few are of no use later
        quick = settings.model_copy(update={"epochs": 2, "warmup_steps": 0, "runs": runs})
        method = build(backbone, data.classes, data.captions, quick)
        started = clock.now()
        with contextlib.suppress(_EnoughError):
            for _ in train(method, few, fewer, quick, progress=clock):
                ends.append(clock.now() - max(clock.ticks, default=started))
    ahead, after = min(clock.ticks, default=started + sum(ends)) - started, 0.0
    if clock.ticks:  # an epoch's end that was not reached: a pass forward costs less than a step
        after = ends[-1] if ends else clock.step * len(fewer) / settings.batch_size
        ahead += max(0.0, sum(ends[:1]) - after)  # features that are there from the second time on
    count = len(few) + len(fewer)
    return Pace(len(data.train), len(held_out), len(data.classes), ahead / count, clock.step, after / len(fewer))


class _EnoughError(Exception):
    """Ends a measurement."""


class _Clock:
    """Times steps, and heeds a stop, in the place of a progress bar; the first tick is the loop's start."""

    def __init__(self, device: torch.device):
        self.device, self.ticks = device, []

    def now(self) -> float:
        """Return the time in seconds, once the device has done what it was given."""
        return synchronised(self.device)

    @property
    def step(self) -> float:
        """Seconds a step, the first aside; one that waited for validation hardly moves the median. 0 without any."""
        took = np.diff(self.ticks)
        return float(np.median(took[1:] if len(took) > 1 else took)) if len(took) else 0.0

    def __call__(self, total: int, done: int) -> _Clock:
        self.ticks.append(self.now())
        return self

    def __enter__(self) -> _Clock:
        return self

    def __exit__(self, *_) -> None:
        pass

    def update(self) -> None:
        """Take the time of a step."""
        self.ticks.append(self.now())
        between_batches.get()()
        if len(self.ticks) > 2 and self.ticks[-1] - self.ticks[0] > _ENOUGH:
            raise _EnoughError

    def set_postfix_str(self, text: str) -> None:
        """Say nothing."""


def rungs(most: int) -> list[int]:
    """Return the numbers of epochs or pictures that are rounded down to, up to `most`: 1, 2, 3, 5, 8, 10, 15, 20, …"""
    found = [*_BELOW_TEN, *(n * 10**k for k in range(len(str(most))) for n in _FROM_TEN)]
    return [n for n in found if n <= most]


def fitted(settings: TrainSettings, speed: Pace, seconds: float) -> TrainSettings:
    """Return settings whose training takes at most so many seconds, and never more than the ones given ask for.

    Epochs are rounded down to `rungs`, so that a slightly other measurement leads to the same run. Where not one epoch
    fits, it is one over fewer pictures of each set, but a whole batch and one of every class. The warm-up is at most a
    third of a run that was shortened.

    Parameters
    ----------
    speed : Pace
        Of these settings.
    seconds : float
        More than 0; infinity changes nothing.

    Raises
    ------
    InputError
        If even the shortest training takes longer.
    """
    if not seconds > 0:
        raise InputError(f"seconds = {seconds:g} is refused: a training takes time. Give more than 0.")

    def fits(epochs: int, limit: int | None = None) -> bool:
        return speed.seconds(epochs, settings.batch_size, limit) <= seconds

    if fits(settings.epochs):
        return warmed(settings, speed.pictures) if speed.step_s else settings
    epochs = max(filter(fits, rungs(settings.epochs)), default=1) if speed.step_s else settings.epochs
    limit = None
    if not fits(epochs):
        least = min(speed.pictures, max(settings.batch_size, speed.classes))
        limits = [n for n in (least, *rungs(speed.pictures)) if n >= least and fits(epochs, n)]
        if not limits:
            needed = spoken(speed.seconds(epochs, settings.batch_size, least))
            raise InputError(
                f"a budget of {spoken(seconds)} is too short here: the shortest training, on {least} pictures, takes "
                f"about {needed}. Give more."
            )
        limit = max(limits)
    return _shortened(settings, epochs, limit, speed)


def _shortened(settings: TrainSettings, epochs: int, limit: int | None, speed: Pace) -> TrainSettings:
    changed = {"epochs": epochs, "limit": limit or settings.limit}
    if speed.step_s:
        total = epochs * math.ceil(min(speed.pictures, limit or speed.pictures) / settings.batch_size)
        changed["warmup_steps"] = min(settings.warmup_steps, total // 3)
    return settings.model_copy(update=changed)


def warmed(settings: TrainSettings, pictures: int) -> TrainSettings:
    """Return settings whose warm-up is shorter than the run on so many pictures: a third of it, where it was not."""
    total = settings.epochs * math.ceil(pictures / settings.batch_size)
    return settings.model_copy(update={"warmup_steps": total // 3}) if settings.warmup_steps >= total else settings


def told(asked: TrainSettings, got: TrainSettings, speed: Pace) -> str:
    """Return what `fitted` did, such as "10 of 20 epochs of 900 pictures, about 31 s"."""
    limit = got.limit if got.limit != asked.limit else None
    pictures = f"{limit:,} of {speed.pictures:,} pictures" if limit else f"{speed.pictures:,} pictures"
    epochs = f"{got.epochs} of {asked.epochs}" if got.epochs < asked.epochs else f"{got.epochs}"
    passes = f"{epochs} epoch{'s' if asked.epochs > 1 else ''} of " if speed.step_s else ""
    return f"{passes}{pictures}, about {spoken(speed.seconds(got.epochs, got.batch_size, limit))}"


def spoken(seconds: float) -> str:
    """Return seconds as people say them, such as "0.5 s", "45 s", "2 min 5 s" or "3 h 20 min"."""
    if seconds < 9.5:
        return f"{seconds:.1g} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts[:2])
