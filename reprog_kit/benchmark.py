"""This library against the plain way, in turns in one run on the device at hand; the distance to the limit; growth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .backbone import load_backbone
from .contestants import PROBE_EPOCHS, Ours, Theirs, evaluation_pass, made_settings, noise, training_step
from .evaluation import ALPHAS
from .explore_settings import BenchmarkSettings
from .fresh import alone, begun, training_cost
from .machine import counted_flops, matrix_rate, pick_device


@dataclass(frozen=True)
class Task:
    """Work that is done in both ways.

    Attributes
    ----------
    name : str
        As it is shown.
    ours, plain : str
        What does it, of `Ours` and of `Theirs`.
    unit : {"images/s", "s"}
    many : bool
        With many captions.
    times : int
        How often the plain way does what was timed once.
    """

    name: str
    ours: str
    plain: str
    unit: str = "s"
    many: bool = False
    times: int = 1


TASKS = (
    Task("training", "training", "training", "images/s"),
    Task("evaluation of a residual", "evaluation", "evaluation", "images/s"),
    Task("evaluation, {} captions", "evaluation", "evaluation", "images/s", many=True),
    Task("second evaluation", "second_evaluation", "evaluation", "images/s"),
    Task("sweep over 101 alphas", "sweep", "evaluation", times=len(ALPHAS)),
    Task("sweep, features included", "first_sweep", "evaluation", times=len(ALPHAS)),
    Task("linear probe, 25 epochs", "probe", "probe", times=PROBE_EPOCHS),
)
FIRST_BATCH, MEMORY = "time to the first batch", "memory of training"


def measure(settings: BenchmarkSettings) -> pd.DataFrame:
    """Measure every task on every model in every precision, and print a line as each is done.

    The plain way computes in fp32 whatever ours does; all of them take turns, round by round.

    Returns
    -------
    DataFrame
        A row a (model, precision, task): unit; median, least and largest of ours, of the plain way and of their
        ratio, which is above 1 where ours is better; the number of rounds; device and torch.
    """
    rows = []
    for model in settings.models:
        for name, unit, plain, ours in chain(_contests(settings, model), _alone(settings, model)):
            for precision, amounts in ours.items():
                rows.append(_row(settings, model, precision, name, unit, amounts, plain))
    return pd.DataFrame(rows)


def _contests(settings: BenchmarkSettings, model: str) -> Iterator[tuple[str, str, np.ndarray, dict[str, np.ndarray]]]:
    """Yield name and unit of each task, and the seconds (rounds,) of the plain way and of ours in each precision.

    Seconds are those of ``batch_size * steps`` pictures. With many captions ours has more batches than one, as their
    features are there after the first; the plain way encodes them for each, so that one batch is all of it.
    """
    made = {precision: made_settings(settings, model, precision) for precision in settings.precisions}
    backbone = load_backbone(model, made[settings.precisions[0]].pretrained, settings.device)
    for many, classes, batches in ((False, settings.classes, 1), (True, settings.many_classes, settings.many_batches)):
        few = settings.batch_size * settings.steps
        data = noise(few * batches, classes, settings.side)
        known: dict[str, np.ndarray] = {}
        with tempfile.TemporaryDirectory() as folder:
            ours = {name: Ours(backbone, its, data, classes, Path(folder) / name) for name, its in made.items()}
            first = made[settings.precisions[0]]
            own = load_backbone(model, first.pretrained, settings.device, quick=False)
            theirs = Theirs(own, first, data.take(slice(0, few)), classes, Path(folder))
            for task in (task for task in TASKS if task.many == many):
                ways = {name: getattr(way, task.ours) for name, way in ours.items()}
                if task.plain not in known:
                    ways["plain"] = getattr(theirs, task.plain)
                took = _in_turns(ways, settings.rounds)
                known[task.plain] = took.pop("plain", known.get(task.plain))
                took = {name: seconds / batches for name, seconds in took.items()}
                yield task.name.format(f"{classes:,}"), task.unit, task.times * known[task.plain], took
            del ours, theirs, own, ways


def _alone(settings: BenchmarkSettings, model: str) -> Iterator[tuple[str, str, np.ndarray, dict[str, np.ndarray]]]:
    """Yield what takes a process of its own, once."""
    ways = {"plain": ("plain", "fp32"), **{precision: ("ours", precision) for precision in settings.precisions}}
    found = {name: alone(begun, way, settings, model, precision) for name, (way, precision) in ways.items()}
    for at, (name, unit) in enumerate(((FIRST_BATCH, "s"), (MEMORY, "MB"))):
        amounts = {way: np.array([both[at]]) for way, both in found.items()}
        yield name, unit, amounts.pop("plain"), amounts


def _in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds (rounds,) of each way; a round ahead is not counted."""
    took = [{name: way() for name, way in ways.items()} for _ in range(rounds + 1)]
    return {name: np.array([each[name] for each in took[1:]]) for name in ways}


def _row(settings: BenchmarkSettings, model: str, precision: str, name: str, unit: str, ours, plain) -> dict:
    """Return the row of a task, and print it; of rates too the ratio says how often as long the plain way takes."""
    device = pick_device(settings.device)
    row = {"model": model, "precision": precision, "task": name, "unit": unit, "rounds": len(ours)}
    pictures = settings.batch_size * settings.steps
    for way, took in (("ours", ours), ("plain", plain), ("ratio", plain / ours)):
        amounts = pictures / took if unit == "images/s" and way != "ratio" else took
        low, middle, high = np.percentile(amounts, [0, 50, 100])
        row |= {way: middle, f"{way}_low": low, f"{way}_high": high}
    threads = torch.get_num_threads()
    cpu = f"cpu, {threads} thread{'s' * (threads > 1)}"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    print(spoken(row), flush=True)
    return {**row, "device": where, "torch": torch.__version__}


def digits(amount: float) -> str:
    """Return an amount to three digits, or to the last whole one."""
    return f"{amount:,.3g}" if abs(amount) < 999.5 else f"{amount:,.0f}"


def spoken(row: dict) -> str:
    """Return a row as a line for people."""
    ours, plain, ratio, low, high = (digits(row[key]) for key in ("ours", "plain", "ratio", "ratio_low", "ratio_high"))
    spread = f" ({low} to {high})" if row["rounds"] > 1 else ""
    way = f"{row['model']}, {row['precision']}, {row['task']}"
    return f"{way}: {ours} {row['unit']}, plain {plain}, {ratio} times{spread}"


def utilisation(settings: BenchmarkSettings, rows: pd.DataFrame) -> pd.DataFrame:
    """Return how much of the machine's rate of matrix products training and evaluation use (model FLOPs utilisation).

    Parameters
    ----------
    rows : DataFrame
        Of `measure`.

    Returns
    -------
    DataFrame
        A row a (model, precision, task): GFLOP an image, images/s, the GFLOP/s of both and of matrix products alone,
        measured now, and their share.
    """
    found = []
    device = pick_device(settings.device)
    rates = {precision: matrix_rate(device, precision) for precision in settings.precisions}
    for model in settings.models:
        made = made_settings(settings, model, settings.precisions[0])
        backbone, data = (
            load_backbone(model, made.pretrained, settings.device),
            noise(settings.batch_size, settings.classes, settings.side),
        )
        with tempfile.TemporaryDirectory() as folder:
            ours = Ours(backbone, made, data, settings.classes, Path(folder))
            for task, work in zip(TASKS, (training_step, evaluation_pass)):
                each = counted_flops(lambda ours=ours, work=work: work(ours)) / settings.batch_size
                mine = rows[(rows["model"] == model) & (rows["task"] == task.name)]
                for precision, speed in zip(mine["precision"], mine["ours"]):
                    rate = rates[precision]
                    found.append({
                        "model": model, "precision": precision, "task": task.name, "GFLOP an image": each / 1e9,
                        "images/s": speed, "GFLOP/s": each * speed / 1e9, "matrix GFLOP/s": rate / 1e9,
                        "share": each * speed / rate,
                    })  # fmt: skip
    return pd.DataFrame(found)


def cost_growth(settings: BenchmarkSettings) -> pd.DataFrame:
    """Train anew with pictures, classes and epochs doubled and doubled again, each time in a process of its own.

    Returns
    -------
    DataFrame
        A row a training: what grew, the three amounts, seconds, MB above the model, and both as multiples of the
        smallest training's.
    """
    start = {"pictures": settings.growth, "classes": settings.classes, "epochs": 2}
    found = []
    for what in start:
        for factor in (1, 2, 4):
            amounts = {**start, what: start[what] * factor}
            known = next((row for row in found if all(row[name] == amounts[name] for name in start)), None)
            took = (known["seconds"], known["MB"]) if known else alone(training_cost, settings, *amounts.values())
            found.append({"grown": what, "factor": factor, **amounts, "seconds": took[0], "MB": took[1]})
            print(f"{what} x {factor}: {took[0]:.1f} s, {took[1]:.0f} MB", flush=True)
    rows = pd.DataFrame(found)
    for measure_of in ("seconds", "MB"):
        rows[f"{measure_of} x"] = rows[measure_of] / rows[measure_of].iloc[0]
    return rows
