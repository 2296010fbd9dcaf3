"""Picture, program and reprogrammed picture at any width of the border: arrays in, arrays and PNG bytes out.

Shapes: S the canvas' side in px, C = 3, H x W a picture.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image

from .backbone import load_backbone
from .datasets import BenchmarkData
from .explore_settings import AblationSettings
from .image_program import ImageProgram, border_mask, place
from .programs import load_program
from .reprogrammer import Reprogrammer
from .run_folders import find_run
from .settings import TrainSettings


@dataclass(frozen=True, eq=False)
class View:
    """What is shown at one width.

    Attributes
    ----------
    picture_SSC, program_SSC, reprogrammed_SSC : ndarray of uint8
        The picture on the whole canvas; what the nearest run adds, stretched to full contrast around mid-grey; what
        the encoder sees.
    padding, nearest : int
        The width asked for and that of the nearest run, in px.
    caption : str
        What is shown where the two differ.
    """

    picture_SSC: np.ndarray
    program_SSC: np.ndarray
    reprogrammed_SSC: np.ndarray
    padding: int
    nearest: int
    caption: str


def nearest_width(padding: int, widths) -> int:
    """Return the nearest of the widths; of two, the wider, whose border can be cut."""
    return min(widths, key=lambda width: (abs(width - padding), -width))


def on_canvas(picture_HWC: np.ndarray, side: int, image_size: int) -> np.ndarray:
    """Return a square uint8 picture on its canvas as floats (S, S, C) in [0, 1]; see `image_program.place`."""
    batch = torch.from_numpy(np.ascontiguousarray(picture_HWC))[None]
    return place(batch, side, image_size)[0].permute(1, 2, 0).numpy()


def view(
    picture_HWC: np.ndarray, programs: Mapping[int, np.ndarray], padding: int, shrink: bool = False,
    image_size: int | None = None, trained: bool = True,
) -> View:  # fmt: skip
    """Return what a border of a width does to a picture.

    Parameters
    ----------
    picture_HWC : ndarray of uint8
        A square picture.
    programs : mapping of int to ndarray
        For each trained width in px what its run adds to the canvas, tanh(W * M), (S, S, C).
    padding : int
        The width to show. The nearest run's border is cut to it; where it is narrower, it is shown as it is.
    shrink : bool
        Whether the picture stands inside the border rather than under it.
    image_size : int, optional
        Px of the picture on the canvas, whatever the border; by default all of the canvas.
    trained : bool
        Whether the programs were trained, rather than what a training starts from.
    """
    width = nearest_width(padding, programs)
    added_SSC = programs[width]
    side = len(added_SSC)
    shown = min(width, padding)
    if shown < width:
        added_SSC = np.where(border_mask(side, shown).numpy()[:, :, None], added_SSC, 0)
    whole = on_canvas(picture_HWC, side, side)
    under = on_canvas(picture_HWC, side, side - 2 * padding if shrink else image_size or side)
    return View(
        _bytes(whole), _stretched(added_SSC), _bytes(np.clip(under + added_SSC, 0, 1)), padding, width,
        _caption(padding, width, shown) if trained else f"{padding} px, not trained yet: what a training starts from",
    )  # fmt: skip


def _caption(padding: int, width: int, shown: int) -> str:
    if padding == width:
        return f"{padding} px, as trained" if width else "0 px: no border; the text program alone was trained"
    nearest = f"{padding} px: the nearest run has {width} px"
    if not width:
        return f"{nearest}, so there is no border to show"
    if shown < padding:
        return f"{nearest}, shown is its border; nothing was trained further in"
    return f"{nearest}, shown are its outer {padding}" if padding else f"{nearest}, nothing of it is left"


def _bytes(pixels_SSC: np.ndarray) -> np.ndarray:
    return (255 * pixels_SSC).round().astype(np.uint8)


def _stretched(added_SSC: np.ndarray) -> np.ndarray:
    """Return a perturbation with mid-grey for no change; a change of less than a grey level stays as small as it is."""
    return _bytes((added_SSC / max(float(np.abs(added_SSC).max()), 1 / 255) + 1) / 2)


def png(pixels_SSC: np.ndarray, least: int = 224) -> bytes:
    """Return a picture as PNG, enlarged by whole pixels to at least `least` px; compressed little, for speed."""
    times = -(-least // len(pixels_SSC))
    if times > 1:
        pixels_SSC = pixels_SSC.repeat(times, axis=0).repeat(times, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels_SSC).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


@torch.inference_mode()
def border_of(method: Reprogrammer) -> np.ndarray:
    """Return what a reprogrammer with an image program adds to the canvas, (S, S, C) float32."""
    return method.image_program.perturbation().permute(1, 2, 0).contiguous().cpu().numpy()


def untrained_border(side: int, settings: TrainSettings) -> np.ndarray:
    """Return what a training of these settings starts from, on all of the canvas, (S, S, C) float32."""
    start = torch.Generator().manual_seed(settings.seed)
    program = ImageProgram(side, side // 2, settings.init_std, start).perturbation()
    return program.detach().permute(1, 2, 0).contiguous().numpy()


def trained_programs(rows: pd.DataFrame, settings: AblationSettings) -> dict[int, np.ndarray]:
    """Return what the first seed's run of every padding adds to the canvas, (S, S, C) float32 by padding."""
    first = rows[rows["seed"] == rows["seed"].iloc[0]].drop_duplicates("padding")
    found, backbone = {}, None
    for padding, name in zip(first["padding"], first["run"]):
        run = find_run(name, settings.runs)
        backbone = backbone or load_backbone(run.settings.model, run.settings.pretrained, "cpu")
        found[int(padding)] = border_of(load_program(run.folder / "program.safetensors", backbone))
    return found


def example_pictures(data: BenchmarkData, most: int = 10) -> dict[str, np.ndarray]:
    """Return a validation picture of each of the first classes, and a picture of each shift set, by name."""
    labels = data.validation.labels_N
    chosen = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:most]]
    found = {data.classes[labels[i]]: np.array(data.validation.images_NHWC[i]) for i in chosen}
    found.update({f"{name} (shift)": np.array(part.images_NHWC[0]) for name, part in data.shift.items()})
    return found
