"""Pictures under the corruptions of ImageNet-C and CIFAR-10-C: made here, or read from the published arrays.

The two are not the same pictures. What is made here takes ImageNet-C's constants at every size; those behind the
published CIFAR-10-C are milder. So a result names the `origin` of its pictures.

A variant is one corruption at one severity, counted name by name. Rows are pictures under variants (`variant_of`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib import metadata
from itertools import product
from pathlib import Path
from threading import Lock

import numpy as np

from .parameters import InputError, nearest

# The 15 that a mean corruption error is taken over and the 4 that are kept for tuning (Hendrycks & Dietterich 2019,
# https://arxiv.org/abs/1903.12261). A picture's seed counts in this order: a new name goes to the end.
STANDARD = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
CORRUPTIONS = (*STANDARD, "speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)
LIBRARY = "imagecorruptions-imaug"
INSTALL = f'Corrupted pictures are made by {LIBRARY}: pip install -e ".[corruptions]".'
# These two draw from a generator of their own, the others from numpy's global one.
_OWN_SEED = {"impulse_noise", "glass_blur"}
_GLOBAL_GENERATOR = Lock()


def variant_of(row, pictures: int, variants: int):
    """Return which picture, under which variant, a row holds: a Latin square.

    Row k * pictures + p is picture p under variant (p + k) mod variants. So any stretch of `pictures` rows from a
    multiple of it holds every picture once and the variants in equal share, and all rows hold every pair once.

    Parameters
    ----------
    row : int or ndarray of int
        0 to pictures * variants - 1.
    pictures, variants : int

    Returns
    -------
    picture, variant : int or ndarray of int
        Shaped as `row`.
    """
    turn, picture = divmod(row, pictures)
    return picture, (picture + turn) % variants


def corrupt(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Return a picture under one of `CORRUPTIONS`, the same for the same seed whatever else draws random numbers.

    Parameters
    ----------
    image_HWC : ndarray of uint8, shape (H, W, 3)
        At least 32 px wide and high.
    name : str
    severity, seed : int
        1 to 5; 0 to 2**32 - 1.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    InputError
        For an unknown name or severity, another picture, or where the library is not installed.
    """
    _check([name], [severity])
    shape = image_HWC.shape
    if image_HWC.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < 32:
        raise InputError(
            f"a picture of {image_HWC.dtype} {shape} cannot be corrupted: it takes uint8 (H, W, 3) of 32 px or more. "
            "Give the benchmark a side of at least 32."
        )
    try:
        from imagecorruptions import corrupt as apply
    except ImportError as error:  # also where OpenCV misses a library of the system
        raise InputError(f"{INSTALL} ({error})") from None
    own = {"seed": seed} if name in _OWN_SEED else {}
    # numpy's global generator is one for all threads: it is lent to one picture at a time, and given back as it was.
    with _GLOBAL_GENERATOR:
        before = np.random.get_state()  # noqa: NPY002 what the library draws from
        try:
            np.random.seed(seed)  # noqa: NPY002
            return apply(np.asarray(image_HWC), severity=int(severity), corruption_name=name, **own)
        finally:
            np.random.set_state(before)  # noqa: NPY002


def _check(names: Sequence[str], severities: Sequence[int]) -> None:
    for what, given, known in (("corruption", names, CORRUPTIONS), ("severity", severities, SEVERITIES)):
        for value in given:
            if value not in known:
                allowed = ", ".join(map(str, known))
                raise InputError(f"{what} {value!r} is refused.{nearest(value, known)} Known: {allowed}.")


class _Rows(Sequence):
    """Every picture under every variant, in the order of `variant_of`: an int gives one, an array or a slice many."""

    def __init__(self, pictures: int, names: Sequence[str], severities: Sequence[int]):
        _check(names, severities)
        self.pictures, self.variants = pictures, list(product(names, severities))

    def __len__(self) -> int:
        return self.pictures * len(self.variants)

    def __getitem__(self, row):
        one = isinstance(row, int | np.integer)
        # The range counts from the end below zero, and ends a loop with its IndexError.
        rows = np.array([range(len(self))[row]]) if one else np.arange(len(self))[row]
        images_NHWC = self._read(*variant_of(rows, self.pictures, len(self.variants)))
        return images_NHWC[0] if one else images_NHWC

    @abstractmethod
    def _read(self, picture_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray: ...

    @property
    def places(self) -> Sequence[str]:
        """What a message calls each row, such as "gaussian_noise 3, picture 17"; spelled when it is asked for."""
        return _Places(self)


class _Places(Sequence):
    def __init__(self, rows: _Rows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> str:
        picture, variant = variant_of(range(len(self))[row], self._rows.pictures, len(self._rows.variants))
        name, severity = self._rows.variants[variant]
        return f"{name} {severity}, picture {picture}"


class CorruptedItems(_Rows):
    """Pictures under corruptions, each made when its row is asked for.

    A picture depends on its number, corruption and severity alone, so it is the same in every order, part and thread,
    and stays when other corruptions are added. Another version of the library may draw others: see `origin`.

    Parameters
    ----------
    source : sequence
        The clean pictures; an int gives one, uint8 (H, W, 3).
    names, severities : sequence
        Of `CORRUPTIONS` and `SEVERITIES`.
    """

    def __init__(self, source: Sequence[np.ndarray], names: Sequence[str], severities: Sequence[int] = SEVERITIES):
        super().__init__(len(source), names, severities)
        self.source = source
        try:
            self.origin = f"made by {LIBRARY} {metadata.version(LIBRARY)}"
        except metadata.PackageNotFoundError:
            raise InputError(INSTALL) from None

    def _read(self, picture_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray:
        made = []
        for picture, variant in zip(picture_N.tolist(), variant_N.tolist()):
            name, severity = self.variants[variant]
            seeds = np.random.SeedSequence([picture, CORRUPTIONS.index(name), severity])
            made.append(corrupt(self.source[picture], name, severity, int(seeds.generate_state(1)[0])))
        return np.array(made, dtype=np.uint8)


class PublishedItems(_Rows):
    """Published corrupted pictures, read from the disk when they are asked for; `published` checks and makes them."""

    def __init__(self, arrays: Sequence[np.ndarray], pictures: int, names: Sequence[str], severities: Sequence[int]):
        super().__init__(pictures, names, severities)
        self.origin, self._arrays, self._severities = "published", arrays, np.array(severities)

    def _read(self, picture_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray:
        file_N, level_N = divmod(variant_N, len(self._severities))
        row_N = (self._severities[level_N] - 1) * self.pictures + picture_N
        out = np.empty((len(row_N), *self._arrays[0].shape[1:]), dtype=np.uint8)
        for file in np.unique(file_N):
            out[file_N == file] = self._arrays[file][row_N[file_N == file]]
        return out


def published(
    folder: Path, names: Sequence[str], severities: Sequence[int], pictures: int, labels_N: np.ndarray
) -> PublishedItems:
    """Return the rows of a published set that lies as CIFAR-10-C does; no picture is read yet.

    Parameters
    ----------
    folder : Path
        Holds ``<name>.npy``, uint8 (5 N, 32, 32, 3), severities 1 to 5 in blocks of N; ``labels.npy``, (5 N,) or (N,).
    names, severities : sequence
        Of `CORRUPTIONS` and `SEVERITIES`.
    pictures : int
        N, of the clean test set.
    labels_N : ndarray of int
        Those of the clean test set; the published ones must say the same in every block.

    Raises
    ------
    InputError
        Where a file is absent or none of that layout, or the labels are those of other pictures.
    """
    _check(names, severities)
    files = {name: Path(folder) / f"{name}.npy" for name in (*names, "labels")}
    if absent := [path.name for path in files.values() if not path.is_file()]:
        there = ", ".join(sorted(path.name for path in Path(folder).glob("*.npy"))) or "no .npy file"
        raise InputError(
            f"{folder} lacks {', '.join(absent)}; there is {there}. Unpack the whole archive there, or leave those "
            "corruptions out of the YAML's names."
        )
    _check_labels(files["labels"], labels_N)
    shape = (len(SEVERITIES) * pictures, 32, 32, 3)
    return PublishedItems([_mapped(files[name], np.uint8, shape) for name in names], pictures, names, severities)


def _mapped(path: Path, kind: type, *shapes: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # an .npy and nothing else; it unpickles nothing
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array of numbers ({error}). Download it again.") from None
    if not np.issubdtype(array.dtype, kind) or array.shape not in shapes:
        raise InputError(
            f"{path} holds {array.dtype} {array.shape}; for this test set it should be {kind.__name__} "
            f"{' or '.join(map(str, shapes))}. Download it again, or compare the test set."
        )
    return array


def _check_labels(path: Path, labels_N: np.ndarray) -> None:
    count = len(labels_N)
    found = _mapped(path, np.integer, (len(SEVERITIES) * count,), (count,))
    if len(wrong := np.flatnonzero(found != np.tile(labels_N, len(found) // count))):
        row = wrong[0]
        raise InputError(
            f"{path}: {len(wrong)} of {len(found)} labels are not the test set's, the first in row {row}: {found[row]} "
            f"for {labels_N[row % count]}. The pictures are not those of this test set, in this order. Take the "
            "archive that was made from it, or remove `published` from the YAML to have pictures made here."
        )
