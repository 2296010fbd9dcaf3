"""Where encoded pictures come from: image folders, parquet files, tar files. Labels are read here, pictures later."""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from .parameters import InputError
from .sources import Listing, missing, some
from .specs import Folder, Parquet, Tar

SKIPPED = (".", "__MACOSX")  # Jupyter leaves .ipynb_checkpoints behind, macOS ._photo.jpg and __MACOSX


def list_pictures(root: Path, spec: Folder | Parquet | Tar, flat: bool = False) -> Listing:
    """List a folder, parquet files or tar files, as the spec says; with `flat` the set needs no labels."""
    return {Folder: list_folder, Parquet: list_parquet, Tar: list_tar}[type(spec)](root, spec, flat)


def list_folder(root: Path, spec: Folder, flat: bool = False) -> Listing:
    """List an image folder: one folder a class, or with `flat` also pictures without class folders.

    The ILSVRC devkit, where the spec names it, labels pictures without class folders by their WordNet IDs (n01440764).
    """
    folder = root / Path(spec.path).expanduser()
    if not folder.is_dir():
        raise missing(folder, root)
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(SKIPPED)]
    classes = sorted(entry.name for entry in entries if entry.is_dir())
    loose = sorted(str(folder / e.name) for e in entries if _is_picture(e.name) and not e.is_dir())
    if loose and spec.devkit and not classes:
        return Listing(loose, _devkit_names(root, spec.devkit, folder, len(loose)), loose)
    if loose and flat:
        return Listing(loose, None, loose)
    if not classes:
        raise InputError(f"{folder} holds no class folder. Put each class's pictures into a folder named after it.")
    pictures = {name: _pictures_below(str(folder / name)) for name in classes}
    if empty := [name for name in classes if not pictures[name]]:
        raise InputError(
            f"{folder} has class folders without a picture: {some(empty)}. Every class folder must hold a picture "
            f"({', '.join(IMG_EXTENSIONS)}); remove or fill the empty ones."
        )
    paths = [path for name in classes for path in pictures[name]]
    return Listing(paths, [name for name in classes for _ in pictures[name]], paths)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(SKIPPED)


def _pictures_below(folder: str) -> list[str]:
    walked = []
    for here, below, names in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if not name.startswith(SKIPPED)]
        walked.append((here, sorted(filter(_is_picture, names))))
    return [f"{here}{os.sep}{name}" for here, names in sorted(walked) for name in names]


def _devkit_names(root: Path, devkit: str, folder: Path, count: int) -> list[str]:
    from scipy.io import loadmat

    data = root / Path(devkit).expanduser() / "data"
    truth, meta = data / "ILSVRC2012_validation_ground_truth.txt", data / "meta.mat"
    if absent := [path for path in (truth, meta) if not path.is_file()]:
        raise missing(absent[0], root)
    try:
        numbers = [int(line) for line in truth.read_text().split()]
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True)["synsets"])
        wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if s["num_children"] == 0}
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise InputError(f"{data} cannot be read as the ILSVRC devkit ({error}). Unpack the devkit again.") from None
    if len(numbers) != count:
        why = f"{folder} holds {count} pictures; {truth} labels {len(numbers)}, in the order of file names."
        raise InputError(f"{why} Add the missing pictures, or remove those that are not of the set.")
    if unknown := sorted(set(numbers) - set(wnids)):
        raise InputError(f"{truth} holds IDs that are no class of {meta}: {some(unknown)}. Unpack the devkit again.")
    return [wnids[number] for number in numbers]


def name_numbers(numbers: Sequence[int], names: Sequence[str] | None, place: str) -> list[str]:
    """Return the name of each label number, without names its digits; refuse one below 0 or beyond the names."""
    if min(numbers, default=0) < 0:
        why = f"{place} holds the label {min(numbers)}: the labels of this part are withheld."
        raise InputError(f"{why} Take another part, such as the validation split; only an OOD set needs no labels.")
    if names is not None and max(numbers, default=-1) >= len(names):
        why = f"{place} holds the label {max(numbers)}; there are names for 0 to {len(names) - 1}."
        raise InputError(f"{why} Name every class, in the set's own order.")
    return [str(number) if names is None else names[number] for number in numbers]


def _files(root: Path, path: str) -> list[str]:
    """Return the files that a path, a glob or a range such as ``{000..146}`` names; none of a range may lack."""
    if span := re.search(r"\{(\d+)\.\.(\d+)\}", path):
        numbers = (f"{n:0{len(span[1])}}" for n in range(int(span[1]), int(span[2]) + 1))
        found = [file for n in numbers for file in _files(root, path[: span.start()] + n + path[span.end() :])]
    else:
        pattern = str(Path(path).expanduser())
        here = [pattern] if (root / pattern).is_file() else sorted(glob.glob(pattern, root_dir=root))
        found = [str(root / name) for name in here]
    if not found:
        raise missing(root / path, root)
    return found


class _Members(Sequence):
    """Pictures in tar files, read when they are indexed: where_N3 holds the number of the file, offset and size."""

    def __init__(self, files: list[str], where_N3: np.ndarray):
        self._files, self._where_N3 = files, where_N3

    def __len__(self) -> int:
        return len(self._where_N3)

    def __getitem__(self, i: int) -> bytes:
        file, offset, size = self._where_N3[i].tolist()
        with open(self._files[file], "rb") as tar:
            tar.seek(offset)
            return tar.read(size)


class _Rows(_Members):
    """The same for parquet files (file, row group, row in it), a row group at a time; the last two groups are kept."""

    def __init__(self, files: list[str], where_N3: np.ndarray, column: str):
        super().__init__(files, where_N3)
        self._column, self._lock = column, Lock()
        self._held: OrderedDict[tuple[int, int], Future] = OrderedDict()

    def __getitem__(self, i: int) -> bytes | None:
        file, group, row = self._where_N3[i].tolist()
        value = self._group(file, group)[row].as_py()
        # Hugging Face writes {"bytes": …, "path": …}; a plain table holds the bytes themselves.
        return value["bytes"] if isinstance(value, dict) else value

    def _group(self, file: int, group: int) -> Sequence:
        with self._lock:
            if mine := (file, group) not in self._held:
                while len(self._held) > 1:
                    self._held.popitem(last=False)
                self._held[file, group] = Future()
            found = self._held[file, group]
        if mine:  # threads ask for neighbouring rows: the first reads their group, the others wait for it
            try:
                with _opened(self._files[file]) as parquet:
                    found.set_result(parquet.read_row_group(group, columns=[self._column])[self._column])
            except BaseException as error:
                found.set_exception(error)
        return found.result()


@contextmanager
def _opened(file: str) -> Iterator:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (ArrowException, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{file} cannot be read as a parquet file ({error}). Copy or download it again.") from None


def list_parquet(root: Path, spec: Parquet, flat: bool = False) -> Listing:
    """List the pictures of one or many parquet files; with `flat` their labels may be absent or withheld."""
    files, where, names, places = _files(root, spec.path), [], [], []
    for number, file in enumerate(files):
        sizes, row_N, found = _parquet_rows(file, spec, flat)
        group_N, starts = np.repeat(np.arange(len(sizes)), sizes)[row_N], np.cumsum(sizes) - sizes
        where.append(np.column_stack([np.full_like(row_N, number), group_N, row_N - starts[group_N]]))
        names += found
        places += [f"{file}, row {row}" for row in row_N]
    if not places:
        raise InputError(f"{root / spec.path} has no rows{f' with split == {spec.split!r}' if spec.split else ''}.")
    rows = _Rows(files, np.concatenate(where), spec.image)
    return Listing(rows, None if None in names else names, places, tuple(files))


def _parquet_rows(file: str, spec: Parquet, flat: bool) -> tuple[np.ndarray, np.ndarray, Sequence[str | None]]:
    """Return the sizes of the row groups, the rows that the split takes, and their class names, as far as known."""
    with _opened(file) as parquet:
        present, metadata = parquet.schema_arrow.names, parquet.schema_arrow.metadata or {}
        labelled = not flat or spec.label in present
        wanted = [spec.image] + [spec.label] * labelled + ["split"] * bool(spec.split)
        if not set(wanted) <= set(present):
            raise InputError(f"{file} has the columns {', '.join(present)}; the YAML asks for {', '.join(wanted)}.")
        table = parquet.read(columns=wanted[1:]).to_pydict()
        sizes = np.array([parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)], np.int64)
        info = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
    row_N = np.array([i for i in range(sizes.sum()) if not spec.split or table["split"][i] == spec.split], np.int64)
    labels = [table[spec.label][i] for i in row_N] if labelled else [None] * len(row_N)
    numbered = all(isinstance(label, int) for label in labels)
    if flat and (None in labels or (numbered and min(labels, default=0) < 0)):
        return sizes, row_N, [None] * len(labels)
    if None in labels:
        raise InputError(f"{file}: the column {spec.label} is empty in a row. Name its class, or remove the row.")
    written = None if spec.numbered else info.get("features", {}).get(spec.label, {}).get("names")
    return sizes, row_N, name_numbers(labels, written, file) if numbered else [str(label) for label in labels]


def list_tar(root: Path, spec: Tar, flat: bool = False) -> Listing:
    """List the pictures of tar files as webdataset packs them; with `flat` their labels may be absent."""
    files, where, names, places = _files(root, spec.path), [], [], []
    for number, file in enumerate(files):
        pictures, labels = _tar_members(file, spec.label)
        if not flat and (bare := [key for key, *_ in pictures if key not in labels]):
            raise InputError(f"{file} holds no {spec.label} beside {some(bare)}. `label` in the YAML names its ending.")
        where += [(number, offset, size) for _, _, offset, size in pictures]
        names += [labels.get(key) for key, *_ in pictures]
        places += [f"{file}, {name}" for _, name, *_ in pictures]
    if not places:
        raise InputError(f"{root / spec.path} holds no picture ({', '.join(IMG_EXTENSIONS)}).")
    return Listing(_Members(files, np.array(where)), None if None in names else names, places, tuple(files))


def _tar_members(file: str, label: str) -> tuple[list[tuple[str, str, int, int]], dict[str, str]]:
    """Return key, name, offset and size of each picture, and the labels by key."""
    pictures, labels = [], {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                parts = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", member.name)
                if not parts or not member.isfile():
                    continue
                key, ending = parts.groups()
                if f".{ending.lower()}" in IMG_EXTENSIONS:
                    pictures.append((key, member.name, member.offset_data, member.size))
                elif ending == label:
                    text = tar.extractfile(member).read().decode().strip()
                    if labels.setdefault(key, text) != text:
                        raise tarfile.ReadError(f"{key} has two labels, {labels[key]!r} and {text!r}")
            # For tarfile a file that ends between two members, without its end mark, is whole.
            tar.fileobj.seek(tar.offset)
            if (end := tar.fileobj.read(tarfile.BLOCKSIZE)).strip(b"\0") or not end:
                raise tarfile.ReadError("it ends before its end mark")
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        advice = "If it is compressed, unpack it (gunzip); if not, copy or download it again."
        raise InputError(f"{file} cannot be read as a plain tar file ({error}). {advice}") from None
    return pictures, labels
