"""Digits and letters drawn from scratch, so that an encoder can learn to read without anybody's data set.

Six in ten digits are pen strokes: a few points a digit, shaken, joined by a smooth curve, which gives the
open fours, barred sevens and looped twos that no font has. All the rest comes from fonts.

Shape suffixes: N glyphs, H and W the side of the canvas.
"""

import random
import string
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

CANVAS = 64
# Left out because they are another class's shape: O and o are 0, I and l are 1.
LETTERS = "".join(c for c in string.ascii_letters if c not in "OoIil")
FONTS = (
    "DejaVuSans[-.M]*",
    "DejaVuSerif[-.]*",
    "STIXGeneral*.ttf",
    "cmb10.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmti10.ttf",
    "cmtt10.ttf",
)

# Pen paths in the unit square, x to the right and y down; a point given twice is a sharp corner.
STROKES = {
    "0": ["50,4 18,25 12,60 38,96 75,85 88,48 78,18 50,4", "60,4 25,20 15,65 45,96 80,75 85,25 55,4 40,12"],
    "1": ["50,4 50,96", "25,28 55,4 55,4 55,96", "28,25 52,4 52,4 52,96 | 25,96 80,96", "60,4 40,96"],
    "2": [
        "15,25 40,4 75,12 78,36 50,65 12,94 12,94 50,91 88,92",
        "15,25 40,4 75,12 78,38 50,72 22,93 12,80 30,72 60,88 90,90",
    ],
    "3": [
        "15,15 50,4 80,20 65,42 40,47 40,47 72,54 85,75 55,96 12,86",
        "15,6 15,6 80,6 80,6 45,42 45,42 80,54 82,80 50,96 12,86",
    ],
    "4": [
        "28,4 15,58 15,58 88,56 | 65,30 60,96",
        "70,96 70,4 70,4 10,64 10,64 92,64",
        "55,4 12,62 12,62 88,60 | 62,40 56,96",
    ],
    "5": ["82,6 25,6 25,6 20,46 20,46 55,38 85,62 70,90 40,96 12,86", "85,6 40,8 25,42 65,50 80,75 50,95 14,88"],
    "6": ["68,4 32,28 15,65 35,95 70,90 82,68 60,52 30,60 20,76", "45,4 22,40 20,80 50,96 80,78 55,58 24,76"],
    "7": ["12,8 12,8 86,6 86,6 40,96", "12,8 12,8 86,6 86,6 45,96 | 28,50 76,46", "12,20 14,6 50,10 85,6 60,45 45,96"],
    "8": [
        "50,48 22,28 45,4 75,20 60,42 25,66 25,88 55,96 80,80 70,58 50,48",
        "76,16 45,4 24,24 50,48 78,74 50,96 22,78 50,48 78,24 70,10",
    ],
    "9": [
        "78,22 50,4 22,24 40,50 70,42 80,20 80,20 75,60 55,96",
        "80,24 50,4 20,26 45,50 78,28 80,70 50,96 18,84",
        "75,15 40,6 25,30 50,45 76,18 76,18 70,96",
    ],
}


@lru_cache
def font_files() -> tuple[str, ...]:
    """The faces that matplotlib ships, sorted by name so that a seed means the same everywhere."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(str(path) for pattern in FONTS for path in sorted(folder.glob(pattern)))


@lru_cache(maxsize=512)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _smooth(points_P2: np.ndarray, steps: int = 8) -> list[tuple[float, float]]:
    """Catmull-Rom curve through the points."""
    padded = np.concatenate([points_P2[:1], points_P2, points_P2[-1:]])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = b + (c - a) * t / 2 + (2 * a - 5 * b + 4 * c - d) * t**2 / 2 + (3 * b - a - 3 * c + d) * t**3 / 2
    return [tuple(p) for p in np.concatenate([curve.reshape(-1, 2), points_P2[-1:]])]


def _pen(char: str, rng: random.Random) -> Image.Image:
    """A digit as shaken pen strokes, white on black."""
    image, width = Image.new("L", (128, 128)), rng.randint(8, 22)
    draw = ImageDraw.Draw(image)
    for part in rng.choice(STROKES[char]).split("|"):
        points = np.array([[float(v) for v in point.split(",")] for point in part.split()])
        # A doubled point must stay double, or its corner turns round: shake by place, not by index.
        shake = {tuple(p): (rng.gauss(0, 4.5), rng.gauss(0, 4.5)) for p in points}
        line = _smooth(14 + np.array([p + shake[tuple(p)] for p in points]))
        draw.line(line, fill=255, width=width, joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return image


def _print(char: str, rng: random.Random) -> Image.Image:
    """A character of a font, its strokes thickened by up to 3 px, white on black."""
    image = Image.new("L", (128, 128))
    font = _font(rng.choice(font_files()), 88)
    ImageDraw.Draw(image).text((64, 64), char, 255, font, anchor="mm", stroke_width=rng.choice((0, 0, 1, 2, 3)))
    return image


def _place(image: Image.Image, rng: random.Random) -> np.ndarray:
    """Crop to the ink, stretch, and put it somewhere on the canvas: (H, W) uint8."""
    ink = image.crop(image.getbbox())
    height = CANVAS * min(rng.uniform(0.65, 1.2), 1.0)
    width = height * ink.width / ink.height * rng.uniform(0.75, 1.4)
    # A 1 or a bar must keep some thickness once it is shrunk to 8 px.
    size = (round(min(max(width, 8), CANVAS)), round(height))
    canvas = Image.new("L", (CANVAS, CANVAS))
    slack = (CANVAS - size[0], CANVAS - size[1])
    # Mostly near the centre, as in pictures of single digits.
    corner = tuple(round(s * min(max(rng.gauss(0.5, 0.2), 0), 1)) for s in slack)
    canvas.paste(ink.resize(size, Image.Resampling.BILINEAR), corner)
    return np.asarray(canvas)


def _bend(ink_N1HW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotate by about 8 degrees, shear, and warp elastically."""
    n = len(ink_N1HW)
    angle, shear = (torch.randn(2, n, generator=generator) * torch.tensor([[0.13], [0.15]])).unbind()
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos()
    theta[:, 0, 1], theta[:, 1, 0] = angle.sin() + shear, -angle.sin()
    grid = F.affine_grid(theta, list(ink_N1HW.shape), align_corners=False)
    strength = torch.rand(n, 1, 1, 1, generator=generator) * 0.09
    knots = torch.randn(n, 2, 5, 5, generator=generator) * strength
    field = F.interpolate(knots, size=(CANVAS, CANVAS), mode="bicubic", align_corners=True)
    return F.grid_sample(ink_N1HW, grid + field.permute(0, 2, 3, 1), align_corners=False)


def _coarsen(ink_N1HW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shrink 70% to 8-14 px and enlarge them again: what a tiny scan looks like on a large canvas."""
    side = torch.randint(1, 15, (len(ink_N1HW),), generator=generator)
    side[side < 4] = 8
    out = ink_N1HW.clone()
    for k in range(8, 15):
        rows = (side == k).nonzero().squeeze(1)
        if len(rows):
            small = F.interpolate(ink_N1HW[rows], size=(k, k), mode="area")
            out[rows] = F.interpolate(small, size=(CANVAS, CANVAS), mode="bicubic", align_corners=False)
    return out.clamp(0, 1)


def _colour(ink_N1HW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Lay ink on paper: light on dark in 60% of the glyphs, three quarters of them grey."""
    n = len(ink_N1HW)
    low, high = torch.rand(2, n, 3, 1, 1, generator=generator).unbind()
    grey = torch.rand(n, generator=generator) < 0.75
    low[grey], high[grey] = low[grey][:, :1] ** 3, high[grey][:, :1] ** 0.33
    low, high = low * 0.4, 0.6 + high * 0.4
    dark_ink = (torch.rand(n, generator=generator) < 0.4)[:, None, None, None]
    ink, paper = torch.where(dark_ink, low, high), torch.where(dark_ink, high, low)
    return paper + (ink - paper) * ink_N1HW


def draw_glyphs(count: int, seed: int, letters_share: float = 0.2) -> tuple[torch.Tensor, list[str]]:
    """Draw digits and letters, every one different.

    Parameters
    ----------
    count : int
        How many glyphs.
    seed : int
        The same seed draws the same glyphs.
    letters_share : float
        The share of letters; the rest is digits.

    Returns
    -------
    images_N3HW : torch.Tensor
        uint8 RGB on a canvas of 64 px.
    chars : list of str
        What each one shows: '0' to '9', or a letter in the case it was drawn in.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    chars = [rng.choice(LETTERS if rng.random() < letters_share else string.digits) for _ in range(count)]
    inks = [_place((_pen if c in STROKES and rng.random() < 0.6 else _print)(c, rng), rng) for c in chars]
    images = []
    for chunk in torch.from_numpy(np.stack(inks)).split(1024):
        ink_N1HW = _bend(chunk[:, None].float() / 255, generator)
        image_N3HW = _colour(_coarsen(ink_N1HW, generator), generator)
        images.append((image_N3HW * 255).round().to(torch.uint8))
    return torch.cat(images), chars
