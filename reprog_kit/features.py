"""Features: one no-grad pass per (weights, transform, data), cached under that content; and the head that scores them.

Shapes: N pictures, C classes, D embedding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .datasets import ImageSet
from .files import write_whole
from .settings import TrainSettings, in_project
from .zero_shot import ZeroShot


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


def batches(images_NHWC: np.ndarray, size: int, device: torch.device):
    """Yield uint8 batches on the device; to a GPU they are copied from pinned memory, without waiting."""
    for start in range(0, len(images_NHWC), size):
        batch = torch.from_numpy(np.ascontiguousarray(images_NHWC[start : start + size]))
        yield batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.to(device)


@torch.inference_mode()
def encode(method: ZeroShot, images_NHWC: np.ndarray, batch_size: int = 256, precision: str = "auto") -> np.ndarray:
    """Return unit image features (N, D), float32."""
    device, parts = method.backbone.device, []
    with autocast(device, precision):
        for batch in batches(images_NHWC, batch_size, device):
            parts.append(method.image_features(batch).float())
    return torch.cat(parts).cpu().numpy()


def features(
    method: ZeroShot, data: ImageSet, cache: Path | None = None, batch_size: int = 256, precision: str = "auto"
) -> np.ndarray:
    """Return unit image features (N, D) of a set, from the cache folder if they are there, else computed and kept."""
    path = cache / f"{content_key(method, data, precision)}.npy" if cache else None
    if path and path.is_file():
        try:
            kept = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError):  # cut short by a crash of the machine: compute it again
            kept = np.empty((0, 0))
        if len(kept) == len(data):
            return kept
    found = encode(method, data.images_NHWC, batch_size, precision)
    if path:
        write_whole(path, lambda file: np.save(file, found, allow_pickle=False))
    return found


def run_features(method: ZeroShot, data: ImageSet, settings: TrainSettings) -> np.ndarray:
    """Return unit image features (N, D) of a set from the cache of the settings' run folders, or computed and kept."""
    cache = in_project(settings.runs) / "cache"
    return features(method, data, cache, max(settings.batch_size, 256), settings.precision)
