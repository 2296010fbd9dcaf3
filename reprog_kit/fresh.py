"""What needs a process of its own to be measured: the time until something happens, and memory."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from .backbone import load_backbone
from .contestants import Ours, Theirs, made_settings, noise, our_method, silent
from .explore_settings import BenchmarkSettings
from .machine import pick_device, synchronised
from .train import peak_memory, reset_peak_memory, train


def alone(function: Callable[..., tuple[float, float]], *given) -> tuple[float, float]:
    """Return what a function of this library returns in a process that did nothing before."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:  # the server has the libraries loaded, and has done nothing else
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *given).result()


def begun(way: str, settings: BenchmarkSettings, model: str, precision: str) -> tuple[float, float]:
    """Return seconds until a first batch was trained on, and the MB that two took, libraries aside.

    Parameters
    ----------
    way : {"ours", "plain"}
    """
    device = pick_device(settings.device)
    held, started = _memory_now(device), synchronised(device)
    made = made_settings(settings, model, precision)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        data = noise(settings.batch_size, settings.classes, settings.side)
        backbone = load_backbone(model, made.pretrained, settings.device, quick=way == "ours")
        contestant = {"ours": Ours, "plain": Theirs}[way](backbone, made, data, settings.classes, Path(folder))
        contestant.training()
        seconds = synchronised(device) - started
        contestant.training()
    return seconds, (peak_memory(device) - held) / 1e6


def training_cost(settings: BenchmarkSettings, pictures: int, classes: int, epochs: int) -> tuple[float, float]:
    """Return the seconds of a whole training on the first model, and the MB it took, libraries and model aside."""
    made = made_settings(settings, settings.models[0], settings.precisions[0], epochs=epochs)
    backbone = load_backbone(made.model, made.pretrained, settings.device)
    method, data = our_method(backbone, classes, made), noise(pictures, classes, settings.side)
    with torch.inference_mode():  # kernels are chosen at their first use
        method.image_features(torch.from_numpy(data.images_NHWC[:2]).to(backbone.device))
    held, started = _memory_now(backbone.device), synchronised(backbone.device)
    for _ in train(method, data, data.take(slice(0, 2)), made, progress=silent):
        pass
    return synchronised(backbone.device) - started, (peak_memory(backbone.device) - held) / 1e6


def _memory_now(device: torch.device) -> int:
    """Return the bytes that are held now: the peak's mark, just set back."""
    if device.type == "cuda":
        torch.empty(0, device=device)  # else there is nothing yet to set back
    reset_peak_memory(device)
    return peak_memory(device)
