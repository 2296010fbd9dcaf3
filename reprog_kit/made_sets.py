"""Sets that no file holds: drawn by `reprog_kit.generated`, or made of another set of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import generated
from .benchmarks import Benchmark
from .corruptions import CorruptedItems, check_names, library
from .image_sets import ImageSet
from .parameters import InputError, nearest
from .published_corruptions import published
from .set_labels import Listed, label_numbers
from .sources import Listing, MissingError
from .specs import Corrupted, Generated


def check_made(name: str, role: str, spec: Generated | Corrupted, root: Path) -> None:
    """Stop with an InputError where the spec asks for what nothing makes, or what nothing here can make."""
    if isinstance(spec, Generated):
        _generator(name, spec, role == "ood")
        return
    check_names(spec.names, spec.severities)
    if _published(spec, root) is None:
        try:
            library()
        except InputError as error:
            also = f"There are no published files at {root / spec.published}. " if spec.published else ""
            raise MissingError(f"{also}{error}") from None


def generated_set(
    name: str, role: str, spec: Generated, benchmark: Benchmark, classes: tuple[str, ...], source: ImageSet | None
) -> ImageSet:
    """Return a set that is drawn, or made of `source`."""
    generate, ood = _generator(name, spec, role == "ood"), role == "ood"
    if source is not None:
        extra = {} if spec.strength is None else {"strength": spec.strength}
        made = replace(source, name=name, images_NHWC=generate(source.images_NHWC, **extra), known_N16=None)
        return replace(made, labels_N=np.full(len(made), -1), covered=()) if ood else made
    drawn = generate(benchmark.side, **({"split": spec.split} if spec.split else {}))
    if ood:
        images = drawn[0] if isinstance(drawn, tuple) else drawn
        return ImageSet(name, images, np.full(len(images), -1))
    images, numbers = drawn
    labels = label_numbers(name, [generated.DIGIT_NAMES[i] for i in numbers], benchmark, classes)
    return ImageSet(name, images, labels, tuple(np.unique(labels).tolist()))


def corrupted_set(name: str, role: str, spec: Corrupted, source: ImageSet, root: Path) -> tuple[str, Listed]:
    """Return a set of corrupted pictures before one is made or read, and its name.

    Made pictures are not the published ones (other constants), so their set is called ``<name>_made`` where the
    benchmark names a published one. Of that all pictures are taken, of the others ``per_picture`` variants of each.

    Raises
    ------
    InputError
        If the published files are not those of this test set, or the library is not installed.
    """
    if folder := _published(spec, root):
        items = published(folder, spec.names, spec.severities, len(source), source.labels_N)
        rows, places = np.arange(len(items)), items.places
    else:
        items = CorruptedItems(source.images_NHWC, spec.names, spec.severities)
        rows = np.arange(len(source) * min(spec.per_picture, len(items.variants)))
        # What is made is cached as files are: its places name what it is made of, and by what.
        about = f"{items.origin}, of {source.fingerprint[:16]}"
        places = [f"{items.places[row]}, {about}" for row in rows]
        name = f"{name}_made" if spec.published else name
    labels = np.full(len(rows), -1, np.int64) if role == "ood" else source.labels_N[rows % len(source)]
    return name, Listed(Listing(items, None, places), rows, labels)


def _published(spec: Corrupted, root: Path) -> Path | None:
    folder = root / Path(spec.published).expanduser() if spec.published else None
    return folder if folder is not None and folder.is_dir() else None


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
