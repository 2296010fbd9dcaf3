"""A small tree in ImageNet's true layout: 1,000 wnid folders, flat validation pictures with their devkit, and friends.

The pictures are noise: what is tested is the road, not what is learnt on it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from reprog_kit.class_names import name_list

WNIDS = name_list("class_ids", "timm:imagenet-1k", Path())
# Where params/imagenet.yaml looks, the folders of classes there, and how many pictures each gets.
SHIFT = {
    "imagenetv2-matched-frequency-format-val": ([str(i) for i in range(1000)], 1, ".jpeg"),
    "imagenetv2-threshold0.7-format-val": ([str(i) for i in range(1000)], 1, ".jpeg"),
    "imagenetv2-top-images-format-val": ([str(i) for i in range(1000)], 1, ".jpeg"),
    "imagenet-a": (WNIDS[3::5], 2, ".jpg"),
    "imagenet-r": (WNIDS[1::5], 2, ".jpg"),
    "sketch": (WNIDS, 1, ".JPEG"),
}
OOD = {"iNaturalist/images": 200, "SUN/images": 200, "Places/images": 200}
TEXTURES = [f"texture_{i:02}" for i in range(47)]


class Painter:
    """Paints distinct pictures of about this side and writes them as the odd files that ImageNet holds."""

    def __init__(self, side: int):
        self.side, self.random = side, np.random.default_rng(0)

    def paint(self, path: Path, mode: str = "RGB", kind: str = "JPEG") -> None:
        """Write one picture; `kind` may be another than the file's ending says."""
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(self.random.integers(0, 256, (6, 8, 3)).astype(np.uint8))
        content = io.BytesIO()
        small.resize((self.side * 4 // 3, self.side)).convert(mode).save(content, kind)
        path.write_bytes(content.getvalue())


def write_tree(root: Path, per_class: int = 3, side: int = 48) -> None:
    """Write every set that params/imagenet.yaml names, `per_class` training pictures a class."""
    painter = Painter(side)
    # As the true ones: a PNG that is called .JPEG, two CMYK pictures and grey ones.
    odd = {0: ("RGBA", "PNG"), 1: ("CMYK", "JPEG"), 2: ("CMYK", "JPEG"), 3: ("L", "JPEG")}
    for number, wnid in enumerate(WNIDS):
        for i in range(per_class):
            mode = odd.get(number, ("RGB", "JPEG")) if i == 0 else ("RGB", "JPEG")
            painter.paint(root / "imagenet" / "train" / wnid / f"{wnid}_{i}.JPEG", *mode)
    for number in range(1, 1001):
        painter.paint(root / "imagenet" / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    write_devkit(root / "imagenet" / "ILSVRC2012_devkit_t12" / "data")
    for folder, (classes, count, ending) in SHIFT.items():
        for name in classes:
            for i in range(count):
                painter.paint(root / folder / name / f"{i}{ending}")
        (root / folder / "README.txt").write_text("words")
    for folder, count in OOD.items():
        for i in range(count):
            painter.paint(root / folder / f"{i}.jpg")
    for texture in TEXTURES:
        for i in range(2):
            painter.paint(root / "dtd" / "images" / texture / f"{texture}_{i}.jpg")


def write_devkit(folder: Path) -> None:
    """Write meta.mat and the ground truth; the ILSVRC numbers run in another order than the sorted wnids."""
    folder.mkdir(parents=True)
    order = np.random.default_rng(1).permutation(1000)
    fields = [
        ("ILSVRC2012_ID", object),
        ("WNID", object),
        ("words", object),
        ("gloss", object),
        ("num_children", object),
    ]
    fields += [("children", object), ("wordnet_height", object), ("num_train_images", object)]
    synsets = np.zeros((1001, 1), dtype=fields)
    for i, c in enumerate(order):
        synsets[i, 0] = (i + 1, WNIDS[c], "words", "gloss", 0, np.zeros((1, 0)), 0, 1300)
    synsets[1000, 0] = (1001, "n00001740", "entity", "gloss", 18, np.arange(18), 19, 0)
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})
    truth = np.argsort(order) + 1  # picture k of the flat folder is of the k-th wnid
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, truth)) + "\n")
