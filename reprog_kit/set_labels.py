"""A set's own class names, or numbers, become the benchmark's labels, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .benchmarks import Benchmark
from .parameters import InputError, nearest
from .sources import Listing, some


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
