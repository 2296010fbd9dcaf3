"""What a run of a grid will cost, by what earlier runs of its benchmark took on this device; no number is made up."""

from __future__ import annotations

import torch

from .datasets import BenchmarkData
from .machine import pick_device
from .run_folders import runs_of
from .settings import TrainSettings
from .specs import Corrupted, Generated

_SPEED = ("method", "model", "pretrained", "program", "probe", "image_size", "precision")


def training_pictures(data: BenchmarkData) -> int:
    """Return how many pictures are trained on, without decoding one."""
    benchmark = data.benchmark
    spec, held_out = benchmark.id.train, benchmark.id.validation
    if isinstance(spec, Generated | Corrupted):
        return len(data.train)
    count = len(data.listed("train", "id", spec).rows)
    if isinstance(held_out, float):
        count -= -int(-held_out * count // 1)  # what is held out is rounded up
    return count if data.limit is None else min(count, data.limit)


def paces(dataset: str, settings: TrainSettings) -> dict[tuple, float]:
    """Return the seconds that a picture and epoch took, by what decides it, in the newest such run on this device."""
    device = pick_device(settings.device)
    here = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found: dict[tuple, float] = {}
    for run in runs_of(dataset, settings.runs):
        rows = (row for row in run.results if row["metric"] == "train_seconds" and row["device"] == here)
        if (row := next(rows, None)) and run.finished:
            seconds = sum(record["seconds"] for record in run.history)
            found.setdefault(speed(run.settings), seconds / (row["n"] * len(run.history)))
    return found


def speed(settings: TrainSettings) -> tuple:
    """Return what decides, with the device, the seconds that a picture and epoch take."""
    return tuple(getattr(settings, name) for name in _SPEED)
