"""Pictures without a download: scikit-learn's digits, drawn glyphs, photo textures, and corruptions of any set.

Every function returns uint8 pictures of shape (N, side, side, 3) and is deterministic. The glyphs' font is the one
inside Pillow (Aileron), which the pre-training of `mini` never draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Letters that pass for a digit (o, i, l, s, z, b, g, q) are no fair OOD picture and are left out.
LETTERS = "ACDEFHJKMNPRTUVWXYacdefhjkmnprtuvwxy"
SYMBOLS = "+=#%&@?!*<>$~^{}[]/;:§¤±×÷¶µ"
# Of the 1,797 digits, in the file's order: 900 train, 300 validate, 597 test. Neighbours share a writer (13 in all),
# so a split by order shares fewer hands between train and test than a shuffled one.
DIGIT_SPLITS = {"train": slice(0, 900), "validation": slice(900, 1200), "test": slice(1200, 1797)}


def digits(side: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the handwritten digits (UCI, via scikit-learn; 8 x 8 px, 17 grey levels), enlarged, and their labels."""
    from sklearn.datasets import load_digits

    data, part = load_digits(), DIGIT_SPLITS[split]
    grey = np.round(data.images[part] * (255 / 16)).astype(np.uint8)
    enlarged = [np.asarray(Image.fromarray(g).resize((side, side), Image.Resampling.BICUBIC)) for g in grey]
    return _rgb(np.stack(enlarged)), data.target[part].astype(np.int64)


def printed_digits(side: int, count: int = 600, seed: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Return printed digits, equally many of each class, of random size, place, slant and tone."""
    labels = np.arange(count) % 10
    return _glyphs([str(d) for d in labels], side, seed), labels.astype(np.int64)


def letters(side: int, count: int = 500, seed: int = 12) -> np.ndarray:
    """Return printed Latin letters that do not pass for a digit."""
    return _glyphs([LETTERS[i % len(LETTERS)] for i in range(count)], side, seed)


def symbols(side: int, count: int = 500, seed: int = 13) -> np.ndarray:
    """Return printed punctuation and signs."""
    return _glyphs([SYMBOLS[i % len(SYMBOLS)] for i in range(count)], side, seed)


def textures(side: int, count: int = 500, seed: int = 14) -> np.ndarray:
    """Return random square cuts, 1 to 4 times as wide as `side`, of the two photographs scikit-learn ships."""
    from sklearn.datasets import load_sample_images

    photos, rng, cuts = load_sample_images().images, np.random.default_rng(seed), []
    for i in range(count):
        photo = photos[i % len(photos)]
        size = min(int(rng.integers(side, 4 * side)), *photo.shape[:2])
        top, left = (int(rng.integers(0, max(1, extent - size))) for extent in photo.shape[:2])
        cut = Image.fromarray(photo[top : top + size, left : left + size])
        cuts.append(np.asarray(cut.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(cuts)


def noise_pictures(side: int, count: int = 500, seed: int = 15) -> np.ndarray:
    """Return Gaussian grey noise, smoothed a little, as a far OOD set."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(count, side, side)), (0, 1.5, 1.5))
    return _rgb(np.clip(128 + 160 * smooth, 0, 255).astype(np.uint8))


def _rgb(grey_NHW: np.ndarray) -> np.ndarray:
    return np.repeat(grey_NHW[..., None], 3, axis=-1)


def _glyphs(texts: Sequence[str], side: int, seed: int) -> np.ndarray:
    """Draw light glyphs on dark at 12 px, slanted and shifted, and enlarge: as coarse as the handwritten digits."""
    rng, small, pictures = np.random.default_rng(seed), 12, []
    for text in texts:
        font = ImageFont.load_default(float(rng.uniform(10, 14)))
        ink, paper = int(rng.integers(170, 256)), int(rng.integers(0, 60))
        picture = Image.new("L", (small, small), paper)
        middle = (small / 2 + rng.uniform(-1, 1), small / 2 + rng.uniform(-1, 1))
        ImageDraw.Draw(picture).text(middle, text, fill=ink, font=font, anchor="mm")
        slant = float(rng.uniform(-0.25, 0.25))
        picture = picture.transform(
            picture.size, Image.Transform.AFFINE, (1, slant, -slant * small / 2, 0, 1, 0),
            Image.Resampling.BICUBIC, fillcolor=paper,
        )  # fmt: skip
        pictures.append(np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)))
    return _rgb(np.stack(pictures))


def _in_parts(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change 64 pictures at a time, so that copies in floating point stay small; `images` may be any array-like."""
    size, changed = 64, np.empty(images.shape, dtype=np.uint8)  # even: rotate counts pictures by twos
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        changed[part] = change(np.asarray(images[part]))
    return changed


def invert(images: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Blend with the negative: 0 leaves the picture, 1 is its negative."""
    return _in_parts(images, lambda part: np.round(part * (1 - strength) + (255.0 - part) * strength).clip(0, 255))


def noise(images: np.ndarray, strength: float = 60.0) -> np.ndarray:
    """Add Gaussian noise of this standard deviation (grey levels), the same in every run."""
    # One generator for all parts: it goes on where it stopped, so the parts' size decides nothing.
    rng = np.random.default_rng(21)
    return _in_parts(images, lambda part: np.clip(part + rng.normal(scale=strength, size=part.shape), 0, 255).round())


def blur(images: np.ndarray, strength: float = 3.0) -> np.ndarray:
    """Blur with a Gaussian of this standard deviation (px)."""
    return _in_parts(images, lambda part: ndimage.gaussian_filter(part, (0, strength, strength, 0), mode="nearest"))


def rotate(images: np.ndarray, strength: float = 30.0) -> np.ndarray:
    """Turn by this angle (degrees), every second picture the other way; the border is continued."""

    def turn(part: np.ndarray) -> np.ndarray:
        turned = np.empty_like(part)
        for parity, angle in enumerate((strength, -strength)):
            half = part[parity::2].astype(np.float32)
            spun = ndimage.rotate(half, angle, axes=(2, 1), reshape=False, order=1, mode="nearest")
            turned[parity::2] = np.clip(spun, 0, 255).round()
        return turned

    return _in_parts(images, turn)


def contrast(images: np.ndarray, strength: float = 0.3) -> np.ndarray:
    """Pull every picture towards its mean grey: 1 leaves it, 0 is flat."""

    def pull(part: np.ndarray) -> np.ndarray:
        mean = part.mean(axis=(1, 2, 3), keepdims=True)
        return np.clip(mean + (part - mean) * strength, 0, 255).round()

    return _in_parts(images, pull)


def pixelate(images: np.ndarray, strength: float = 4.0) -> np.ndarray:
    """Replace blocks of strength x strength px by their mean."""
    block, side = max(1, int(strength)), images.shape[1]
    small = max(1, side // block)

    def coarsen(part: np.ndarray) -> np.ndarray:
        shrunk = [Image.fromarray(i).resize((small, small), Image.Resampling.BOX) for i in part]
        return np.stack([np.asarray(s.resize((side, side), Image.Resampling.NEAREST)) for s in shrunk])

    return _in_parts(images, coarsen)


# Those that draw the benchmark's classes, with the splits they have; the others are for OOD sets.
LABELLED: dict[str, tuple[str, ...]] = {"digits": tuple(DIGIT_SPLITS), "printed_digits": ()}
DRAWN: dict[str, Callable] = {
    f.__name__: f for f in (digits, printed_digits, letters, symbols, textures, noise_pictures)
}
CORRUPTIONS: dict[str, Callable] = {f.__name__: f for f in (invert, noise, blur, rotate, contrast, pixelate)}
