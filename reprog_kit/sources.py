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

_UNREADABLE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, AttributeError, SyntaxError)


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
        return len(self.places)

    def fits(self, side: int) -> bool:
        """Whether the items are pixels of this side (in px) already, which an array of numbers indexes."""
        return getattr(self.items, "shape", ())[1:] == (side, side, 3)


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


def decode(items: Sequence, places: Sequence[str], side: int) -> np.ndarray:
    """Decode pictures, as a `Listing` holds them, to uint8 in parallel threads.

    Returns
    -------
    ndarray of uint8, shape (N, side, side, 3)
        The shorter side resized to `side` (bicubic, antialiased), the centre cut out, RGB.

    Raises
    ------
    InputError
        Names the pictures that cannot be read.
    """
    images, bad = decode_what_can_be(items, side)
    if bad:
        raise InputError(bad_pictures([(places[i], reason) for i, reason in bad.items()]))
    return images


def decode_what_can_be(
    items: Sequence, side: int, rows: Sequence[int] | None = None, pool: ThreadPoolExecutor | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Return decoded pictures as `decode` does, all or those rows, and by place in it why one cannot be read."""
    rows = range(len(items)) if rows is None else rows
    out, bad = np.zeros((len(rows), side, side, 3), dtype=np.uint8), {}

    def one(i: int) -> None:
        try:
            out[i] = _one(items[rows[i]], side)
        except _UNREADABLE as error:
            if isinstance(error, InputError):  # the file that holds the pictures is not to be read
                raise
            bad[i] = str(error)

    with nullcontext(pool) if pool else ThreadPoolExecutor() as threads:
        list(threads.map(one, range(len(rows))))
    return out, dict(sorted(bad.items()))


def _one(item, side: int) -> np.ndarray:
    if isinstance(item, np.ndarray):
        return item if item.shape == (side, side, 3) else fit(Image.fromarray(item), side)
    if isinstance(item, Image.Image):  # somebody else opened it, and it is left open
        return fit(item, side)
    with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as picture:
        return fit(picture, side)


def bad_pictures(found: Sequence[tuple[str, str]]) -> str:
    """Return the message about pictures (place, reason) that cannot be read."""
    named = "\n".join(f"  {place} cannot be read as a picture ({reason})" for place, reason in found[:12])
    more = f"\n  and {len(found) - 12} more" if len(found) > 12 else ""
    return f"{len(found)} picture{'s' * (len(found) > 1)} cannot be read:\n{named}{more}\nReplace or remove them."


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
