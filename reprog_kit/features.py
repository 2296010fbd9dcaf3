"""Features: one no-grad pass per (weights, transform, data), cached under that content; and the head that scores them.

Shapes: N pictures, C classes, D embedding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import write_whole
from .image_sets import ImageSet, Rows
from .ranks import current
from .settings import TrainSettings, in_project
from .zero_shot import PromptEnsemble, ZeroShot

# Called before each batch that is encoded; a thread of its own sets it for itself, and may raise, to stop.
between_batches: ContextVar[Callable[[], object]] = ContextVar("between_batches", default=lambda: None)


@dataclass(frozen=True)
class Head:
    """What every method ends in: class weights, a scale and, for a probe, a bias."""

    weights_CD: np.ndarray
    scale: float
    bias_C: np.ndarray | None = None

    def cosines(self, features_ND: np.ndarray) -> np.ndarray:
        """Return similarities (N, C), bias included in the unit of cosines."""
        cosines = np.asarray(features_ND, dtype=np.float64) @ np.asarray(self.weights_CD, dtype=np.float64).T
        return cosines if self.bias_C is None else cosines + self.bias_C / self.scale

    def logits(self, features_ND: np.ndarray) -> np.ndarray:
        """Return scaled similarities (N, C)."""
        return self.scale * self.cosines(features_ND)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return bf16 autocast where it is asked for, or, under ``auto``, where a GPU has it."""
    auto = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and auto))


def head(method: ZeroShot, precision: str = "auto") -> Head:
    """Encode the captions of every class once and return the head."""
    with torch.inference_mode(), autocast(method.backbone.device, precision):
        bias = method.bias()
        added = None if bias is None else bias.float().cpu().numpy()
        return Head(method.class_weights().float().cpu().numpy(), method.scale, added)


def content_key(method: ZeroShot, data: ImageSet, precision: str = "auto") -> str:
    """Return a hash of all that decides the image features: weights, what was trained of them, transform, pixels."""
    digest = hashlib.sha256()
    device = method.backbone.device.type
    for part in (method.backbone.fingerprint, str(method.image_size), precision, device, data.fingerprint):
        digest.update(part.encode())
    for name, value in sorted(method.image_state().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def batches(images_NHWC: np.ndarray | Rows | Tensor, parts: Iterable, device: torch.device) -> Iterator[Tensor]:
    """Yield batches on the device; the next one is read, and copied from pinned memory, while one is used.

    Parameters
    ----------
    images_NHWC : uint8 pictures, or features, in memory, on the device or on the disk
    parts : iterable of slice or of int tensors
        What each batch holds.
    """
    if isinstance(images_NHWC, Tensor):
        for part in parts:
            chosen = part if isinstance(part, slice) else part.to(images_NHWC.device)
            yield images_NHWC[chosen].to(device, non_blocking=True)
        return

    def read(part) -> Tensor:
        batch = torch.from_numpy(np.array(images_NHWC[part if isinstance(part, slice) else part.numpy()]))
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as reader:
        ahead: deque = deque()
        for part in parts:
            ahead.append(reader.submit(read, part))
            if len(ahead) > 1:
                yield ahead.popleft().result().to(device, non_blocking=True)
        while ahead:
            yield ahead.popleft().result().to(device, non_blocking=True)


def resident(images_NHWC: np.ndarray | Rows, device: torch.device) -> np.ndarray | Rows | Tensor:
    """Return pictures on the GPU if a quarter of its free memory holds them, else where they are."""
    if device.type != "cuda" or images_NHWC.nbytes > torch.cuda.mem_get_info(device)[0] / 4:
        return images_NHWC
    held = torch.empty(images_NHWC.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(held), 1024):
        held[start : start + 1024] = torch.from_numpy(np.array(images_NHWC[start : start + 1024]))
    return held


def _slices(rows: range, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


@torch.inference_mode()
def encode(
    method: ZeroShot, images_NHWC: np.ndarray | Rows, batch_size: int = 256, precision: str = "auto"
) -> np.ndarray:
    """Return unit image features (N, D), float32; of processes that train together each encodes its share."""
    device, parts, between = method.backbone.device, [], between_batches.get()
    ranks, count = current(), len(images_NHWC)
    with autocast(device, precision):
        for batch in batches(images_NHWC, _slices(ranks.share(range(count)), batch_size), device):
            between()
            parts.append(method.image_features(batch).float())
    return ranks.gather(torch.cat(parts), count).cpu().numpy()


def features(
    method: ZeroShot, data: ImageSet, cache: Path | None = None, batch_size: int = 256, precision: str = "auto"
) -> np.ndarray:
    """Return unit image features (N, D) of a set, from the cache folder if they are there, else computed and kept."""
    path = cache / f"{content_key(method, data, precision)}.npy" if cache else None
    return _kept(path, len(data), lambda: encode(method, data.images_NHWC, batch_size, precision))


def ensemble_head(method: PromptEnsemble, cache: Path, precision: str = "auto") -> Head:
    """Return the head of a prompt ensemble from the cache folder, or computed and kept: it may be 80,000 captions."""
    about = (method.backbone.fingerprint, method.backbone.device.type, precision, method.captions_TC)
    path = cache / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.npy"
    return Head(_kept(path, len(method.captions), lambda: head(method, precision).weights_CD), method.scale)


def _kept(path: Path | None, count: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return an array of `count` rows from its file if it is there and whole, else computed and written."""
    kept, ranks = _read(path), current()
    if all(ranks.tell(len(kept) == count)):  # all processes compute, or none
        return kept
    found = compute()
    if path and ranks.main:
        write_whole(path, lambda file: np.save(file, found, allow_pickle=False))
    ranks.wait()
    return found


def _read(path: Path | None) -> np.ndarray:
    if path and path.is_file():
        # One that was cut short by a crash of the machine is computed again.
        with contextlib.suppress(ValueError, OSError, EOFError):
            return np.load(path, allow_pickle=False)
    return np.empty((0, 0))


def run_features(method: ZeroShot, data: ImageSet, settings: TrainSettings) -> np.ndarray:
    """Return unit image features (N, D) of a set from the cache of the settings' run folders, or computed and kept."""
    cache = in_project(settings.runs) / "cache"
    return features(method, data, cache, max(settings.batch_size, 256), settings.precision)
