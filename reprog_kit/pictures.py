"""Pictures of any kind that a person may hold, brought to the squares that a benchmark holds.

Shapes: N pictures, H x W their size in px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .image_sets import Rows
from .parameters import InputError
from .sources import decode

_ALLOWED = (
    "Give a PIL picture, the path of one, a list of these, or uint8 pixels of shape (H, W, 3) or (N, H, W, 3), "
    "as a numpy array or a torch tensor."
)


def squares(images: Any, side: int, batch_size: int = 256) -> Iterator[np.ndarray]:
    """Yield pictures by the batch, as the benchmark's loader brings them to its side; see `sources.decode`.

    Parameters
    ----------
    images : PIL picture, path, encoded bytes, uint8 pixels (H, W, 3), a list of these, or uint8 pixels (N, H, W, 3)
        Pixels are a numpy array or a torch tensor on any device.
    side : int
        In px.

    Yields
    ------
    ndarray of uint8, (up to batch_size, side, side, 3)

    Raises
    ------
    InputError
        For anything else, for a picture that cannot be read, or for no picture.
    """
    items = _listed(images)
    for start in range(0, len(items), batch_size):
        part = items[start : start + batch_size]
        if isinstance(part, np.ndarray) and part.shape[1:3] == (side, side):
            yield part.copy()  # torch warns of pixels that it may not write to
            continue
        places = [str(x) if isinstance(x, str | Path) else f"picture {start + i}" for i, x in enumerate(part)]
        yield decode([_picture(x, place) for x, place in zip(part, places)], places, side)


def _listed(images: Any) -> Sequence:
    if isinstance(images, np.ndarray | torch.Tensor | Rows):
        found = _pixels(images[None] if images.ndim == 3 else images, "images")
    else:
        found = images if isinstance(images, list | tuple) else [images]
    if not len(found):
        raise InputError(f"there is no picture to classify. {_ALLOWED}")
    return found


def _picture(item: Any, place: str) -> str | bytes | Image.Image:
    """Return what `decode` takes."""
    if isinstance(item, np.ndarray | torch.Tensor):
        return Image.fromarray(_pixels(item[None], place)[0])
    if not isinstance(item, str | Path | bytes | Image.Image):
        raise InputError(f"{place} is of type {type(item).__name__}. {_ALLOWED}")
    if isinstance(item, Image.Image):
        with suppress(Exception):  # `decode` meets the error again, and says where
            item.load()  # here, lest two threads load a picture that stands in a list twice
    return str(item) if isinstance(item, Path) else item


def _pixels(pixels: np.ndarray | torch.Tensor, place: str) -> np.ndarray:
    """Return uint8 pixels (N, H, W, 3) as an array."""
    kind = str(pixels.dtype).removeprefix("torch.")
    if kind != "uint8" or pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape[1:3]:
        raise InputError(f"{place}: {kind} of shape {tuple(pixels.shape)} is no picture. {_ALLOWED}")
    return pixels.cpu().numpy() if isinstance(pixels, torch.Tensor) else pixels
