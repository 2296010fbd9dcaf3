"""A program file as a classifier: pictures of any kind in; labels, probabilities and ID scores out.

Shapes: N pictures, H x W their size in px, C classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from .backbone import Backbone, load_backbone
from .detection import SCORES
from .export import Graph, check_suffix, write_graph
from .features import Head, encode, head
from .parameters import InputError, nearest
from .pictures import squares
from .programs import load_program, read_about
from .residual import residual
from .settings import in_project
from .zero_shot import ZeroShot


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a classifier says of pictures; a notebook shows it as a table.

    Attributes
    ----------
    classes : tuple of str
    labels : ndarray of str, (N,)
        The likeliest class.
    probabilities : ndarray, (N, C)
    scores : ndarray, (N,)
        ID scores; larger is more in-distribution.
    score : str
        Which score that is.
    features : ndarray, (N, D)
        Image features, of unit length unless the residual's recipe leaves them as they come.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray
    score: str
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def table(self) -> pd.DataFrame:
        """Return one line a picture: label, its probability, ID score."""
        likeliest = self.probabilities.max(axis=1)
        return pd.DataFrame({"label": self.labels, "probability": likeliest, f"ID score ({self.score})": self.scores})

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table().to_html(max_rows=20, float_format="{:.4f}".format)


class Classifier:
    """A trained method that takes pictures of any kind; see `load`.

    Attributes
    ----------
    classes : tuple of str
        In label order.
    picture_side : int
        Px of the squares to which pictures are brought first, as the benchmark did.
    method : ZeroShot
    alpha : float
        Share of the zero-shot features.
    about : dict
        What the program file says of itself.
    """

    def __init__(self, method: ZeroShot, about: dict[str, Any], alpha: float = 0.0):
        self.method, self.about, self.alpha = method, about, alpha
        self.classes, self.picture_side = tuple(about["classes"]), about["picture_side"]
        self._precision = about["settings"].get("precision", "auto")
        self._renormalise = about["settings"].get("renormalise", True)
        sides = ((1 - alpha, method), (alpha, ZeroShot(method.backbone, method.captions)))
        self._shares = [(share, side) for share, side in sides if share]
        self._head = self._own_head()

    def _own_head(self) -> Head:
        heads = [head(method, self._precision) for _, method in self._shares]
        return Head(self._mixed([h.weights_CD for h in heads]), self.method.scale, heads[0].bias_C)

    def _mixed(self, parts: list[np.ndarray]) -> np.ndarray:
        return parts[0] if len(parts) == 1 else residual(*parts, self.alpha, self._renormalise)

    def __call__(self, images: Any, score: str = "msp", batch_size: int = 256) -> Prediction:
        """Classify pictures, however many: they are decoded and encoded by the batch.

        Parameters
        ----------
        images : PIL picture, path, encoded bytes, uint8 pixels (H, W, 3), a list of these, or pixels (N, H, W, 3)
            Pixels are a numpy array or a torch tensor. Every picture is turned upright (EXIF) and to RGB, its shorter
            side resized to `picture_side` (bicubic, antialiased) and its centre cut out, as the benchmark's were.
        score : str
            The ID score: one of ``detection.SCORES``.

        Returns
        -------
        Prediction

        Raises
        ------
        InputError
            For anything else, for a picture that cannot be read, or for no picture.
        """
        _check_score(score)
        features_ND = np.concatenate([self._features(part) for part in squares(images, self.picture_side, batch_size)])
        cosines, scale = self._head.cosines(features_ND), self._head.scale
        labels = np.array(self.classes)[cosines.argmax(axis=1)]
        probabilities = softmax(scale * cosines, axis=1)
        return Prediction(self.classes, labels, probabilities, SCORES[score](cosines, scale), score, features_ND)

    def _features(self, images_NHWC: np.ndarray) -> np.ndarray:
        return self._mixed(
            [encode(method, images_NHWC, len(images_NHWC), self._precision) for _, method in self._shares]
        )

    def export(self, path: str | Path, score: str = "msp") -> Path:
        """Write the whole classifier as one graph: .pt2 (torch.export) or .onnx, by suffix.

        It takes ``images``, uint8 (N, picture_side, picture_side, 3) with any N, and returns ``probabilities`` (N, C)
        and ``id_score`` (N,) in single precision. The class weights are constants, the text tower is not in the file,
        and its metadata ``about`` (JSON) names the classes.

        Raises
        ------
        InputError
            For another suffix, an unknown score, ONNX without its packages, or a tower that cannot be exported.
        """
        path = Path(path).expanduser()
        _check_score(score)
        check_suffix(path)
        kept = {k: self.about[k] for k in ("model", "pretrained", "backbone", "classes", "picture_side")}
        own = {"method": self.about["settings"]["method"], "alpha": self.alpha, "score": score}
        about = {"format": "reprog_kit graph 1", **kept, **own}
        device = self.method.backbone.device
        try:  # a graph keeps the device that it was made on
            self.method.to("cpu")
            graph = Graph(self._shares, self._head, self.picture_side, score, self._renormalise)
            return write_graph(path, graph, about)
        finally:
            self.method.to(device)

    def __repr__(self) -> str:
        mixed = f", alpha {self.alpha:g}" if self.alpha else ""
        return (
            f"<{self.about['settings']['method']} on {self.about['model']}{mixed}: {len(self.classes)} classes, "
            f"pictures of {self.picture_side} px>"
        )


def load(
    path: str | Path, device: str = "auto", alpha: float | None = None, backbone: Backbone | None = None
) -> Classifier:
    """Load a trained classifier from its program file or run folder.

    Parameters
    ----------
    path : str or Path
        A program.safetensors, or a folder that holds one; a relative path is also looked for below the project.
    device : str
        ``auto`` is the fastest there is.
    alpha : float, optional
        Share of the zero-shot features, for a reprogrammer; by default 0, the program alone.
    backbone : Backbone, optional
        In the place of loading what the file names: for weights that lie elsewhere now, or for many programs on one.

    Raises
    ------
    InputError
        If there is no whole program file, if the backbone cannot be had or is another one, or if `alpha` is refused.
    """
    found = next((p for p in (Path(path).expanduser(), in_project(path)) if p.exists()), Path(path))
    found = found / "program.safetensors" if found.is_dir() else found
    if not found.is_file():
        raise InputError(f"there is no program at {found}: give a program.safetensors, or a run folder that holds one.")
    about = read_about(found)
    method = about["settings"]["method"]
    if alpha is not None and method != "reprogrammer":
        raise InputError(f"alpha = {alpha} is refused: {found} is a {method}, and only a reprogrammer has a residual.")
    if alpha is not None and not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha} is refused: it is the share of the zero-shot features, 0 to 1.")
    backbone = load_backbone(about["model"], about["pretrained"], device) if backbone is None else backbone
    return Classifier(load_program(found, backbone), about, alpha or 0.0)


def _check_score(score: str) -> None:
    if score not in SCORES:
        raise InputError(f"score = {score!r} is refused.{nearest(score, SCORES)} Known: {', '.join(SCORES)}.")
