"""The pictures of a benchmark: found, their labels checked by name, held as uint8.

Shapes: N pictures, H = W = the benchmark's side in px, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from . import generated
from .arrays import list_arrays, list_torchvision
from .benchmarks import Benchmark, load_benchmark
from .held import hold
from .image_sets import ImageSet, limited, limited_rows
from .listings import list_pictures
from .made_sets import check_made, corrupted_set, generated_set
from .parameters import InputError
from .set_labels import Listed, held_out_rows, kept, label_numbers
from .settings import TrainSettings, data_root, in_project
from .sources import Listing, MissingError
from .specs import Arrays, Corrupted, Generated, SetSpec, Torchvision


class BenchmarkData:
    """The sets of a benchmark, each read when first asked for.

    Parameters
    ----------
    benchmark : Benchmark
    root : str, optional
        Folder that the YAML's paths start from; default $REPROG_DATA or ``data/``.
    limit : int, optional
        At most so many pictures of each set, the classes in equal share as far as they go.
    cache : Path, optional
        Folder of decoded pictures; without one they are decoded into memory.
    stream : bool
        Decode pictures anew each time they are read.
    bad_pictures, missing_sets : {"stop", "skip"}
        What to do about a picture that cannot be read, and about a shift or OOD set that is not there.

    Attributes
    ----------
    absent : dict
        For each set that was skipped, what is missing.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        root: str | None = None,
        limit: int | None = None,
        cache: Path | None = None,
        stream: bool = False,
        bad_pictures: str = "stop",
        missing_sets: str = "stop",
    ):
        self.benchmark, self.root, self.limit, self.cache = benchmark, data_root(root), limit, cache
        self.stream, self.skip_bad, self.skip_missing = stream, bad_pictures == "skip", missing_sets == "skip"
        self.absent: dict[str, str] = {}
        self._lists: dict[str, Listed] = {}

    @classmethod
    def of(cls, settings: TrainSettings, root: str | None = None) -> BenchmarkData:
        """Return the data that a run's settings ask for; decoded pictures go to $REPROG_CACHE or ``runs/cache``."""
        cache = os.environ.get("REPROG_CACHE") or in_project(settings.runs) / "cache" / "pictures"
        how = {name: getattr(settings, name) for name in ("limit", "stream", "bad_pictures", "missing_sets")}
        return cls(load_benchmark(settings.dataset), root or settings.data_root, cache=Path(cache).expanduser(), **how)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        if self.benchmark.classes:
            return self.benchmark.classes
        spec = self.benchmark.id.train
        if isinstance(spec, Generated):
            return tuple(sorted(generated.DIGIT_NAMES))
        return tuple(sorted(set(kept("train", spec, self._list(spec))[1])))

    @cached_property
    def captions(self) -> list[str]:
        """One caption a class, in label order."""
        return self.benchmark.captions(self.classes)

    @cached_property
    def _train_and_validation(self) -> tuple[ImageSet, ImageSet]:
        held_out, spec = self.benchmark.id.validation, self.benchmark.id.train
        if not isinstance(held_out, float):
            return self.load("train", "id", spec, self.limit), self.load("validation", "id", held_out, self.limit)
        parts = held_out_rows(self._labels("train", spec), held_out)
        fit, rest = (self.load("train", "id", spec, self.limit, part) for part in parts)
        return fit, replace(rest, name="validation")

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
        return self.load("test", "id", self.benchmark.id.test, self.limit)

    @cached_property
    def shift(self) -> dict[str, ImageSet]:
        """Sets of the same classes with another look."""
        return {found.name: found for found in self._there("shift")}

    @cached_property
    def ood(self) -> dict[str, ImageSet]:
        """Sets of other classes; labels are -1."""
        return {found.name: found for found in self._there("ood")}

    def specs(self) -> Iterator[tuple[str, str, SetSpec]]:
        """Yield name, role (id, shift or ood) and spec of every set."""
        for name in ("train", "validation", "test"):
            if not isinstance(spec := getattr(self.benchmark.id, name), float):
                yield name, "id", spec
        for role in ("shift", "ood"):
            for name, spec in getattr(self.benchmark, role).items():
                yield name, role, spec

    def check(self) -> str:
        """List every set without decoding a picture, so that a missing folder or class shows before training.

        Returns
        -------
        str
            A hash of what train and validation list: names of files below the root, and class names.

        Raises
        ------
        InputError
            Names all sets that are missing, or the first that is not right.
        """
        digest, missing = hashlib.sha256(), {}
        for name, role, spec in self.specs():
            try:
                self.listed(name, role, spec)
            except MissingError as error:
                missing[name] = (role, str(error))
                continue
            if name in ("train", "validation") and not isinstance(spec, Generated):
                _hash_listed(digest, self._lists[name], str(self.root))
        needed = {name for name, (role, _) in missing.items() if role == "id" or not self.skip_missing}
        self.absent = {name: why for name, (_, why) in missing.items() if name not in needed}
        if needed:
            raise MissingError(_not_there({name: missing[name][1] for name in missing if name in needed}, self))
        return digest.hexdigest()

    def listed(self, name: str, role: str, spec: SetSpec) -> Listed | None:
        """Return a set as it is found, its labels checked by name; None where pictures are drawn or made here."""
        if isinstance(spec, Generated | Corrupted):
            check_made(name, role, spec, self.root)
            return None
        if name not in self._lists:
            listing = self._list(spec, role == "ood")
            rows, names = kept(name, spec, listing)
            if role == "ood":
                labels = np.full(len(rows), -1, np.int64)
            elif listing.names is None:
                raise InputError(f"{name}: its pictures have no class names, and only an OOD set needs none.")
            else:
                numbered = spec.numbered and not spec.classes
                labels = label_numbers(name, names, self.benchmark, self.classes, numbered)
            self._lists[name] = Listed(listing, rows, labels)
        return self._lists[name]

    def _list(self, spec: SetSpec, flat: bool = False) -> Listing:
        lists = {Arrays: list_arrays, Torchvision: list_torchvision}.get(type(spec), list_pictures)
        return lists(self.root, spec, flat)

    def _labels(self, name: str, spec: SetSpec) -> np.ndarray:
        found = self.listed(name, "id", spec)
        return self.load(name, "id", spec, limit=None).labels_N if found is None else found.labels_N

    def _there(self, role: str) -> Iterator[ImageSet]:
        for name, spec in getattr(self.benchmark, role).items():
            try:
                yield self.load(name, role, spec, limit=self.limit)
            except MissingError as error:
                if not self.skip_missing:
                    raise
                self.absent[name] = str(error)

    def load(self, name: str, role: str, spec: SetSpec, limit: int | None, part: np.ndarray | None = None) -> ImageSet:
        """Return a set, or a `part` of its pictures, no more than `limit`."""
        if isinstance(spec, Generated):
            source = self._source(spec.of, self.limit) if spec.of else None
            drawn = generated_set(name, role, spec, self.benchmark, self.classes, source)
            return limited(drawn if part is None else drawn.take(part), limit)
        if isinstance(spec, Corrupted):
            check_made(name, role, spec, self.root)
            name, found = corrupted_set(name, role, spec, self._source(spec.of, None), self.root)
        else:
            found = self.listed(name, role, spec)
        part = np.arange(len(found.rows)) if part is None else part
        # Rows of corrupted pictures are in an order whose beginning is a fair share already.
        groups = found.labels_N.clip(0) if isinstance(spec, Corrupted) else found.groups_N
        part = part[limited_rows(groups[part], limit)]
        covered = () if role == "ood" else tuple(np.unique(found.labels_N).tolist())
        data = ImageSet(name, np.empty(0, np.uint8), found.labels_N[part], covered)
        where = (self.benchmark.side, self.cache, self.stream, self.skip_bad)
        return hold(data, found.listing, found.rows[part], *where)

    def _source(self, of: str, limit: int | None) -> ImageSet:
        """Return the ID set that another is made of."""
        if of != "test" or limit == self.limit:
            return getattr(self, of)
        return self.load("test", "id", self.benchmark.id.test, limit)


def _hash_listed(digest, found: Listed, root: str) -> None:
    for row, label in zip(found.rows, found.labels_N):
        digest.update(f"{found.listing.places[row].removeprefix(root)}\0{label}\n".encode())


def _not_there(missing: dict[str, str], data: BenchmarkData) -> str:
    """Return one message about all sets that are missing."""
    lines = "\n".join(f"  {name}: {why}" for name, why in missing.items())
    skip = " Or leave them out: -p missing_sets skip." if not {"train", "validation", "test"} & set(missing) else ""
    return (
        f"{len(missing)} of the sets of {data.benchmark.name!r} are not there:\n{lines}\n"
        f"`python -m reprog_kit doctor {data.benchmark.name}` says how to get them.{skip}"
    )
