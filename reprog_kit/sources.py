"""Pictures as they are found, listed before one is decoded, and brought to the square that a benchmark holds."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from .parameters import InputError


@dataclass(frozen=True, eq=False)
class Listing:
    """A set before it is decoded.

    Attributes
    ----------
    items : sequence
        Pictures: paths (str), encoded bytes, PIL pictures or uint8 arrays (H, W, 3), read when they are indexed; or one
        uint8 array (N, H, W, 3), which may be memory-mapped.
    names : sequence of str, optional
        Class names in the set's own words; a flat folder has none.
    places : sequence of str
        What a message calls each picture; with the root taken off, the set's identity.
    files : tuple of str
        What the items are read from, where they are no files themselves.
    """

    items: Sequence
    names: Sequence[str] | None
    places: Sequence[str]
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)


class MissingError(InputError):
    """A set is not where the benchmark says."""


def missing(path: Path, root: Path) -> MissingError:
    """Return the error for a path below the data root at which there is nothing."""
    return MissingError(
        f"there is nothing at {path}. The YAML's paths start from the data root, now {root} "
        f"({'which exists' if root.is_dir() else 'which does not exist'}); "
        "give another with -p data_root FOLDER or in $REPROG_DATA."
    )


def some(names: Iterable[str], most: int = 12) -> str:
    """Return names for a message, the first dozen of them."""
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def decode(items: Sequence[str | bytes | Image.Image], places: Sequence[str], side: int) -> np.ndarray:
    """Decode pictures (paths, encoded bytes or PIL's) to uint8, in parallel threads.

    Returns
    -------
    ndarray of uint8, shape (N, side, side, 3)
        The shorter side resized to `side` (bicubic, antialiased), the centre cut out, RGB.

    Raises
    ------
    InputError
        Names the first picture that cannot be read.
    """
    out = np.empty((len(items), side, side, 3), dtype=np.uint8)

    def one(i: int) -> None:
        try:
            item = io.BytesIO(items[i]) if isinstance(items[i], bytes) else items[i]
            # A picture that somebody opened is left open.
            with nullcontext(item) if isinstance(item, Image.Image) else Image.open(item) as picture:
                out[i] = fit(picture, side)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, AttributeError) as error:
            raise InputError(f"{places[i]} cannot be read as a picture ({error}). Replace or remove it.") from None

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(len(items))))
    return out


def fit(picture: Image.Image, side: int) -> np.ndarray:
    """Return a PIL picture, upright and RGB, as a uint8 square (side, side, 3)."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut everything above 255 off
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).round().astype(np.uint8))
    picture = picture.convert("RGB")
    resized = (
        vision.resize(picture, side, interpolation=InterpolationMode.BICUBIC) if min(picture.size) != side else picture
    )
    return np.asarray(vision.center_crop(resized, side))
