"""One picture under every line of a workbench: answers, ID scores, and where the encoder looks. Arrays out.

Shapes: H the benchmark's side and S the canvas' in px, C classes, D embedding, N test pictures, B bins of ID scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from .ledger import DETECTORS
from .metrics import binned
from .parameters import InputError, nearest
from .program_doctor import border_share
from .seen import Seen, border_of
from .tracks import BINS, Line
from .workbench import Workbench


@dataclass(frozen=True, eq=False)
class Border:
    """What the trained border does to the answer to a picture.

    Attributes
    ----------
    padding : int
        Its width in px.
    gradient, area : float
        Its share, 0 to 1, of the absolute gradient, and of the canvas.
    kept, removed : float
        The answer's probability with the border, and with the picture alone where it was.
    """

    padding: int
    gradient: float
    area: float
    kept: float
    removed: float


@dataclass(frozen=True, eq=False)
class Inspection:
    """What there is to say about one picture.

    Attributes
    ----------
    name, method : str
        The chosen line, and its method.
    score, alpha : str, float
        The detector, and the residuals' share of the zero-shot features.
    answer, label : str, str or None
        What the chosen line answers; the true class, where it is known.
    picture_SSC, seen_SSC : ndarray of uint8
        The picture on the canvas, and what the chosen line's encoder sees of it (a residual's reprogrammer).
    gradient_SS : ndarray
        The absolute gradient of the answer's logit by that canvas, added up over the channels: logits a unit of
        brightness. A residual's is that of its reprogrammer.
    border : Border or None
        None where no border was trained.
    answers : DataFrame
        The likeliest of all classes, and the true one: line, method, rank (1 is the likeliest), class, probability.
    scores : DataFrame
        By line: method, score, and in ``below`` the share, 0 to 1, of the ID test pictures with a lower one; half of
        those with the same count. Both are NaN where the detector cannot be had.
    unscored : dict of str to str
        Why it cannot be had, by line.
    middles_B, id_B, ood_B : ndarray
        Of the chosen line: bins of ID scores, and the percentage of the test pictures, and of those of all OOD sets
        together, in each; empty where there are none. A residual's are those at the nearest alpha of its track.
    """

    name: str
    method: str
    score: str
    alpha: float
    answer: str
    label: str | None
    picture_SSC: np.ndarray
    seen_SSC: np.ndarray
    gradient_SS: np.ndarray
    border: Border | None
    answers: pd.DataFrame
    scores: pd.DataFrame
    unscored: dict[str, str]
    middles_B: np.ndarray
    id_B: np.ndarray
    ood_B: np.ndarray


def inspect(
    bench: Workbench, picture: np.ndarray | Seen, score: str | None = None, alpha: float | None = None,
    name: str | None = None, label: int | None = None, most: int = 3,
) -> Inspection:  # fmt: skip
    """Return what every line of a workbench says to a picture, and where the encoder of one of them looks.

    Parameters
    ----------
    bench : Workbench
    picture : ndarray of uint8, (H, W, 3), or Seen
        A square of the benchmark's side; `pictures.squares` makes one of any picture. One that was seen before takes
        no pass again.
    score, alpha, name : str, float, str, optional
        Detector, the residuals' alpha, and the chosen line; by default where the workbench stands.
    label : int, optional
        The picture's class, if it is known; -1 is none.
    most : int
        How many of the likeliest classes are named a line.

    Raises
    ------
    InputError
        For other pixels, or a line, a detector or an alpha that there is not.
    """
    name, score, alpha = name or bench.chosen, score or bench.score, bench.alpha if alpha is None else alpha
    for word, value, known in (("line", name, bench.lines), ("detector", score, DETECTORS)):
        if value not in known:
            raise InputError(f"there is no {word} {value!r}.{nearest(value, known)} There are: {', '.join(known)}.")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha} is refused: it is the share of the zero-shot features, 0 to 1.")
    seen = picture if isinstance(picture, Seen) else Seen(bench, picture, label)
    return _look(seen, name, score, alpha, most)


def _look(seen: Seen, name: str, score: str, alpha: float, most: int) -> Inspection:
    bench = seen.bench
    line, classes = bench.lines[name], bench.data.classes
    answers, (scores, unscored) = _answers(seen, alpha, most), _scores(seen, score, alpha)
    answer = answers.loc[answers["line"] == name, "class"].iloc[0]
    gradient_SS = seen.gradient(line, classes.index(answer))
    return Inspection(
        name, line.method, score, alpha, answer, seen.label, *seen.canvases(line), gradient_SS,
        _border(seen, line, classes.index(answer), alpha, gradient_SS), answers, scores, unscored,
        *([np.empty(0)] * 3 if name in unscored else _histograms(bench, name, score, alpha)),
    )  # fmt: skip


def _answers(seen: Seen, alpha: float, most: int) -> pd.DataFrame:
    rows, classes = [], seen.bench.data.classes
    for name in seen.bench.names:
        line = seen.bench.lines[name]
        found_C = seen.probabilities(line, alpha)
        ranked = enumerate(np.argsort(-found_C, kind="stable"), start=1)
        shown = [(rank, c) for rank, c in ranked if rank <= most or classes[c] == seen.label]
        rows += [(name, line.method, rank, classes[c], found_C[c]) for rank, c in shown]
    return pd.DataFrame(rows, columns=["line", "method", "rank", "class", "probability"])


def _scores(seen: Seen, score: str, alpha: float) -> tuple[pd.DataFrame, dict[str, str]]:
    rows, unscored = {}, {}
    for name in seen.bench.names:
        line = seen.bench.lines[name]
        try:
            own = seen.id_score(line, score, alpha)
            rows[name] = (line.method, own, share_below(seen.bench.id_scores(name, score, alpha), own))
        except InputError as error:  # too few training pictures for a detector on features
            rows[name], unscored[name] = (line.method, np.nan, np.nan), str(error)
    return pd.DataFrame.from_dict(rows, "index", columns=["method", "score", "below"]), unscored


def _border(seen: Seen, line: Line, label: int, alpha: float, gradient_SS: np.ndarray) -> Border | None:
    if not (padding := border_of(line)):
        return None
    kept, removed = (float(seen.probabilities(line, alpha, border)[label]) for border in (True, False))
    share, area = (border_share(torch.from_numpy(x), padding) for x in (gradient_SS, np.ones_like(gradient_SS)))
    return Border(padding, share, area, kept, removed)


def _histograms(bench: Workbench, name: str, score: str, alpha: float) -> list[np.ndarray]:
    """Return middles of the bins, and the percentage of the ID and of all OOD pictures in each."""
    track = bench.track(name, score)
    if "test" not in track.histograms:  # without OOD sets nothing is scored along alpha
        middles_B, (found,) = binned([bench.id_scores(name, score, alpha)[None]], BINS)
        return [middles_B, found[0], np.empty(0)]
    parts = {which: found[track.at(alpha)] for which, found in track.histograms.items()}
    own_B, sizes = parts.pop("test"), [len(bench.pictures(which)) for which in parts]
    return [track.middles_B, own_B, np.average(list(parts.values()), axis=0, weights=sizes)]


def share_below(ascending_N: np.ndarray, value: float) -> float:
    """Return the share of numbers, in ascending order, that are lower than a value; half of those like it count."""
    return float(np.mean([np.searchsorted(ascending_N, value, side) for side in ("left", "right")]) / len(ascending_N))
