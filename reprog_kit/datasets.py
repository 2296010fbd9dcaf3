"""The pictures of a benchmark: found, their labels checked by name, held as uint8.

Shapes: N pictures, H = W = the benchmark's side in px, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sklearn.model_selection import train_test_split

from . import generated
from .benchmarks import Benchmark
from .listings import list_folder, list_parquet
from .parameters import InputError, nearest
from .settings import data_root
from .sources import Listing, decode, some
from .specs import Folder, Generated, SetSpec


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded pictures of one set.

    Attributes
    ----------
    name : str
        As the benchmark spells it.
    images_NHWC : ndarray of uint8
    labels_N : ndarray of int64
        Index into the benchmark's class names; -1 in an OOD set.
    covered : tuple of int
        The classes that this set holds pictures of; accuracy is scored over these alone.
    """

    name: str
    images_NHWC: np.ndarray
    labels_N: np.ndarray
    covered: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the pixels, hexadecimal."""
        return hashlib.sha256(np.ascontiguousarray(self.images_NHWC).data).hexdigest()

    def take(self, chosen: np.ndarray) -> ImageSet:
        """Return the set with these pictures alone, in this order."""
        return replace(self, images_NHWC=self.images_NHWC[chosen], labels_N=self.labels_N[chosen])


class BenchmarkData:
    """The sets of a benchmark, each read when first asked for.

    Parameters
    ----------
    benchmark : Benchmark
    root : str, optional
        Folder that the YAML's paths start from; default $REPROG_DATA or ``data/``.
    limit : int, optional
        At most so many pictures of each set, the classes in equal share as far as they go.
    """

    def __init__(self, benchmark: Benchmark, root: str | None = None, limit: int | None = None):
        self.benchmark, self.root, self.limit = benchmark, data_root(root), limit

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.benchmark.classes or tuple(
            sorted(set(self._kept("train", self.benchmark.id.train, names_only=True)[1]))
        )

    @cached_property
    def captions(self) -> list[str]:
        """One caption a class, in label order."""
        return self.benchmark.captions(self.classes)

    @cached_property
    def _train_and_validation(self) -> tuple[ImageSet, ImageSet]:
        held_out, train = self.benchmark.id.validation, self._load("train", self.benchmark.id.train)
        if not isinstance(held_out, float):
            return limited(train, self.limit), limited(self._load("validation", held_out), self.limit)
        try:
            parts = train_test_split(np.arange(len(train)), test_size=held_out, stratify=train.labels_N, random_state=0)
        except ValueError as error:
            raise InputError(
                f"validation: {held_out} of the {len(train)} training pictures cannot be held out: {error} "
                "Give a larger share, more pictures, or a validation set of its own."
            ) from None
        fit, rest = (train.take(np.sort(part)) for part in parts)
        return limited(fit, self.limit), limited(replace(rest, name="validation"), self.limit)

    @property
    def train(self) -> ImageSet:
        """What programs are fitted to."""
        return self._train_and_validation[0]

    @property
    def validation(self) -> ImageSet:
        """What epochs and alpha are chosen on."""
        return self._train_and_validation[1]

    @cached_property
    def test(self) -> ImageSet:
        """The ID test set; nothing is chosen on it."""
        return limited(self._load("test", self.benchmark.id.test), self.limit)

    @cached_property
    def shift(self) -> dict[str, ImageSet]:
        """Sets of the same classes with another look."""
        return {name: limited(self._load(name, spec), self.limit) for name, spec in self.benchmark.shift.items()}

    @cached_property
    def ood(self) -> dict[str, ImageSet]:
        """Sets of other classes; labels are -1."""
        return {
            name: limited(self._load(name, spec, ood=True), self.limit) for name, spec in self.benchmark.ood.items()
        }

    def check(self) -> str:
        """List every set without decoding a picture, so that a missing folder or class shows before training.

        Returns
        -------
        str
            A hash of what train and validation list: names of files below the root, and class names.
        """
        digest = hashlib.sha256()
        named = {"train": self.benchmark.id.train, "test": self.benchmark.id.test, **self.benchmark.shift}
        if not isinstance(self.benchmark.id.validation, float):
            named["validation"] = self.benchmark.id.validation
        for name, spec in {**named, **self.benchmark.ood}.items():
            if isinstance(spec, Generated):
                _generator(name, spec, ood=name not in named)
                continue
            listing, names = self._kept(name, spec, flat=name not in named, names_only=True)
            if name in named:
                self._labels(name, names)
            if name in ("train", "validation"):
                for place, class_name in zip(listing.places, names):
                    digest.update(f"{place.removeprefix(str(self.root))}\0{class_name}\n".encode())
        return digest.hexdigest()

    def _load(self, name: str, spec: SetSpec, ood: bool = False) -> ImageSet:
        if isinstance(spec, Generated):
            return self._generate(name, spec, ood)
        listing, names = self._kept(name, spec, flat=ood)
        labels = np.full(len(listing.items), -1) if ood else self._labels(name, names)
        images = decode(listing.items, listing.places, self.benchmark.side)
        return ImageSet(name, images, labels.astype(np.int64), () if ood else tuple(np.unique(labels).tolist()))

    def _generate(self, name: str, spec: Generated, ood: bool) -> ImageSet:
        generate = _generator(name, spec, ood)
        if spec.of:
            source: ImageSet = getattr(self, spec.of)
            extra = {} if spec.strength is None else {"strength": spec.strength}
            made = replace(source, name=name, images_NHWC=generate(source.images_NHWC, **extra))
            return replace(made, labels_N=np.full(len(made), -1), covered=()) if ood else made
        drawn = generate(self.benchmark.side, **({"split": spec.split} if spec.split else {}))
        if ood:
            images = drawn[0] if isinstance(drawn, tuple) else drawn
            return ImageSet(name, images, np.full(len(images), -1))
        images, numbers = drawn
        labels = self._labels(name, [generated.DIGIT_NAMES[i] for i in numbers])
        return ImageSet(name, images, labels, tuple(np.unique(labels).tolist()))

    def _kept(
        self, name: str, spec: SetSpec, flat: bool = False, names_only: bool = False
    ) -> tuple[Listing, list[str]]:
        """Return the listing without what ``classes`` and ``drop`` leave out, and class names in our words."""
        if isinstance(spec, Generated):
            return Listing((), None, ()), list(generated.DIGIT_NAMES)
        if isinstance(spec, Folder):
            listing = list_folder(self.root, spec, flat)
        else:
            listing = list_parquet(self.root, spec)
        if listing.names is None:
            return listing, []
        absent = (set(spec.classes or {}) | set(spec.drop)) - set(listing.names)
        if absent:
            raise InputError(
                f"{name} ({spec.path}) has no class {sorted(absent)}, which the YAML's classes/drop name. "
                f"It has: {some(sorted(set(listing.names)))}."
            )
        taken = [
            i for i, n in enumerate(listing.names) if n not in spec.drop and (spec.classes is None or n in spec.classes)
        ]
        names = [listing.names[i] if spec.classes is None else spec.classes[listing.names[i]] for i in taken]
        if not taken:
            raise InputError(f"{name}: classes and drop leave no picture. It has: {some(sorted(set(listing.names)))}.")
        items = [] if names_only else [listing.items[i] for i in taken]
        return Listing(items, names, [listing.places[i] for i in taken]), names

    def _labels(self, name: str, names: Iterable[str]) -> np.ndarray:
        """Map class names to label numbers; a name that the benchmark does not have stops with both lists."""
        number, names = {c: i for i, c in enumerate(self.classes)}, list(names)
        unknown = sorted(set(names) - set(number))
        if unknown:
            raise InputError(
                f"{name}: class names that the benchmark {self.benchmark.name!r} does not have: {some(unknown)}.\n"
                f"The benchmark's classes: {some(self.classes)}.\n"
                "Map them in the YAML (classes: {theirs: ours}) or leave them out (drop: [theirs])."
            )
        return np.array([number[n] for n in names], dtype=np.int64)


def limited(data: ImageSet, limit: int | None) -> ImageSet:
    """Return at most so many pictures of a set, the classes in equal share as far as they go."""
    if limit is None or len(data) <= limit:
        return data
    # Take turns through the classes: the k-th picture of each class comes before any (k+1)-th.
    order = np.lexsort((np.arange(len(data)), _rank_in_class(data.labels_N)))
    return data.take(np.sort(order[:limit]))


def _generator(name: str, spec: Generated, ood: bool) -> Callable:
    known = generated.CORRUPTIONS if spec.of else generated.DRAWN
    if spec.name not in known:
        guess = nearest(spec.name, known)
        raise InputError(f"{name}: nothing generates {spec.name!r}.{guess} Known: {', '.join(known)}.")
    splits = generated.LABELLED.get(spec.name)
    if not spec.of and splits is None and not ood:
        raise InputError(f"{name}: {spec.name!r} has no classes of the benchmark; it can be an OOD set.")
    if not spec.of and spec.split not in (splits or (None,)):
        raise InputError(
            f"{name}: split = {spec.split!r} is refused for {spec.name!r}: {', '.join(splits or ('none',))}."
        )
    return known[spec.name]


def _rank_in_class(labels_N: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(labels_N), dtype=np.int64)
    for label in np.unique(labels_N):
        where = np.flatnonzero(labels_N == label)
        ranks[where] = np.arange(len(where))
    return ranks
