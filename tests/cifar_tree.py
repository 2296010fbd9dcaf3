"""The sets of params/cifar10.yaml as small files in their true formats; a picture's red says of which class it is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torchvision
from PIL import Image
from scipy.io import savemat

from reprog_kit.corruptions import STANDARD

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
RED = {name: 20 * i + 10 for i, name in enumerate((*CLASSES, "monkey"))} | {"car": 30}
RANDOM = np.random.default_rng(7)


def paint(names: list[str], side: int = 32) -> np.ndarray:
    """Return pictures (N, side, side, 3) of these classes."""
    pixels = RANDOM.integers(0, 256, (len(names), side, side, 3), dtype=np.uint8)
    pixels[..., 0] = np.array([RED.get(name, 0) for name in names])[:, None, None]
    return pixels


def write_batches(
    root: Path, cls: type, key: str, classes: list[str], draw: Callable, count: int, dump: Callable | None = None
) -> Path:
    """Write CIFAR's pickled batches; ``draw(labels)`` gives the pictures (N, 3072) of a batch."""
    dump = dump or (lambda entry: pickle.dumps(entry, protocol=2))
    home = root / cls.base_folder
    home.mkdir(parents=True, exist_ok=True)
    for i, (file, _) in enumerate(cls.train_list + cls.test_list):
        labels = RANDOM.integers(0, len(classes), count).tolist()
        entry = {"batch_label": f"batch {i + 1}", key: labels, "data": draw(labels)}
        entry["filenames"] = [f"picture_s_{j:06}.png" for j in range(count)]
        (home / file).write_bytes(dump(entry))
    meta = {"num_cases_per_batch": 10000, cls.meta["key"]: classes, "num_vis": 3072}
    (home / cls.meta["filename"]).write_bytes(dump(meta))
    return home


def write_stl10(root: Path, parts: dict[str, tuple[np.ndarray, list[int]]], classes: list[str]) -> None:
    """Write STL-10's binary files: a picture is three channels, each column by column; labels count from 1."""
    home = root / "stl10_binary"
    home.mkdir(parents=True)
    for part, (images_NHWC, labels) in parts.items():
        images_NHWC.transpose(0, 3, 2, 1).tofile(home / f"{part}_X.bin")
        if part != "unlabeled":
            np.array(labels, np.uint8).tofile(home / f"{part}_y.bin")
    (home / "class_names.txt").write_text("\n".join(classes) + "\n")
    (home / "fold_indices.txt").write_text("0 1 2 \n" * 10)


def write_tree(root: Path, count: int = 40) -> None:
    """Write every set that params/cifar10.yaml names, `count` pictures each or a batch."""

    def draw(labels: list[int]) -> np.ndarray:
        return paint([CLASSES[i] for i in labels]).transpose(0, 3, 1, 2).reshape(len(labels), -1)

    home = write_batches(root, torchvision.datasets.CIFAR10, "labels", list(CLASSES), draw, count)
    labels = np.arange(count) % 10
    (root / "cifar10_1").mkdir()
    np.save(root / "cifar10_1" / "cifar10.1_v6_data.npy", paint([CLASSES[i] for i in labels]))
    np.save(root / "cifar10_1" / "cifar10.1_v6_labels.npy", labels.astype(np.int32))
    (root / "cifar10_2").mkdir()
    np.savez(root / "cifar10_2" / "cifar102_test.npz", images=paint([CLASSES[i] for i in labels]), labels=labels)
    parts = {part: (paint([STL10[i] for i in labels], 96), labels + 1) for part in ("train", "test", "unlabeled")}
    write_stl10(root, parts, list(STL10))
    test = pickle.loads((home / "test_batch").read_bytes())
    clean = test["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    (root / "CIFAR-10-C").mkdir()
    for name in STANDARD:
        np.save(root / "CIFAR-10-C" / f"{name}.npy", np.tile(clean, (5, 1, 1, 1)))
    np.save(root / "CIFAR-10-C" / "labels.npy", np.tile(np.array(test["labels"], np.uint8), 5))
    (root / "svhn").mkdir()
    savemat(
        root / "svhn" / "test_32x32.mat", {"X": paint(["?"] * count).transpose(1, 2, 3, 0), "y": labels[:, None] + 1}
    )
    flat = ("iSUN/iSUN_patches", "LSUN_resize/LSUN_resize", "LSUN/test", "places365/val_256")
    for folder in (*flat, "dtd/images/banded", "dtd/images/woven"):
        (root / folder).mkdir(parents=True)
        for i, picture in enumerate(paint(["?"] * (count // 2), 36)):
            Image.fromarray(picture).save(root / folder / f"{i}.{'jpeg' if 'iSUN' in folder else 'png'}")
