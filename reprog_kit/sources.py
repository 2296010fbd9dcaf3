"""Where pictures come from: image folders and parquet files, listed first and decoded once, in parallel."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from .benchmarks import Folder, Parquet
from .parameters import InputError


@dataclass(frozen=True)
class Listing:
    """A set before it is decoded: pictures (paths or encoded bytes), class names in the set's own words, places.

    A flat folder has no ``names``; a listing made for its names alone has no ``items``.
    """

    items: Sequence[str | bytes]
    names: Sequence[str] | None
    places: Sequence[str]


def some(names: Iterable[str], most: int = 12) -> str:
    """Return names for a message, the first dozen of them."""
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def list_folder(root: Path, spec: Folder, flat: bool = False) -> Listing:
    """List an image folder: one folder a class, or with `flat` also pictures without class folders."""
    folder = root / Path(spec.path).expanduser()
    if not folder.is_dir():
        raise InputError(_missing(folder, root))
    loose = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in IMG_EXTENSIONS)
    if flat and loose:
        return Listing(loose, None, loose)
    try:
        classes, number = find_classes(folder)
        samples = make_dataset(str(folder), number, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: {error} Every class folder must hold a picture; remove or fill the empty ones."
        ) from None
    paths = [path for path, _ in samples]
    return Listing(paths, [classes[i] for _, i in samples], paths)


def list_parquet(root: Path, spec: Parquet, names_only: bool = False) -> Listing:
    """List the pictures of one or many parquet files; `names_only` leaves the pictures' bytes on the disk."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    files = sorted(glob.glob(str(root / Path(spec.path).expanduser())))
    if not files:
        raise InputError(_missing(root / spec.path, root))
    items, names, places = [], [], []
    for file in files:
        wanted = [spec.image, spec.label] + (["split"] if spec.split else [])
        filters = [("split", "==", spec.split)] if spec.split else None
        try:
            present = pq.read_schema(file).names
            if not set(wanted) <= set(present):
                raise InputError(f"{file} has the columns {', '.join(present)}; the YAML asks for {', '.join(wanted)}.")
            columns = [spec.label] if names_only else [spec.image, spec.label]
            table = pq.read_table(file, columns=columns, filters=filters).to_pydict()
        except (ArrowException, OSError) as error:
            raise InputError(f"{file} cannot be read as a parquet file ({error}). Copy or download it again.") from None
        names += [str(v) for v in table[spec.label]]
        places += [f"{file}, row {i}" for i in range(len(table[spec.label]))]
        # Hugging Face writes {"bytes": …, "path": …}; a plain table holds the bytes themselves.
        items += [v["bytes"] if isinstance(v, dict) else v for v in table.get(spec.image, [])]
    if not names:
        raise InputError(f"{root / spec.path} has no rows with split == {spec.split!r}.")
    return Listing(items, names, places)


def _missing(path: Path, root: Path) -> str:
    return (
        f"there is nothing at {path}. The YAML's paths start from the data root, now {root} "
        f"({'which exists' if root.is_dir() else 'which does not exist'}); "
        "give another with -p data_root FOLDER or in $REPROG_DATA."
    )


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
