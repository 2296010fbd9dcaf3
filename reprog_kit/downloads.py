"""A set fetched from where it lives, whole or not at all; what cannot be fetched is said in words."""

from __future__ import annotations

import contextlib
import glob
import http.client
import inspect
import shutil
import socket
import tarfile
import urllib.error
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from torchvision import datasets
from torchvision.datasets.utils import download_url

from .parameters import InputError, nearest
from .specs import Arrays, Corrupted, Download, Generated, SetSpec, Torchvision

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
SILENCE_S = 60  # how long a server may say nothing
_DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile)
_FAILURES = (OSError, RuntimeError, tarfile.TarError, http.client.HTTPException, *_DAMAGED)


def to_get(spec: SetSpec) -> bool:
    """Say whether `download` can fetch a set; the others are got by hand, or made here."""
    if _said(spec):
        return True
    return isinstance(spec, Torchvision) and "download" in inspect.signature(_class(spec.name)).parameters


def by_hand(name: str, spec: SetSpec, root: Path) -> str:
    """Return the sentence that tells a person where a set lives and what must stand where."""
    paths = _paths(spec)
    if not paths:
        return f"{name} is made here; there is nothing to get."
    root = Path(root).expanduser().resolve()
    if not spec.home and not spec.layout:
        places = " and ".join(str(root / Path(path).expanduser()) for path in paths)
        return f"{name}: put it at {places}, or correct its path in the YAML."
    where = f"{name} lives at {spec.home}." if spec.home else f"The YAML does not say where {name} lives."
    return f"{where} What must stand below {root}: {spec.layout or ' and '.join(paths)}"


def is_there(root: Path, spec: SetSpec) -> bool:
    """Say whether something stands where a set belongs; whether it is the whole set is for its reader to say."""
    root = Path(root).expanduser()
    if isinstance(spec, Torchvision):
        with contextlib.suppress(*_FAILURES):
            _build(spec, root / spec.path)
            return True
        return False
    places = [root / Path(path).expanduser() for path in _paths(spec)]
    return bool(places) and all(any(p.iterdir()) if p.is_dir() else bool(glob.glob(str(p))) for p in places)


def download(root: Path, name: str, spec: SetSpec) -> Path:
    """Fetch a set to below the data root and return the folder it lies in; one that is there is left alone.

    Everything is fetched and unpacked in a hidden folder and put in its place once it is complete. Archives that were
    unpacked are removed; torchvision's classes keep theirs, which some of them check.

    Raises
    ------
    InputError
        If it could not be had (no network, another checksum, a damaged archive, a member that leads out of the folder,
        a full disk): the reason, where the set lives and what must stand where. Nothing is left half written.
    """
    root, said = Path(root).expanduser(), _said(spec)
    if not to_get(spec):
        raise InputError(f"{name} cannot be fetched automatically. {by_hand(name, spec, root)}")
    place = root / (said.into if said else spec.path)
    if is_there(root, spec):
        return place
    what = name
    try:
        with _staging(root, name) as staging, _impatient():
            if said is None or said.torchvision:
                _build(spec, staging, download=True)
            else:
                for url, md5 in zip(said.urls, said.md5 or [None] * len(said.urls)):
                    what = f"{name} ({url})"
                    _fetch(url, md5, staging)
            _move(staging, place)
    except _FAILURES as error:
        raise InputError(f"{what} could not be had: {_reason(error)}. {by_hand(name, spec, root)}") from None
    if not is_there(root, spec):
        lacking = " or ".join(_paths(spec))
        raise InputError(f"{name} was fetched to {place}, but {lacking} is not there. {by_hand(name, spec, root)}")
    return place


def _said(spec: SetSpec) -> Download | None:
    return getattr(spec, "download", None)


def _paths(spec: SetSpec) -> list[str]:
    """Return what a set is read from, below the data root; nothing, if it is made here."""
    if isinstance(spec, Generated):
        return []
    if isinstance(spec, Corrupted):
        return [spec.published] if spec.published else []
    return [spec.path, spec.labels] if isinstance(spec, Arrays) and spec.labels else [spec.path]


def _class(name: str) -> Any:
    known = [n for n in datasets.__all__ if inspect.isclass(getattr(datasets, n))]
    if name not in known:
        raise InputError(f"torchvision.datasets has no class {name!r}.{nearest(name, known)}")
    return getattr(datasets, name)


def _build(spec: SetSpec, folder: Path, download: bool = False) -> None:
    """Build torchvision's data set: the class and options that `download` says, or the spec's own name and split."""
    said = _said(spec)
    if said and said.torchvision:
        name, options = said.torchvision, dict(said.options)
    else:
        takes = inspect.signature(_class(spec.name)).parameters
        choice = {"train": spec.split == "train", "split": spec.split}
        name, options = spec.name, {k: v for k, v in choice.items() if k in takes}
    if download:
        options["download"] = True
    try:
        _class(name)(root=str(folder), **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"torchvision's {name} refuses {options}: {error}") from None


def _fetch(url: str, md5: str | None, folder: Path) -> None:
    """Fetch a file, and unpack it if it is an archive."""
    file = folder / unquote(Path(urlsplit(url).path).name)
    download_url(url, str(folder), file.name, md5)
    if not md5:
        _check_length(url, file)
    if not file.name.lower().endswith(ARCHIVES):
        return
    if file.suffix.lower() == ".zip":
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)  # takes "..", drives and leading slashes off the names
    else:
        shutil.unpack_archive(file, folder, filter="data")  # refuses members that lead out of the folder
    file.unlink()


def _check_length(url: str, file: Path) -> None:
    """Compare a file that has no checksum with the length its server names: a line that drops raises no error."""
    length = None
    with contextlib.suppress(*_FAILURES), urlopen(Request(url, method="HEAD")) as answer:
        length = answer.headers.get("Content-Length")
    if length and int(length) != file.stat().st_size:
        raise EOFError


def _move(source: Path, target: Path) -> None:
    """Move what a folder holds into another, whose own files stay unless they have the same name."""
    target.mkdir(parents=True, exist_ok=True)
    for item in sorted(source.iterdir()):
        there = target / item.name
        if item.is_dir() and there.is_dir():
            _move(item, there)
        else:
            shutil.move(item, there)


@contextlib.contextmanager
def _staging(root: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder below the data root, and remove it whatever happens."""
    folder = root / f".{name.replace('/', '-')}.part"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder} is there: {name} is being fetched. If it is not, remove that folder.") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Give up on servers that say nothing; torchvision would wait for ever."""
    usual = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(usual)


def _reason(error: Exception) -> str:
    """Return in one line why something could not be had."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} ({error.reason})"
    if isinstance(error, urllib.error.URLError):
        return f"there is no way to the server ({error.reason})"
    if isinstance(error, RuntimeError) and "corrupted" in str(error):
        return "it has another checksum (md5) than the published file, so it is damaged or was changed"
    if isinstance(error, _DAMAGED):
        return "it was cut off or damaged on its way"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0].rstrip(".")
