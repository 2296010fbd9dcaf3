"""A program file: the trained tensors as safetensors, and as metadata all that they may be used with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .backbone import Backbone
from .files import write_whole
from .methods import build
from .parameters import InputError
from .recipes import OWN
from .settings import TrainSettings
from .zero_shot import ZeroShot

FORMAT = "reprog_kit program 2"


def save_program(
    path: Path, method: ZeroShot, settings: TrainSettings, classes: Sequence[str], picture_side: int, epoch: int
) -> None:
    """Write a program: the trained tensors, and as metadata all that it may be used with.

    Parameters
    ----------
    picture_side : int
        Px of the squares to which the benchmark brings pictures before the method sees them.
    """
    decides = {"method", "recipe", "seed", "image_size", "precision", *OWN[settings.method]}
    made = settings.model_dump(mode="json", include=decides)
    about = {
        "format": FORMAT,
        "backbone": method.backbone.fingerprint,
        "model": settings.model,
        "pretrained": settings.pretrained,
        "classes": list(classes),
        "captions": method.captions,
        "picture_side": picture_side,
        "canvas": method.backbone.side,
        "scale": method.scale,
        "settings": made,
        "epoch": epoch,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in method.program_state().items()}
    write_whole(path, save(tensors, metadata={"about": json.dumps(about, sort_keys=True)}))


def read_about(path: Path) -> dict[str, Any]:
    """Return what a program file says of itself, without reading its tensors.

    Raises
    ------
    InputError
        If it is no whole program file of this format.
    """
    return _read(path, tensors=False)[0]


def load_program(path: Path, backbone: Backbone) -> ZeroShot:
    """Read a program for a backbone.

    Raises
    ------
    InputError
        If the file is no whole program, or belongs to another backbone.
    """
    about, tensors = _read(path)
    if about["backbone"] != backbone.fingerprint:
        raise InputError(
            f"{path} belongs to another backbone: it was trained on model = {about['model']!r}, "
            f"pretrained = {about['pretrained']!r} with weights {about['backbone'][:12]}…, "
            f"and this is {backbone.name!r}, {backbone.pretrained!r}, {backbone.fingerprint[:12]}…."
        )
    made = TrainSettings.model_construct(**about["settings"])
    method = build(backbone, about["classes"], about["captions"], made)
    try:
        method.load_program_state(tensors)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.") from None
    return method


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is no whole program file ({error}). Copy it again or train anew.") from None
    if about.get("format") != FORMAT:
        raise InputError(f"{path} is no {FORMAT!r} file (format: {about.get('format')!r}). Train it anew.")
    return about, found
