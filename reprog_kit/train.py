"""One loop for every trained method: it yields one record an epoch, and resumes exactly.

A method is anything with ``loss(images, labels, settings)``, ``optimizers(settings)``, ``program_state()``,
``image_features(images)``, ``class_weights()`` and ``scale``.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .datasets import ImageSet
from .features import autocast, encode, head
from .metrics import masked_logits
from .parameters import InputError, in_jupyterlab
from .reprogrammer import Reprogrammer
from .settings import TrainSettings


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


def steps_per_epoch(pictures: int, settings: TrainSettings) -> int:
    """Return the number of steps a pass takes; InputError if the warm-up is longer than the run."""
    steps = math.ceil(pictures / settings.batch_size)
    if settings.warmup_steps >= steps * settings.epochs:
        raise InputError(
            f"warmup_steps = {settings.warmup_steps} is refused: the run has {steps * settings.epochs} steps "
            f"({steps} an epoch). Give fewer, or more epochs."
        )
    return steps


def train(
    method: Reprogrammer,
    data: ImageSet,
    validation: ImageSet,
    settings: TrainSettings,
    state: dict[str, Tensor] | None = None,
) -> Iterator[Epoch]:
    """Train a method and yield after every epoch.

    Parameters
    ----------
    state : dict, optional
        `Epoch.state` of an earlier epoch; the rest then equals an unbroken run (bit for bit on the CPU).

    Raises
    ------
    InputError
        If nothing is trainable or the warm-up is longer than the run.
    """
    steps = steps_per_epoch(len(data), settings)
    total = steps * settings.epochs
    optimizers = method.optimizers(settings)
    base = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    done = _restore(method, optimizers, state) if state else 0
    images = _resident(data, method.backbone.device)
    if settings.compile:
        method.image_features = torch.compile(method.image_features)
    with progress_bar(total, done * steps) as bar:
        for epoch in range(done, settings.epochs):
            shares = [warmup_cosine(s, total, settings.warmup_steps) for s in range(epoch * steps, (epoch + 1) * steps)]
            started = time.perf_counter()
            record = {"epoch": epoch + 1}
            record["loss"] = _one_pass(method, optimizers, images, data.labels_N, epoch, shares, settings, bar)
            record["seconds"] = time.perf_counter() - started
            record["images_per_s"] = len(data) / record["seconds"]
            record["lr"] = max(base) * shares[-1]
            record["validation_accuracy"] = validation_accuracy(method, validation, settings)
            record["peak_memory_mb"] = peak_memory(method.backbone.device) / 1e6
            shown = "loss {loss:.3f}, lr {lr:.1e}, {images_per_s:.0f} images/s, validation {validation_accuracy:.1%}"
            bar.set_postfix_str(shown.format(**record))
            yield Epoch(record, _snapshot(method, optimizers, epoch + 1))


def _one_pass(method, optimizers, images_NHWC, labels_N, epoch, shares, settings: TrainSettings, bar) -> float:
    """Train on every picture once and return the mean loss; `shares` scale each step's learning rates."""
    device, labels = method.backbone.device, torch.from_numpy(labels_N)
    base = [[group.setdefault("base_lr", group["lr"]) for group in o.param_groups] for o in optimizers]
    # The order depends on seed and epoch alone, so that a resumed run needs no random state.
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(settings.seed * 100_003 + epoch))
    total = torch.zeros((), device=device)
    for share, chosen in zip(shares, order.split(settings.batch_size)):
        for optimizer, rates in zip(optimizers, base):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        batch = images_NHWC[chosen.to(images_NHWC.device)].to(device, non_blocking=True)
        with autocast(device, settings.precision):
            loss = method.loss(batch, labels[chosen].to(device), settings)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        total += loss.detach() * len(chosen)
        bar.update()
    if not torch.isfinite(total):
        raise InputError(f"the loss is {total.item()} in epoch {epoch + 1}: lower image_lr or text_lr.")
    return total.item() / len(labels)


def validation_accuracy(method: Reprogrammer, data: ImageSet, settings: TrainSettings) -> float:
    """Return the accuracy of the method as it is now on a set."""
    found = encode(method, data.images_NHWC, max(settings.batch_size, 256), settings.precision)
    logits = masked_logits(head(method, settings.precision).logits(found), data.covered)
    return float((logits.argmax(axis=1) == data.labels_N).mean())


def progress_bar(total: int, done: int = 0):
    """Return a tqdm bar: a widget in JupyterLab, a stream of lines on standard output elsewhere."""
    if in_jupyterlab():
        from tqdm.notebook import tqdm

        return tqdm(total=total, initial=done, desc="training", unit="step")
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc="training", unit="step", file=sys.stdout, mininterval=2, ncols=120)


def peak_memory(device: torch.device) -> int:
    """Return the largest number of bytes held so far: on the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident(data: ImageSet, device: torch.device) -> Tensor:
    """Return the uint8 pictures, on the GPU if a quarter of its free memory holds them."""
    images = torch.from_numpy(np.ascontiguousarray(data.images_NHWC))
    if device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
        return images.to(device)
    return images


def _snapshot(method: Reprogrammer, optimizers: list[torch.optim.Optimizer], epoch: int) -> dict[str, Tensor]:
    state = {f"program.{k}": v.detach().cpu().clone() for k, v in method.program_state().items()}
    for i, optimizer in enumerate(optimizers):
        for number, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                state[f"optimizer.{i}.{number}.{slot}"] = torch.as_tensor(value).detach().cpu().clone()
    return {**state, "epoch": torch.tensor(epoch)}


def _restore(method: Reprogrammer, optimizers: list[torch.optim.Optimizer], state: dict[str, Tensor]) -> int:
    method.load_program_state({k.removeprefix("program."): v for k, v in state.items() if k.startswith("program.")})
    for i, optimizer in enumerate(optimizers):
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith(f"optimizer.{i}."):
                _, _, number, slot = key.split(".")
                slots.setdefault(int(number), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["epoch"])
