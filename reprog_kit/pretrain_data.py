"""What `mini` is pre-trained on: pictures in memory, captions made anew for every batch, augmentation as tensor code.

Shape suffixes: B pictures of a batch, N pictures in all, S the canvas' side in px.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .generated import DIGIT_NAMES
from .glyphs import CANVAS, draw_glyphs
from .parameters import InputError
from .sources import decode


@dataclass
class Corpus:
    """Pictures with their classes.

    Attributes
    ----------
    images_N3SS : torch.Tensor
        uint8 RGB on the canvas of 64 px.
    labels_N : torch.Tensor
        int64, index into `classes`.
    repeats_N : torch.Tensor
        int64, how often an epoch shows each picture.
    classes : list of (style, names)
        The style ("photo", "digit", ...) chooses the templates; names are synonyms, the most usual first.
    """

    images_N3SS: Tensor
    labels_N: Tensor
    repeats_N: Tensor
    classes: list[tuple[str, tuple[str, ...]]]

    def is_glyph(self) -> Tensor:
        """Return (N,) bool: is it a drawn digit or letter?"""
        return torch.tensor([style in ("digit", "letter") for style, _ in self.classes])[self.labels_N]

    def counts(self) -> dict[str, int]:
        """Return the number of pictures of each style."""
        return dict(Counter(self.classes[label][0] for label in self.labels_N.tolist()))


def read_pack(path: Path, split: str | None = None, limit: int | None = None) -> tuple[Tensor, list[dict]]:
    """Read a parquet pack: columns image and label or captions, perhaps split.

    Returns
    -------
    images_N3SS : torch.Tensor
        uint8 RGB on the canvas of 64 px.
    rows : list of dict
        The other columns of each picture.
    """
    table = pq.read_table(path, filters=[("split", "==", split)] if split else None)
    # Every k-th row: the head of a sorted pack would be a single class.
    keep = np.linspace(0, table.num_rows - 1, min(limit or table.num_rows, table.num_rows)).round().astype(int)
    rows = table.take(keep).to_pylist()
    images = decode([row.pop("image") for row in rows], [f"{path}, row {i}" for i in keep], CANVAS)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), rows


def names_of(label: str, renamed: Mapping[str, str] = {}) -> tuple[str, ...]:
    """Return the synonyms in a label: WordNet separates them by a comma, folders write "_" for a blank."""
    return tuple(renamed.get(label, label).replace("_", " ").split(", "))


def read_corpus(root: Path, recipe: Mapping[str, Any], limit: int | None = None) -> Corpus:
    """Read the packs that the recipe lists under `packs`, at most `limit` pictures of each file."""
    images, labels, repeats, known = [], [], [], {}
    for pack in recipe["packs"]:
        for path in sorted(root.glob(pack["file"])):
            pack_images, rows = read_pack(path, pack.get("split"), limit)
            keep = [i for i, row in enumerate(rows) if row.get("label") not in pack.get("skip", ())]
            for row in (rows[i] for i in keep):
                style = row["split"] if pack["style"] == "by split" else pack["style"]
                names = row["captions"] if "captions" in row else names_of(row["label"], recipe["renamed"])
                labels.append(known.setdefault((style, tuple(names)), len(known)))
            images.append(pack_images[keep])
            repeats += [pack.get("repeat", 1)] * len(keep)
    if not images:
        raise InputError(
            f"none of {', '.join(pack['file'] for pack in recipe['packs'])} is in {root}; "
            "give another folder with -p data_root FOLDER or in $REPROG_DATA."
        )
    return Corpus(torch.cat(images), torch.tensor(labels), torch.tensor(repeats), list(known))


def with_glyphs(corpus: Corpus, count: int, seed: int) -> Corpus:
    """Return the corpus with freshly drawn digits and letters behind its pictures."""
    drawn, chars = draw_glyphs(count, seed)
    classes = list(corpus.classes) + [("digit", (word, str(i))) for i, word in enumerate(DIGIT_NAMES)]
    # The tokenizer knows no case, so neither do the classes.
    classes += [("letter", (chr(65 + i),)) for i in range(26)]
    first = len(corpus.classes)
    labels = [first + (int(c) if c.isdigit() else 10 + ord(c.upper()) - 65) for c in chars]
    return Corpus(
        torch.cat([corpus.images_N3SS, drawn]),
        torch.cat([corpus.labels_N, torch.tensor(labels)]),
        torch.cat([corpus.repeats_N, torch.ones(count, dtype=torch.int64)]),
        classes,
    )


def hypernyms(names: Sequence[str], coarse: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return what else a class is, said less exactly: ("car", "automobile") for "sports car"; () if nothing is known.

    A class belongs to a key of `coarse` if its first name is one of the key's words or ends in one.
    """
    for key, words in coarse.items():
        if any(names[0].lower() == w.lower() or names[0].lower().endswith(" " + w.lower()) for w in words):
            return names_of(key)
    return ()


class Captioner:
    """Writes the captions of a batch; one caption a class, so that two names of a class never compete."""

    def __init__(self, classes: Sequence[tuple[str, tuple[str, ...]]], recipe: Mapping[str, Any]):
        self.classes, self.templates, self.coarse_share = classes, recipe["templates"], recipe["coarse_share"]
        self.coarse = [hypernyms(n, recipe["coarse"]) if s != "caption" else () for s, n in classes]

    def __call__(self, labels_B: Tensor, rng: random.Random) -> tuple[list[str], Tensor]:
        """Return the distinct captions, and for each picture the int64 index of its own."""
        coarse, memo, index, target = rng.random() < self.coarse_share, {}, {}, []

        def choose(options: Sequence[str], first: float) -> str:
            # Remembered for the batch: "car" and "automobile" side by side would be each other's negatives.
            if tuple(options) not in memo:
                memo[tuple(options)] = options[0] if rng.random() < first else rng.choice(options)
            return memo[tuple(options)]

        for label in labels_B.tolist():
            style, names = self.classes[label]
            name = choose(self.coarse[label] if coarse and self.coarse[label] else names, 0.5)
            caption = choose(self.templates[style], 0.4).format(name)
            target.append(index.setdefault(caption, len(index)))
        return list(index), torch.tensor(target)

    def every_text(self) -> list[str]:
        """Return texts that together hold every word a caption can hold."""
        texts = {t.format("") for ts in self.templates.values() for t in ts}
        return sorted(texts | {n for (_, names), c in zip(self.classes, self.coarse) for n in (*names, *c)})


def blur_to_low_resolution(images_B3SS: Tensor, generator: torch.Generator) -> Tensor:
    """Shrink half of the pictures to 12-40 px and enlarge them again bicubically, as small pictures come to us."""
    order = torch.randperm(len(images_B3SS), generator=generator)[: len(images_B3SS) // 2]
    # Five sizes a batch: each size is one call for all its pictures.
    for rows in order.chunk(5):
        side = int(torch.randint(12, 41, (), generator=generator))
        small = F.interpolate(images_B3SS[rows], size=(side, side), mode="bilinear", antialias=True)
        images_B3SS[rows] = F.interpolate(small, size=images_B3SS.shape[-2:], mode="bicubic")
    return images_B3SS


def crop(images_B3SS: Tensor, glyph_B: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cut out 45-100% of the area (glyphs 80-100%), in a ratio of 4:5 to 5:4, flip photographs, scale to `side` px."""
    b = len(images_B3SS)
    u = torch.rand(5, b, generator=generator)
    least = torch.where(glyph_B, 0.8, 0.45)
    area, ratio = least + (1 - least) * u[0], (0.8 + 0.45 * u[1]).sqrt()
    width, height = ((area.sqrt() * r).clamp(max=1) for r in (ratio, 1 / ratio))
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = torch.where((u[2] < 0.5) & ~glyph_B, -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2], theta[:, 1, 2] = (1 - width) * (2 * u[3] - 1), (1 - height) * (2 * u[4] - 1)
    grid = F.affine_grid(theta, [b, 3, side, side], align_corners=False)
    return F.grid_sample(images_B3SS, grid, padding_mode="reflection", align_corners=False)


def augment(images_B3SS: Tensor, glyph_B: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Make a batch of training inputs.

    Parameters
    ----------
    images_B3SS : torch.Tensor
        uint8 RGB.
    glyph_B : torch.Tensor
        bool; these are neither flipped nor cropped deeply.
    side : int
        Of the result, in px.
    generator : torch.Generator
        All chance comes from it.

    Returns
    -------
    torch.Tensor
        (B, 3, side, side) float32 in [0, 1].
    """
    b = len(images_B3SS)
    x = crop(blur_to_low_resolution(images_B3SS.float() / 255, generator), glyph_B, side, generator)
    u = torch.rand(4, b, 1, 1, 1, generator=generator)
    colour = torch.where(u[3] < 0.08, 0.0, 0.6 + 0.8 * u[0])
    grey = x.mean(1, keepdim=True)
    x = grey + colour * (x - grey)
    middle = x.mean((1, 2, 3), keepdim=True)
    x = (x - middle) * (0.65 + 0.7 * u[1]) + middle + 0.3 * (u[2] - 0.5)
    noisy = slice(0, b // 8)  # the batch is in random order, so its head is a random eighth
    x[noisy] += 0.06 * torch.randn(x[noisy].shape, generator=generator)
    return x.clamp_(0, 1)


def contact_sheet(images_N3SS: Tensor, columns: int = 16) -> Image.Image:
    """Return uint8 pictures, or floats in [0, 1], side by side in rows of `columns`; a part-filled row is left out."""
    if images_N3SS.is_floating_point():
        images_N3SS = (images_N3SS * 255).round().to(torch.uint8)
    rows = len(images_N3SS) // columns
    grid = images_N3SS[: rows * columns].unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2)
    return Image.fromarray(grid.flatten(2, 3).flatten(0, 1).numpy())
