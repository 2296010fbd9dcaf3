"""A trained method as one graph of tensors, pictures in and probabilities out: torch's .pt2, or ONNX.

Shapes: N pictures, H their side in px, C classes, D embedding.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .features import Head
from .files import write_whole
from .parameters import InputError
from .zero_shot import ZeroShot

# The scores of `detection` once more, in tensors: from logits and cosines (N, C).
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "msp": lambda logits, cosines: logits.softmax(1).amax(1),
    "mcm": lambda logits, cosines: cosines.softmax(1).amax(1),
    "max_logit": lambda logits, cosines: logits.amax(1),
    "energy": lambda logits, cosines: logits.logsumexp(1),
}
SUFFIXES = (".pt2", ".onnx")


def resize_matrix(side: int, to: int) -> Tensor:
    """Return R, (to, side): R X R^T is torch's bicubic, antialiased resize of a square X, its overshoot not yet cut.

    The resize is linear and goes along one axis at a time; what it does to the identity's columns is all of it.
    """
    return F.interpolate(torch.eye(side)[None, None], (to, side), mode="bicubic", antialias=True)[0, 0]


class Graph(nn.Module):
    """What is exported: uint8 pictures (N, H, H, 3) to probabilities (N, C) and ID scores (N,), in single precision.

    Parameters
    ----------
    shares : sequence of (float, ZeroShot)
        The methods whose image features are added up, with their weights.
    head : Head
    side : int
        H.
    score : str
        One of `SCORES`.
    renormalise : bool
        Bring the sum back to unit length.
    """

    def __init__(self, shares: Sequence[tuple[float, ZeroShot]], head: Head, side: int, score: str, renormalise: bool):
        super().__init__()
        # torch does not look into a tuple, so the text towers stay out of the file: the class weights stand for them.
        self.shares, self.side, self.scale = tuple(shares), side, head.scale
        self.score, self.renormalise = SCORES[score], renormalise and len(shares) > 1
        self.parts = nn.ModuleList(dict.fromkeys(part for _, method in shares for part in method.image_parts()))
        self.register_buffer("weights_CD", torch.from_numpy(head.weights_CD))
        self.register_buffer("bias_C", None if head.bias_C is None else torch.from_numpy(head.bias_C))
        for to in {method.image_size for _, method in shares} - {side}:
            self.register_buffer(f"resize_{to}", resize_matrix(side, to))

    def forward(self, images_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities (N, C) and ID scores (N,)."""
        features_ND = sum(w * method.image_features(self._resized(images_NHWC, method)) for w, method in self.shares)
        if self.renormalise:
            features_ND = F.normalize(features_ND, dim=-1)
        logits_NC = self.scale * features_ND @ self.weights_CD.T
        if self.bias_C is not None:
            logits_NC = logits_NC + self.bias_C
        return logits_NC.softmax(1), self.score(logits_NC, logits_NC / self.scale)

    def _resized(self, images_NHWC: Tensor, method: ZeroShot) -> Tensor:
        """Return pictures, 0 to 255, of the size that the method places as it is: ONNX has no resize like torch's."""
        pixels = images_NHWC.float()
        if method.image_size == self.side:
            return pixels
        matrix = getattr(self, f"resize_{method.image_size}")
        pixels = matrix @ pixels.permute(0, 3, 1, 2) @ matrix.T
        return pixels.clamp(0, 255).permute(0, 2, 3, 1)


def check_suffix(path: Path) -> None:
    """Refuse a file that cannot be written here, before anything is computed.

    Raises
    ------
    InputError
        For another suffix than `SUFFIXES`, or for ONNX without its packages.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is refused: the name ends in .pt2 (torch.export) or in .onnx.")
    missing = [name for name in ("onnx", "onnxscript") if path.suffix == ".onnx" and find_spec(name) is None]
    if missing:
        raise InputError(
            f"{path} needs {' and '.join(missing)}: pip install onnx onnxscript onnxruntime. "
            "A name that ends in .pt2 needs torch alone."
        )


def write_graph(path: Path, graph: Graph, about: dict[str, Any]) -> Path:
    """Write a graph on the CPU as .pt2 or .onnx, by suffix; the batch is of any size.

    Parameters
    ----------
    about : dict
        Goes into the file as JSON: a .pt2's extra file ``about.json``, an .onnx's metadata ``about``.

    Raises
    ------
    InputError
        If torch cannot turn the image tower into a graph, if ONNX cannot hold it, or the file cannot be written.
    """
    said, size = json.dumps(about, sort_keys=True), sum(v.nbytes for v in graph.state_dict().values())
    if path.suffix == ".onnx" and size > 2e9:
        raise InputError(f"{path} would take {size / 1e9:.1f} GB, and an .onnx file holds 2 GB; export to .pt2.")
    example = torch.zeros(2, graph.side, graph.side, 3, dtype=torch.uint8)
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch and onnxscript, about their own insides
            batch = {0: torch.export.Dim("N")}
            program = torch.export.export(graph.eval(), (example,), dynamic_shapes=(batch,), strict=False)
            content = _onnx(program, said) if path.suffix == ".onnx" else _pt2(program, said)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip():.300}".split("\n", 1)[0]
        raise InputError(f"{path}: torch cannot export this image tower ({reason}).") from error
    finally:
        logging.disable(disabled)
    return write_whole(path, content)


def _pt2(program: torch.export.ExportedProgram, about: str) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"about.json": about})
    return buffer.getvalue()


def _onnx(program: torch.export.ExportedProgram, about: str) -> bytes:
    names = {"input_names": ["images"], "output_names": ["probabilities", "id_score"], "dynamic_shapes": ({0: "N"},)}
    made = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    made.metadata_props.add(key="about", value=about)
    return made.SerializeToString()
