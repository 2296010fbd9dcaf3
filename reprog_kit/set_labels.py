"""A set's own class names, or numbers, become the benchmark's labels, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from .benchmarks import Benchmark
from .parameters import InputError, nearest
from .sources import Listing, some

# Fewer pictures than these choose nothing, unless each class has its share of them.
_FEW = 50


@dataclass(frozen=True, eq=False)
class Listed:
    """A listing, which of its pictures are taken, and the labels of these (-1 in an OOD set)."""

    listing: Listing
    rows: np.ndarray
    labels_N: np.ndarray

    @property
    def groups_N(self) -> np.ndarray:
        """What a limit takes in equal share: the labels, or the classes that an OOD set has of its own."""
        names = self.listing.names
        if names is None or self.labels_N.max() >= 0:
            return self.labels_N
        return np.unique([names[row] for row in self.rows], return_inverse=True)[1]


def kept(name: str, spec, listing: Listing) -> tuple[np.ndarray, list[str]]:
    """Return which pictures a spec's ``classes`` and ``drop`` leave, and their class names in our words.

    Raises
    ------
    InputError
        If these name a class that the set does not have, or leave no picture.
    """
    if listing.names is None:
        return np.arange(len(listing)), []
    there = set(listing.names)
    drop, classes = getattr(spec, "drop", ()), getattr(spec, "classes", None)
    absent = sorted((set(classes or {}) | set(drop)) - there)
    if absent:
        raise InputError(
            f"{name} has no class {some(absent)}, which the YAML's classes or drop name.{nearest(absent[0], there)} "
            f"It has: {some(sorted(there))}."
        )
    left = {n: n if classes is None else classes[n] for n in there - set(drop) if classes is None or n in classes}
    if not left:
        raise InputError(f"{name}: classes and drop leave no picture. It has: {some(sorted(there))}.")
    rows = np.array([i for i, n in enumerate(listing.names) if n in left], dtype=np.int64)
    return rows, [left[listing.names[i]] for i in rows]


def label_numbers(
    name: str, names: Iterable[str], benchmark: Benchmark, classes: tuple[str, ...], numbered: bool = False
) -> np.ndarray:
    """Return label numbers (N,) of class names, class ids or, if the set is `numbered`, of numbers as text.

    Raises
    ------
    InputError
        For a name that the benchmark does not have, with both lists.
    """
    number = {class_id: i for i, class_id in enumerate(benchmark.class_ids or ())}
    number.update({c: i for i, c in enumerate(classes)})
    if numbered:
        number = {str(i): i for i in range(len(classes))}
    names = list(names)
    unknown = sorted(set(names) - set(number))
    if unknown:
        known = f"label numbers: 0 to {len(classes) - 1}" if numbered else f"classes: {some(classes)}"
        also = f"\nTheir ids: {some(benchmark.class_ids, 4)}." if benchmark.class_ids and not numbered else ""
        raise InputError(
            f"{name}: class names that the benchmark {benchmark.name!r} does not have: {some(unknown)}.\n"
            f"The benchmark's {known}.{also}\n"
            "Map them in the YAML (classes: {theirs: ours}) or leave them out (drop: [theirs])."
        )
    return np.array([number[n] for n in names], dtype=np.int64)


def held_out_rows(labels_N: np.ndarray, share: float) -> list[np.ndarray]:
    """Return the rows that stay in train and those held out, sorted, in the classes' shares where there are enough.

    Raises
    ------
    InputError
        If the share is too small to choose anything on.
    """
    count = math.ceil(share * len(labels_N))
    classes, sizes = np.unique(labels_N, return_counts=True)
    # One picture a class cannot be held out of a small share of many classes, as in a cut of ImageNet.
    stratify = labels_N if min(count, len(labels_N) - count) >= len(classes) and sizes.min() > 1 else None
    if stratify is None and count < _FEW:
        raise InputError(
            f"validation: {share} of the {len(labels_N)} training pictures cannot be held out: {count} pictures for "
            f"{len(classes)} classes, of which the smallest has {sizes.min()}. "
            "Give a larger share, more pictures, or a validation set of its own."
        )
    parts = train_test_split(np.arange(len(labels_N)), test_size=share, stratify=stratify, random_state=0)
    return [np.sort(part) for part in parts]
