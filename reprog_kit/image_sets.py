"""A set of pictures with labels, in memory or read when it is indexed.

Shapes: N pictures, H = W = S the benchmark's side in px, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .picture_cache import digests_of


class Rows:
    """Some rows of pictures that stay where they are: an array-like of uint8 (n, S, S, 3).

    Parameters
    ----------
    base : array-like
        A memory-mapped array, or whatever gives an array of pictures for an array of row numbers.
    rows : ndarray of int
    side : int
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, base, rows: np.ndarray, side: int):
        self.base, self.rows, self.shape = base, rows, (len(rows), side, side, 3)
        self.nbytes = int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        """Return the pictures of a slice or an array of numbers, or the one picture of a number."""
        if isinstance(index, int | np.integer):
            return self[[index]][0]
        return np.asarray(self.base[self.rows[index]])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Read all of them."""
        return self[:].astype(dtype or np.uint8, copy=False)

    def take(self, chosen: np.ndarray) -> Rows:
        """Return some of these rows, still unread."""
        return Rows(self.base, self.rows[chosen], self.shape[1])


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded pictures of one set.

    Attributes
    ----------
    name : str
        As the benchmark spells it.
    images_NHWC : ndarray of uint8, or Rows
    labels_N : ndarray of int64
        Index into the benchmark's class names; -1 in an OOD set.
    covered : tuple of int
        The classes that this set holds pictures of; accuracy is scored over these alone.
    known_N16 : ndarray of uint8, optional
        What stands for each picture's pixels, where it is known without reading them.
    bad : tuple of str
        The places of pictures that could not be read and were skipped.
    """

    name: str
    images_NHWC: np.ndarray | Rows
    labels_N: np.ndarray
    covered: tuple[int, ...] = ()
    known_N16: np.ndarray | None = field(default=None, repr=False)
    bad: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def digests_N16(self) -> np.ndarray:
        """A hash (N, 16) of each picture: of its pixels, or of its source where it is decoded anew every time."""
        if self.known_N16 is not None:
            return self.known_N16
        parts = [digests_of(self.images_NHWC[i : i + 1024]) for i in range(0, len(self), 1024)]
        return np.concatenate(parts) if parts else np.empty((0, 16), np.uint8)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pictures, hexadecimal."""
        return hashlib.sha256(np.ascontiguousarray(self.digests_N16).data).hexdigest()

    def take(self, chosen: np.ndarray | slice) -> ImageSet:
        """Return the set with these pictures alone, in this order."""
        images, known = self.images_NHWC, self.known_N16
        return replace(
            self,
            images_NHWC=images.take(chosen) if isinstance(images, Rows) else images[chosen],
            labels_N=self.labels_N[chosen],
            known_N16=None if known is None else known[chosen],
        )


def limited(data: ImageSet, limit: int | None) -> ImageSet:
    """Return at most so many pictures of a set, the classes in equal share as far as they go."""
    chosen = limited_rows(data.labels_N, limit)
    return data if len(chosen) == len(data) else data.take(chosen)


def limited_rows(labels_N: np.ndarray, limit: int | None) -> np.ndarray:
    """Return the numbers of at most so many pictures, the classes in equal share as far as they go.

    Of pictures without a class (-1) they are spread over the whole set: files of a kind often stand side by side.
    """
    if limit is None or len(labels_N) <= limit:
        return np.arange(len(labels_N))
    if labels_N.max() < 0:
        return np.arange(limit) * len(labels_N) // limit
    # Take turns through the classes: the k-th picture of each class comes before any (k+1)-th.
    order = np.lexsort((np.arange(len(labels_N)), _rank_in_class(labels_N)))
    return np.sort(order[:limit])


def _rank_in_class(labels_N: np.ndarray) -> np.ndarray:
    order = np.argsort(labels_N, kind="stable")
    _, starts, counts = np.unique(labels_N[order], return_index=True, return_counts=True)
    ranks = np.empty(len(labels_N), dtype=np.int64)
    ranks[order] = np.arange(len(labels_N)) - np.repeat(starts, counts)
    return ranks
