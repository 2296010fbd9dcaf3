"""The data doctor: is each set of a benchmark where it is looked for, whole, of its classes, and apart from train?

It works offline.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from .arrays import integrity
from .corruptions import INSTALL
from .data_diagnosis import DataDiagnosis, SetFound
from .datasets import BenchmarkData, Listed
from .downloads import by_hand, download, is_there, to_get
from .image_sets import ImageSet, Rows, limited_rows
from .parameters import InputError
from .picture_cache import PictureCache
from .settings import TrainSettings
from .sources import MissingError, bad_pictures, decode_what_can_be
from .specs import Corrupted, Generated, SetSpec, Torchvision

# So many pictures are decoded without being asked to, for the comparison with train.
_AT_ONCE = 20_000
_SHOWN = 8


def doctor(
    dataset: str | TrainSettings = "demo", data_root: str | None = None, runs: str = "runs", decode: bool = False
) -> DataDiagnosis:
    """Examine the sets of a benchmark.

    Parameters
    ----------
    dataset : str or TrainSettings
        A benchmark's name in params/, or the path of a YAML; or settings that say this and the rest.
    data_root : str, optional
        Folder of the pictures; default $REPROG_DATA, else data/.
    runs : str
        Folder of the run folders, where decoded pictures are cached.
    decode : bool
        Decode every picture into the cache that training reads, and compare the whole cache with its hashes. Without
        it pictures are decoded only if no more than 20,000 are left, and the settings have no ``limit``.

    Raises
    ------
    InputError
        If there is no such benchmark; what is wrong with a set is part of the answer.
    """
    settings = _settings(dataset, data_root, runs)
    quick_look = settings.limit is not None
    data = BenchmarkData.of(settings.model_copy(update={"limit": None}))
    found = {name: _find(name, role, spec, data) for name, role, spec in data.specs()}
    undecoded = _compare(data, found, at_most=None if decode else 0 if quick_look else _AT_ONCE)
    sets = tuple(one for one, _ in found.values())
    try:
        classes = data.classes
    except InputError:  # they are read off training pictures that are not there
        classes = ()
    steps = tuple(_steps(settings, data, sets, undecoded, begun=settings is dataset))
    return DataDiagnosis(data.benchmark.name, classes, data.root.resolve(), sets, steps)


def fetch_missing(dataset: str, data_root: str | None = None, runs: str = "runs") -> list[str]:
    """Fetch every set of a benchmark that is missing and can be fetched; return what went wrong, a message a set."""
    data, failed = BenchmarkData.of(_settings(dataset, data_root, runs)), []
    for name, _, spec in data.specs():
        if is_there(data.root, spec) or not to_get(spec):
            continue
        print(f"{name}:", flush=True)
        try:
            print(f"  in {download(data.root, name, spec)}", flush=True)
        except InputError as error:
            failed.append(str(error))
    return failed


def _settings(dataset: str | TrainSettings, data_root: str | None, runs: str) -> TrainSettings:
    if isinstance(dataset, TrainSettings):
        return dataset
    return TrainSettings.build(dataset=dataset, method="zero_shot", data_root=data_root, runs=runs)


def _find(name: str, role: str, spec: SetSpec, data: BenchmarkData) -> tuple[SetFound, Listed | ImageSet | None]:
    """Return what there is of a set, and the set itself where its pictures can be compared with train."""
    one = SetFound(name, role, _where(spec, data.root), expected=getattr(spec, "count", None))
    try:
        held = data.listed(name, role, spec)
        one.found = True
        if isinstance(spec, Corrupted) and not _published_there(spec, data.root):
            one.expected = None
            return one, None  # made when it is evaluated, which takes its time
        held = held or data.load(name, role, spec, limit=None)
    except MissingError as error:
        # What is missing may be another set: that whose folders name the classes, or that which this is made of.
        if not one.found and is_there(data.root, spec):
            one.found = True
            one.problems.append(f"cannot be examined yet: {str(error).split('. ')[0]}.")
        return one, None
    except InputError as error:
        one.found = True
        one.problems.append(str(error).removeprefix(f"{name}: ").removeprefix(f"{name} "))
        return one, None
    one.pictures, one.taken = len(held.listing if isinstance(held, Listed) else held), len(held.labels_N)
    if one.expected not in (None, one.pictures):
        one.problems.append(f"{one.pictures:,} pictures; the published set has {one.expected:,}. Get it again.")
    if isinstance(spec, Torchvision) and integrity(data.root, spec) is False:
        one.problems.append("its files are not the published ones (their checksums differ).")
    one.classes = _classes(role, spec, held, data)
    one.samples = _samples(held, data)
    return one, None if isinstance(spec, Corrupted) else held


def _where(spec: SetSpec, root: Path) -> str:
    if isinstance(spec, Generated):
        return f"made of {spec.of}" if spec.of else "drawn"
    if isinstance(spec, Corrupted):
        return spec.published if _published_there(spec, root) else f"made of {spec.of}"
    inside = f", {spec.name} {spec.split}" if isinstance(spec, Torchvision) else ""
    place = root / Path(spec.path).expanduser()
    shown = place.relative_to(root) if place.is_relative_to(root) else place
    return f"{shown}{inside}"


def _published_there(spec: Corrupted, root: Path) -> bool:
    return bool(spec.published) and (root / spec.published).is_dir()


def _classes(role: str, spec: SetSpec, held: Listed | ImageSet, data: BenchmarkData) -> str:
    if role == "ood":
        names = held.listing.names if isinstance(held, Listed) else None
        return f"{len({names[row] for row in held.rows})} of its own" if names is not None else ""
    ids = set(data.benchmark.class_ids or ())
    by = "number" if getattr(spec, "numbered", False) else "name"
    if isinstance(held, Listed) and held.listing.names[held.rows[0]] in ids:
        by = "id"
    return f"{len(np.unique(held.labels_N))} of {len(data.classes)}, by {by}"


def _samples(held: Listed | ImageSet, data: BenchmarkData) -> list[tuple[np.ndarray, str]]:
    """Return a few pictures, of as many classes as can be, with the benchmark's names of these."""
    labels = held.labels_N
    chosen = limited_rows(labels, _SHOWN) if labels.max() >= 0 else np.linspace(0, len(labels) - 1, _SHOWN).astype(int)
    chosen = np.unique(chosen)
    if isinstance(held, Listed):
        images, bad = decode_what_can_be(held.listing.items, data.benchmark.side, held.rows[chosen])
    else:
        images, bad = np.asarray(held.images_NHWC[chosen]), {}
    return [
        (image, data.classes[labels[row]] if labels[row] >= 0 else "")
        for i, (image, row) in enumerate(zip(images, chosen))
        if i not in bad
    ]


def _compare(data: BenchmarkData, found: dict, at_most: int | None) -> int:
    """Count the pictures of each set that also stand in train, pixel by pixel; return how many are not decoded yet.

    No more than `at_most` are decoded for it; None decodes all, and looks through the whole cache.
    """
    side, stores = data.benchmark.side, {}
    for name, (_, held) in found.items():
        if isinstance(held, Listed) and not held.listing.fits(side):
            stores[name] = PictureCache(data.cache, held.listing, side)
    left = {name: len(store.missing(found[name][1].rows)) for name, store in stores.items()}
    if at_most is None or sum(left.values()) <= at_most:
        for name, store in stores.items():
            _decode(found[name][0], found[name][1], store, thoroughly=at_most is None)
        left = {}
    known = {name: held for name, (_, held) in found.items() if held is not None and not left.get(name)}
    digests = {name: _digests(held, stores.get(name), side) for name, held in known.items()}
    fitted = {digest for name in ("train", "validation") for digest in digests.get(name, ())}
    for name in digests.keys() - {"train", "validation"} if "train" in digests else ():
        one = found[name][0]
        one.in_train = sum(digest in fitted for digest in digests[name])
        if one.in_train:
            one.problems.append(f"{one.in_train:,} of its pictures stand in the training pictures too.")
    return sum(left.values())


def _digests(held: Listed | ImageSet, store: PictureCache | None, side: int) -> list[bytes]:
    """Return a hash of each picture that can be read."""
    if store is not None:
        return [row.tobytes() for row in store.digests(held.rows) if row.any()]
    if isinstance(held, Listed):
        held = ImageSet("", Rows(held.listing.items, held.rows, side), held.labels_N)
    return [row.tobytes() for row in held.digests_N16]


def _decode(one: SetFound, held: Listed, store: PictureCache, thoroughly: bool) -> None:
    if thoroughly:
        damaged = store.damaged(np.setdiff1d(held.rows, store.missing(held.rows)), most=None)
        if len(damaged):
            store.forget(damaged)
            one.problems.append(f"{len(damaged):,} decoded pictures were damaged on the disk, and are made anew.")
    if bad := store.fill(held.rows, name=one.name):
        one.problems.append(bad_pictures([(held.listing.places[row], why) for row, why in bad.items()]))


def _steps(
    settings: TrainSettings, data: BenchmarkData, sets: tuple[SetFound, ...], undecoded: int, begun: bool
) -> list[str]:
    """Return what to do, in order; where a training has `begun` that is only what stands in its way."""
    steps, specs = [], {name: spec for name, _, spec in data.specs()}
    missing = [one for one in sets if not one.found]
    if missing and not data.root.is_dir():
        steps.append(f"Make the data root {data.root.resolve()}, or name another in $REPROG_DATA or with -p data_root.")
    fetched = [one.name for one in missing if to_get(specs[one.name])]
    if fetched:
        steps.append(f"{_command('download', settings)}    # fetches {', '.join(fetched)}")
    for one in missing:
        made = isinstance(spec := specs[one.name], Corrupted) and not spec.published
        steps += [] if one.name in fetched else [INSTALL if made else by_hand(one.name, spec, data.root)]
    if any(one.problems for one in sets):
        steps.append("See to the lines marked with ! above.")
    if undecoded:
        steps.append(
            f"{_command('doctor', settings)} --decode    # decodes {undecoded:,} pictures "
            f"({undecoded * data.benchmark.side**2 * 3 / 1e9:.1f} GB), as training would, and compares them with train"
        )
    if any(one.role == "id" and not one.found for one in sets):
        return [*steps, f"{_command('doctor', settings)}    # once more"]
    if begun and not missing:
        return steps or ["Nothing: every set is there."]
    skip = " -p missing_sets skip" if missing else ""
    return [*steps, f"{_command('reproduce', settings)}{skip}    # trains, evaluates and writes one page"]


def _command(verb: str, settings: TrainSettings) -> str:
    """Return a command with the paths that this one was given."""
    given = {name: getattr(settings, name) for name in ("data_root", "runs")}
    more = [f" -p {name} {shlex.quote(path)}" for name, path in given.items() if path not in (None, "runs")]
    return f"python -m reprog_kit {verb} {shlex.quote(settings.dataset)}{''.join(more)}"
