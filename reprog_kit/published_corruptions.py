"""Corrupted pictures that were published, as CIFAR-10-C is: an array a corruption, severities 1 to 5 in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .corruptions import SEVERITIES, VariantRows, check_names
from .parameters import InputError


class PublishedItems(VariantRows):
    """Published corrupted pictures, read from the disk when they are asked for; `published` checks and makes them."""

    def __init__(self, arrays: Sequence[np.ndarray], pictures: int, names: Sequence[str], severities: Sequence[int]):
        super().__init__(pictures, names, severities)
        self.origin, self._arrays, self._severities = "published", arrays, np.array(severities)

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, H, W, 3): pixels that need no decoding."""
        return (len(self), *self._arrays[0].shape[1:])

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
    check_names(names, severities)
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
