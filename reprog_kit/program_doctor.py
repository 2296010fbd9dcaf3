"""The program doctor: is a trained program alive, and what to change where it is not.

Shapes: B pictures, S canvas side in px, P border pixels, V token rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from torch import Tensor

from .image_program import border_mask
from .image_sets import ImageSet
from .reprogrammer import Reprogrammer
from .settings import TrainSettings
from .zero_shot import ZeroShot

# Below one grey level of 255 an 8-bit picture would not change at all.
DEAD_LEVELS = 1.0
# tanh'(W) is below 0.02 where |tanh(W)| is above this: such a pixel hardly learns any more.
SATURATED = 0.99
# Against a black rim half of all changes are clipped whatever they are; more than this is the program's doing.
CLIPPED = 0.75


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` found.

    Attributes
    ----------
    figures : dict of str to str
        Each measured quantity, ready to be read.
    warnings : tuple of str
        What is wrong, and what to change; empty if nothing is.
    """

    figures: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.figures:
            return "There is no program to examine: this method changes no input."
        return "The program is alive." if not self.warnings else f"{len(self.warnings)} thing(s) to change."

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.figures.items()]
        return "\n".join([*lines, self.verdict, *(f"! {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in self.figures.items())
        said = "".join(f"<li>⚠ {escape(warning)}</li>" for warning in self.warnings)
        return f"<table>{rows}</table><p><b>{escape(self.verdict)}</b></p><ul>{said}</ul>"


def examine(method: ZeroShot, data: ImageSet, settings: TrainSettings, pictures: int = 64) -> Diagnosis:
    """Examine a trained program on the first pictures of a set.

    Parameters
    ----------
    method : ZeroShot
        A `Reprogrammer`; any other method has no program, and the diagnosis is empty.
    data : ImageSet
        A labelled set, such as validation.
    pictures : int
        How many of it.
    """
    if not isinstance(method, Reprogrammer):
        return Diagnosis({}, ())
    figures, warnings = {}, []
    if method.image_program is not None and method.padding > 0:
        _border(method, data.take(slice(0, pictures)), settings, figures, warnings)
    if method.text_program is not None:
        _tokens(method, figures, warnings)
    return Diagnosis(figures, tuple(warnings))


def _border(method: Reprogrammer, data: ImageSet, settings: TrainSettings, figures: dict, warnings: list) -> None:
    device = method.backbone.device
    images, labels = (torch.from_numpy(np.array(part)).to(device) for part in (data.images_NHWC, data.labels_N))
    border = border_mask(method.backbone.side, method.padding).to(device)
    with torch.no_grad():
        added_3P = method.image_program.values.tanh()
        plain = ZeroShot.canvas(method, images)
        sums = plain + method.image_program.perturbation()
        clipped = ((sums < 0) | (sums > 1))[:, :, border].float().mean().item()
    levels, stuck = 255 * added_3P.abs().mean().item(), (added_3P.abs() > SATURATED).float().mean().item()
    share, area = border_gradient_share(method, images, labels, settings), border.float().mean().item()
    figures["mean |tanh(W·M)| on the border"] = f"{levels:.1f} of 255 grey levels"
    figures["saturated border values, |tanh| > 0.99"] = f"{stuck:.1%}"
    figures["border values clipped at black or white"] = f"{clipped:.1%}"
    figures["share of the loss' gradient that is on the border"] = f"{share:.1%} (its share of the area: {area:.1%})"
    if levels < DEAD_LEVELS:
        warnings.append(
            f"The image program is dead: {levels:.2f} grey levels. Give more epochs, a larger image_lr "
            f"(now {settings.image_lr:g}) or init_std ({settings.init_std:g}), or less image_weight_decay "
            f"({settings.image_weight_decay:g})."
        )
    if stuck > 0.5:
        warnings.append(
            f"The image program is saturated: {stuck:.0%} of its values are at an end and hardly learn. "
            f"Give a smaller init_std (now {settings.init_std:g}) or image_lr ({settings.image_lr:g})."
        )
    if clipped > CLIPPED and stuck <= 0.5:
        warnings.append(
            f"{clipped:.0%} of the border is clipped to black or white, so the picture's rim is hidden. "
            f"Give a smaller init_std (now {settings.init_std:g}) or image_lr ({settings.image_lr:g}), or an "
            "image_size that leaves the border free."
        )
    if share < 0.1 * area:
        warnings.append(
            f"The encoder hardly looks at the border: {share:.1%} of the gradient on {area:.0%} of the area. "
            f"Give a larger padding (now {method.padding})."
        )


def border_gradient_share(method: Reprogrammer, images_BHWC, labels_B, settings: TrainSettings) -> float:
    """Return the share, 0 to 1, of the absolute gradient of the loss by the canvas' pixels that lies on the border."""
    gradient = canvas_gradient(method, images_BHWC, lambda found: method.feature_loss(found, labels_B, settings))
    return border_share(gradient.abs().sum(dim=(0, 1)), method.padding)


def canvas_gradient(method: ZeroShot, images_BHWC: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the gradient (B, 3, S, S), by what the encoder sees, of a number that follows from the image features.

    Nothing is added to any parameter's own gradient, so that a training may go on at the same time.
    """
    with torch.enable_grad():
        canvas = method.canvas(images_BHWC).detach().requires_grad_(True)
        return torch.autograd.grad(of(method.encoder.encode_image(canvas)), canvas)[0]


def border_share(values_SS: Tensor, padding: int) -> float:
    """Return the share, 0 to 1, of non-negative values on a canvas that lies on a border of so many px."""
    total = values_SS.sum().item()
    border = border_mask(len(values_SS), padding).to(values_SS.device)
    return values_SS[border].sum().item() / total if total else 0.0


def _tokens(method: Reprogrammer, figures: dict, warnings: list) -> None:
    moved = method.text_program.moved(method.backbone)
    count, largest = int((moved > 0.001).sum()), moved.max().item()
    figures["token rows moved by more than 0.1% of their length"] = f"{count} of {len(moved)}"
    figures["the largest such move"] = f"{largest:.1%} of the row's length"
    if count == 0:
        warnings.append("The text program is dead: no token row moved. Give more epochs or a larger text_lr.")
    if moved.median() > 1:
        warnings.append(
            f"The text program ran away: half of its rows moved by more than their length (at most {largest:.0%}). "
            "Give a smaller text_lr."
        )
