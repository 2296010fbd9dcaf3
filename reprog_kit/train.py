"""One loop for every trained method: it yields one record an epoch, and resumes exactly.

A method whose image features stay as they are is trained on features that are computed once, ahead of the loop; one
that has no optimizers is done after `prepare`. See `reprog_kit.zero_shot.ZeroShot` for what a method is.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from .features import autocast, batches, encode, head, resident, run_features
from .image_sets import ImageSet
from .metrics import masked_logits
from .parameters import InputError, in_jupyterlab
from .ranks import current
from .settings import TrainSettings
from .zero_shot import ZeroShot

# Those of ImageNet's training pictures together would be 10 GB.
_LOGITS_AT_ONCE = 10_000


@dataclass
class Epoch:
    """What the loop yields after a pass: the record for people, and the tensors from which it goes on exactly."""

    record: dict[str, float | int]
    state: dict[str, Tensor]


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then a cosine to 0, as in IBM/reprogrammer."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def halving_steps(step: int, total: int) -> float:
    """Return the share of the learning rate at a step: a half, a fifth, a tenth from 40, 70, 80% of the run on.

    IBM/reprogrammer has it for its linear probe and its fine-tuning.
    """
    done = step / total
    return next(share for start, share in ((0.8, 0.1), (0.7, 0.2), (0.4, 0.5), (0.0, 1.0)) if done >= start)


def steps_per_epoch(pictures: int, settings: TrainSettings) -> int:
    """Return the number of steps a pass takes; InputError if the warm-up is longer than the run."""
    steps = math.ceil(pictures / settings.batch_size)
    if settings.schedule == "cosine" and settings.warmup_steps >= steps * settings.epochs:
        raise InputError(
            f"warmup_steps = {settings.warmup_steps} is refused: the run has {steps * settings.epochs} steps "
            f"({steps} an epoch). Give fewer, or more epochs."
        )
    return steps


def progress_bar(total: int, done: int = 0, shown: bool = True):
    """Return a tqdm bar: a widget in JupyterLab, a stream of lines on standard output elsewhere, or nothing at all."""
    if shown and in_jupyterlab():
        from tqdm.notebook import tqdm

        return tqdm(total=total, initial=done, desc="training", unit="step")
    from tqdm import tqdm

    how = {"file": sys.stdout, "mininterval": 2, "ncols": 120, "disable": not shown}
    return tqdm(total=total, initial=done, desc="training", unit="step", **how)


def train(
    method: ZeroShot,
    data: ImageSet,
    validation: ImageSet,
    settings: TrainSettings,
    state: dict[str, Tensor] | None = None,
    progress: Callable = progress_bar,
) -> Iterator[Epoch]:
    """Train a method and yield after every epoch.

    Parameters
    ----------
    state : dict, optional
        `Epoch.state` of an earlier epoch; the rest then equals an unbroken run (bit for bit on the CPU).
    progress : callable
        Given the number of steps and how many of them are done, returns a context manager with tqdm's ``update()``,
        called after each step, and ``set_postfix_str(text)``, after each epoch; both may raise, to stop.

    Raises
    ------
    InputError
        If nothing is trainable or the warm-up is longer than the run.
    """
    started = time.perf_counter()
    if state:
        method.load_program_state({k.removeprefix("program."): v for k, v in state.items() if k.startswith("program.")})
    else:
        reset_peak_memory(method.backbone.device)
        method.prepare(data, validation, settings)
    optimizers = method.optimizers(settings)
    if not optimizers:
        yield _solved(method, data, validation, settings, time.perf_counter() - started)
        return
    done = _restore(optimizers, state) if state else 0
    yield from _epochs(method, optimizers, data, validation, settings, done, progress)


def _epochs(method, optimizers, data: ImageSet, validation: ImageSet, settings: TrainSettings, done: int, progress):
    device, steps = method.backbone.device, steps_per_epoch(len(data), settings)
    total, frozen = steps * settings.epochs, method.image_frozen
    base = max(group["lr"] for optimizer in optimizers for group in optimizer.param_groups)
    inputs = torch.from_numpy(run_features(method, data, settings)) if frozen else resident(data.images_NHWC, device)
    if settings.compile and not frozen:
        method.image_features = torch.compile(method.image_features)
    with progress(total, done * steps) as bar:
        for epoch in range(done, settings.epochs):
            shares = [share_of_rate(s, total, settings) for s in range(epoch * steps, (epoch + 1) * steps)]
            started = time.perf_counter()
            loss = _one_pass(method, optimizers, inputs, data.labels_N, epoch, shares, settings, bar)
            seconds = time.perf_counter() - started
            record = _record(method, epoch + 1, loss, seconds, base * shares[-1], data, validation, settings)
            shown = "loss {loss:.3f}, lr {lr:.1e}, {images_per_s:.0f} images/s, validation {validation_accuracy:.1%}"
            bar.set_postfix_str(shown.format(**record))
            yield Epoch(record, _snapshot(method, optimizers, epoch + 1))


def _record(method, epoch, loss, seconds, lr, data: ImageSet, validation: ImageSet, settings: TrainSettings) -> dict:
    """Return what people want to know of an epoch."""
    return {
        "epoch": epoch,
        "loss": loss,
        "seconds": seconds,
        "images_per_s": len(data) / seconds,
        "lr": lr,
        "validation_accuracy": validation_accuracy(method, validation, settings),
        "peak_memory_mb": peak_memory(method.backbone.device) / 1e6,
    }


def share_of_rate(step: int, total: int, settings: TrainSettings) -> float:
    """Return the share of the learning rates at a step of the run, by the settings' schedule."""
    if settings.schedule == "steps":
        return halving_steps(step, total)
    return warmup_cosine(step, total, settings.warmup_steps)


def _solved(method: ZeroShot, data: ImageSet, validation: ImageSet, settings: TrainSettings, seconds: float) -> Epoch:
    """Return the one record of a method without steps: zero-shot, and the probe that scikit-learn solves."""
    found, last = run_features(method, data, settings), head(method, settings.precision)
    parts = np.array_split(np.arange(len(data)), math.ceil(len(data) / _LOGITS_AT_ONCE))
    right = [log_softmax(last.logits(found[rows]), axis=1)[np.arange(len(rows)), data.labels_N[rows]] for rows in parts]
    loss = -float(np.concatenate(right).mean())
    return Epoch(_record(method, 1, loss, seconds, 0.0, data, validation, settings), _snapshot(method, [], 1))


def _one_pass(method, optimizers, inputs_N, labels_N, epoch, shares, settings: TrainSettings, bar) -> float:
    """Train on every picture once and return the mean loss; `shares` scale each step's learning rates."""
    device, labels = method.backbone.device, torch.from_numpy(labels_N)
    loss_of = method.feature_loss if method.image_frozen else method.loss
    base = [[group.setdefault("base_lr", group["lr"]) for group in o.param_groups] for o in optimizers]
    # The order depends on seed and epoch alone, so that a resumed run needs no random state.
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(settings.seed * 100_003 + epoch))
    total = torch.zeros((), device=device)
    parts, ranks = order.split(settings.batch_size), current()
    encoded = parts if method.image_frozen else [ranks.share(part) for part in parts]
    for share, chosen, batch in zip(shares, parts, batches(inputs_N, encoded, device)):
        for optimizer, rates in zip(optimizers, base):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        with autocast(device, settings.precision):
            loss = loss_of(batch, labels[chosen].to(device), settings)
        loss.backward()
        ranks.mean_gradients(optimizers)
        for optimizer in optimizers:
            optimizer.step()
        total += loss.detach() * len(chosen)
        bar.update()
    if not torch.isfinite(total):
        raise InputError(f"the loss is {total.item()} in epoch {epoch + 1}: lower the learning rate.")
    return total.item() / len(labels)


def validation_accuracy(method: ZeroShot, data: ImageSet, settings: TrainSettings) -> float:
    """Return the accuracy of the method as it is now on a set."""
    if method.image_frozen:
        found = run_features(method, data, settings)
    else:
        found = encode(method, data.images_NHWC, max(settings.batch_size, 256), settings.precision)
    logits = masked_logits(head(method, settings.precision).logits(found), data.covered)
    return float((logits.argmax(axis=1) == data.labels_N).mean())


def reset_peak_memory(device: torch.device) -> None:
    """Start counting anew, where that can be had: on a GPU and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the process' high-water mark


def peak_memory(device: torch.device) -> int:
    """Return the largest number of bytes held so far: on the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    with contextlib.suppress(OSError):  # Linux; unlike getrusage's this mark can be set back
        mark = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if mark:
            return int(mark[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _snapshot(method: ZeroShot, optimizers: list[torch.optim.Optimizer], epoch: int) -> dict[str, Tensor]:
    state = {f"program.{k}": v.detach().cpu().contiguous().clone() for k, v in method.program_state().items()}
    for i, optimizer in enumerate(optimizers):
        for number, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                state[f"optimizer.{i}.{number}.{slot}"] = torch.as_tensor(value).detach().cpu().contiguous().clone()
    return {**state, "epoch": torch.tensor(epoch)}


def _restore(optimizers: list[torch.optim.Optimizer], state: dict[str, Tensor]) -> int:
    for i, optimizer in enumerate(optimizers):
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith(f"optimizer.{i}."):
                _, _, number, slot = key.split(".")
                slots.setdefault(int(number), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["epoch"])
