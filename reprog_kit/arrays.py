"""Sets that come as arrays: .npy and .npz files, and what the data set classes of torchvision read."""

from __future__ import annotations

import inspect
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torchvision

from .listings import name_numbers
from .parameters import InputError, nearest
from .sources import Listing, MissingError, missing, some
from .specs import Arrays, Torchvision


def list_arrays(root: Path, spec: Arrays, flat: bool = False) -> Listing:
    """List a .npy of pictures, memory-mapped, with its .npy of numbers, or a .npz; with `flat` it needs no labels."""
    file = root / Path(spec.path).expanduser()
    both = file.suffix == ".npz" and not spec.labels
    found, files = _load(file, root, [spec.image] + [spec.label] * (both and not flat), [spec.label] * both), [file]
    images_NHWC, labels_N = found[spec.image], found.get(spec.label)
    if spec.labels:
        files.append(root / Path(spec.labels).expanduser())
        labels_N = _load(files[-1], root, [spec.label])[spec.label]
    if images_NHWC.dtype != np.uint8 or images_NHWC.ndim != 4 or images_NHWC.shape[-1] != 3:
        held = f"{file} holds {images_NHWC.dtype} of the shape {images_NHWC.shape}"
        raise InputError(f"{held}; pictures are uint8 of the shape (N, H, W, 3), RGB. Convert it.")
    nameless = labels_N is None or (flat and spec.names is None and not spec.numbered)
    names = None if nameless else _array_names(labels_N, len(images_NHWC), spec, files[-1])
    places = [f"{file.name}, picture {i}" for i in range(len(images_NHWC))]
    return Listing(images_NHWC, names, places, tuple(map(str, files)))


def _load(file: Path, root: Path, needed: list[str], wanted: list[str] = ()) -> dict[str, np.ndarray]:
    """Return arrays of a .npz by their names; a .npy is the first needed one."""
    if not file.is_file():
        raise missing(file, root)
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {needed[0]: loaded}
        with loaded:
            if not set(needed) <= set(loaded.files):
                raise InputError(f"{file} holds {some(loaded.files)}; the YAML asks for {some(needed)}.")
            return {name: loaded[name] for name in {*needed, *wanted} & set(loaded.files)}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file} cannot be read as plain arrays ({error}). Copy or download it again.") from None


def _array_names(labels_N: np.ndarray, count: int, spec: Arrays, file: Path) -> list[str]:
    if labels_N.dtype.kind not in "iu" or labels_N.ndim != 1:
        held = f"{file}: the labels are {labels_N.dtype} of the shape {labels_N.shape}"
        raise InputError(f"{held}; they must be integers of the shape (N,). Convert them.")
    if len(labels_N) != count:
        raise InputError(f"{file} holds {len(labels_N)} labels for {count} pictures. Take files of one set.")
    if spec.names is None and not spec.numbered:
        raise InputError(
            f"{file}: the numbers have no names. Give `names: [...]` in the set's own order, or `numbered: true` "
            "where they are the benchmark's own label numbers."
        )
    return name_numbers(labels_N.tolist(), None if spec.numbered else spec.names, str(file))


class _Pixels:
    """What stands for numpy's array in a batch: its state is checked, and only bytes become an array."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, _, fortran, pixels = state
        pixels = pixels.encode("latin1") if isinstance(pixels, str) else pixels
        self.array = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Byte:
    """What stands for numpy's dtype in a batch: nothing but uint8."""

    def __init__(self, kind: str, *_: Any):
        if kind != "u1":
            raise ValueError(f"it holds an array of the type {kind!r} instead of bytes")

    def __setstate__(self, state: tuple) -> None:
        pass


class _Batch(pickle.Unpickler):
    """Reads a batch of CIFAR: lists, text, numbers, and arrays of bytes; nothing that the file names is imported."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy's own functions would run C code on whatever state the file holds. Made anew at each call, because a
        # pickle may set attributes of what it gets.
        known = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Pixels(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Pixels(),
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): lambda kind, *_: _Byte(kind),
            ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which a batch of pictures has no need of")
        return known[module, name]


def _read_batch(file: Path, root: Path) -> dict:
    if not file.is_file():
        raise missing(file, root)
    try:
        with open(file, "rb") as opened:
            entry = _Batch(opened, encoding="latin1").load()
        if not isinstance(entry, dict):
            raise TypeError("it holds no dictionary")
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise InputError(f"{file} is not what it says ({error}). Download it again.") from None
    return entry


def _list_batches(cls: type, root: Path, spec: Torchvision) -> Listing:
    if spec.split not in ("train", "test"):
        raise InputError(f"split = {spec.split!r} is refused for {spec.name}: 'train' or 'test'.")
    folder = root / Path(spec.path).expanduser() / cls.base_folder
    batches = [folder / name for name, _ in (cls.train_list if spec.split == "train" else cls.test_list)]
    meta = folder / cls.meta["filename"]
    classes = _read_batch(meta, root).get(cls.meta["key"])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{meta} holds no class names. Download it again.")
    images, names, places = [], [], []
    for file in batches:
        entry = _read_batch(file, root)
        data, labels = getattr(entry.get("data"), "array", None), entry.get("labels", entry.get("fine_labels"))
        shape = (len(labels), 3072) if isinstance(labels, list) and all(type(i) is int for i in labels) else None
        if shape is None or data is None or data.shape != shape:
            raise InputError(f"{file} is not what it says: bytes (N, 3072) and N labels. Download it again.")
        images.append(data.reshape(-1, 3, 32, 32))
        names += name_numbers(labels, None if spec.numbered else classes, str(file))
        places += [f"{file.name}, picture {i}" for i in range(len(data))]
    images_NHWC = np.ascontiguousarray(np.concatenate(images).transpose(0, 2, 3, 1))
    return Listing(images_NHWC, names, places, tuple(map(str, [*batches, meta])))


def _torchvision_class(name: str) -> type:
    kinds = {k: v for k, v in vars(torchvision.datasets).items() if isinstance(v, type)}
    known = [k for k, v in kinds.items() if issubclass(v, torchvision.datasets.VisionDataset)]
    if name not in known:
        raise InputError(f"torchvision.datasets has no {name!r}.{nearest(name, known)}")
    return kinds[name]


def list_torchvision(root: Path, spec: Torchvision, flat: bool = False) -> Listing:
    """List what a data set class of torchvision reads; with `flat` labels may be withheld. Nothing is unpickled.

    The checksums that the class knows are not compared: `integrity` does that.
    """
    cls = _torchvision_class(spec.name)
    if all(hasattr(cls, name) for name in ("train_list", "test_list", "base_folder", "meta")):
        return _list_batches(cls, root, spec)
    data = _construct(cls, root, spec)
    items, numbers = _pictures(data, spec.name)
    where = f"{spec.name} ({spec.split})"
    withheld = None in numbers or (len(numbers) > 0 and (max(numbers) < 0 or (flat and min(numbers) < 0)))
    classes = [", ".join(c) if isinstance(c, tuple) else str(c) for c in getattr(data, "classes", ())]
    names = None if withheld else name_numbers(numbers, None if spec.numbered else classes or None, where)
    if isinstance(items, list):
        return Listing(items, names, items)
    return Listing(items, names, [f"{where}, picture {i}" for i in range(len(items))], _files(data))


def _construct(cls: type, root: Path, spec: Torchvision) -> Any:
    folder, takes = root / Path(spec.path).expanduser(), inspect.signature(cls).parameters
    if not folder.is_dir():
        raise missing(folder, root)
    if "split" in takes and any("train" in inspect.signature(base).parameters for base in cls.__mro__[1:-1]):
        raise InputError(f"{spec.name} takes split and train, of which the YAML says one; use kind: folder or parquet.")
    known = [spec.split] if "split" in takes else ["train", "test"] if "train" in takes else ["train"]
    if spec.split not in known:
        raise InputError(f"split = {spec.split!r} is refused for {spec.name}, which has: {', '.join(known)}.")
    part = {"split": spec.split} if "split" in takes else {"train": spec.split == "train"} if "train" in takes else {}
    # Its checksums are for `integrity`. MNIST and its kin look for a folder of the class' own name.
    unchecked = {"_check_integrity": lambda *_: True} if hasattr(cls, "_check_integrity") else {}
    try:
        return type(cls.__name__, (cls,), unchecked)(folder, **part)
    except Exception as error:  # every reader of torchvision raises its own kinds
        lacking = next((e for e in (error, error.__cause__) if isinstance(e, FileNotFoundError)), None)
        if lacking or "dataset not found" in str(error).lower():
            said = missing(Path(getattr(lacking, "filename", None) or folder), root)
            raise MissingError(f"{said} torchvision says: {error}") from None
        raise InputError(f"torchvision's {spec.name} cannot read {folder}: {error}") from None


def _first(data: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(data, name, None)) is not None), None)


def _pictures(data: Any, name: str) -> tuple[np.ndarray | list[str], list]:
    """Return the pictures, or the paths of them in order, and their numbers."""
    array, labels = getattr(data, "data", None), _first(data, "labels", "targets", "_labels")
    array = array.numpy() if hasattr(array, "numpy") else array
    if isinstance(array, np.ndarray) and array.dtype == np.uint8 and labels is not None:
        if array.ndim == 3:
            array = np.repeat(array[..., None], 3, axis=3)
        elif array.ndim == 4 and array.shape[1] == 3:
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        if array.ndim == 4 and array.shape[3] == 3:
            return array, np.atleast_1d(labels).tolist()
    pairs = _first(data, "_samples", "samples", "imgs")
    if pairs is None and labels is not None:
        pairs = list(zip(_first(data, "_image_files", "_images") or (), labels))
    if not pairs or not all(len(pair) == 2 and isinstance(pair[0], str | Path) for pair in pairs):
        raise InputError(
            f"torchvision's {name} cannot be listed without reading every picture. Unpack it to one folder a class, "
            "and use kind: folder."
        )
    # Some classes list a folder in the order of the disk.
    pairs = sorted((str(path), number) for path, number in pairs)
    return [path for path, _ in pairs], [number for _, number in pairs]


def _files(data: Any) -> tuple[str, ...]:
    """Return the files that a class reads its arrays from."""
    inside = getattr(data, "base_folder", None) or getattr(data, "filename", "")
    home = Path(getattr(data, "raw_folder", None) or Path(data.root) / inside)
    return (str(home),) if home.is_file() else tuple(sorted(str(p) for p in home.iterdir() if p.is_file()))


def integrity(root: Path, spec: Torchvision) -> bool | None:
    """Say whether the files' checksums are the published ones; None where torchvision knows none, or files lack."""
    cls, folder = _torchvision_class(spec.name), root / Path(spec.path).expanduser()
    if not hasattr(cls, "_check_integrity"):
        return None
    data = cls.__new__(cls)  # its __init__ would read the pictures
    data.root, data.split = folder, spec.split
    if parts := getattr(cls, "split_list", None):
        data.url, data.filename, data.file_md5 = parts.get(spec.split, (None, "", None))
    listed = [name for name, _ in (*getattr(cls, "train_list", ()), *getattr(cls, "test_list", ()))]
    expected = [folder / getattr(cls, "base_folder", "") / name for name in listed or [getattr(data, "filename", "")]]
    if not all(path.is_file() for path in expected):
        return None
    return bool(data._check_integrity())
