"""A program file: the trained tensors as safetensors, and as metadata all that they may be used with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .backbone import Backbone
from .files import write_whole
from .parameters import InputError
from .reprogrammer import Reprogrammer
from .settings import TrainSettings

FORMAT = "reprog_kit program 1"


def save_program(path: Path, method: Reprogrammer, settings: TrainSettings, classes: Sequence[str], epoch: int) -> None:
    """Write a program: the trained tensors, and as metadata all that it may be used with."""
    about = {
        "format": FORMAT,
        "backbone": method.backbone.fingerprint,
        "model": settings.model,
        "pretrained": settings.pretrained,
        "classes": list(classes),
        "captions": method.captions,
        "program": settings.program,
        "side": method.backbone.side,
        "padding": method.padding,
        "image_size": method.image_size,
        "scale": method.scale,
        "recipe": settings.recipe,
        "epoch": epoch,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in method.program_state().items()}
    write_whole(path, save(tensors, metadata={"about": json.dumps(about, sort_keys=True)}))


def load_program(path: Path, backbone: Backbone) -> Reprogrammer:
    """Read a program for a backbone.

    Raises
    ------
    InputError
        If the file is no whole program, or belongs to another backbone.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is no whole program file ({error}). Copy it again or train anew.") from None
    if about.get("format") != FORMAT:
        raise InputError(f"{path} is no {FORMAT!r} file (format: {about.get('format')!r}).")
    if about["backbone"] != backbone.fingerprint:
        raise InputError(
            f"{path} belongs to another backbone: it was trained on model = {about['model']!r}, "
            f"pretrained = {about['pretrained']!r} with weights {about['backbone'][:12]}…, "
            f"and this is {backbone.name!r}, {backbone.pretrained!r}, {backbone.fingerprint[:12]}…."
        )
    method = Reprogrammer(backbone, about["captions"], about["program"], about["padding"], about["image_size"])
    try:
        method.load_program_state(tensors)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.") from None
    return method
