"""Every method side by side (plotly): each set, the radar, ID against OOD scores; and what of it moves with alpha.

Shapes: W weights, L lines, S sets, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .ledger import DETECTORS
from .live_figures import Moving
from .plots import ID_COLOUR, OOD_COLOUR, SCORE_NAMES
from .radar import polygons, radar, radii
from .style import COLOURS, style_of, styled
from .tracks import MEANS, Track

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
_COLS = 4
_LAST = {"reprogrammer": 1, "residual": 2}


@dataclass(frozen=True, eq=False)
class Compared:
    """What the figures show.

    Attributes
    ----------
    tracks : dict of Track
        By line, in the order of legends.
    methods : dict of str
        Of each line.
    chosen : str
        The line whose scores are shown.
    score : str
        The detector.
    weights_W : ndarray
        The places of the slider.
    """

    tracks: Mapping[str, Track]
    methods: Mapping[str, str]
    chosen: str
    score: str
    weights_W: np.ndarray

    @cached_property
    def looks(self) -> pd.DataFrame:
        """Line, method (the ensemble is zero-shot's), place in the legend, in the order of drawing: ours last, on top.

        Not by plotly's `zorder`: of traces that have one, the others vanish when it moves them.
        """
        methods = [self.methods[name].replace("prompt_ensemble", "zero_shot") for name in self.tracks]
        found = pd.DataFrame({"line": list(self.tracks), "method": methods, "rank": range(1, len(methods) + 1)})
        return found.sort_values("method", key=lambda names: names.map(_LAST).fillna(0), kind="stable")

    @property
    def drawn(self) -> list[Track]:
        """The tracks in the order of drawing."""
        return [self.tracks[name] for name in self.looks["line"]]

    @property
    def moving(self) -> list[int]:
        """Which of the lines, in the order of drawing, alpha moves."""
        return [i for i, method in enumerate(self.looks["method"]) if method == "residual"]

    def said(self) -> list[str]:
        """Return what holds at every place of the slider, in words."""
        track = self.tracks[self.chosen]
        moves = len(track.weights_W) > 1
        texts = []
        for at, weight in enumerate(self.weights_W):
            means = ", ".join(f"{axis} {value:.1f}%" for axis, value in track.means.iloc[:, at if moves else 0].items())
            texts.append(f"alpha {weight:g} – {self.chosen}: {means}" if moves else f"{self.chosen}: {means}")
        return texts


def each_set(compared: Compared) -> Moving:
    """Return accuracy on ID and shift sets, and AUROC on OOD sets, a dot a line; the residuals' move."""
    tracks, looks = compared.drawn, compared.looks
    index = max((track.percent.index for track in tracks), key=len)
    shown = [track.percent.reindex(index) for track in tracks]
    names = [name for _, name in index]
    symbols, low = style_of(looks, _SYMBOLS), min(float(np.nanmin(part)) for part in shown)
    figure = go.Figure()
    for i, (name, method, rank) in enumerate(looks.itertuples(index=False)):
        moves = i in compared.moving
        figure.add_scatter(
            x=shown[i].iloc[:, 0], y=list(range(len(names))), name=name, mode="markers", legendrank=rank,
            hovertemplate="%{x:.1f}%", opacity=1 if moves else 0.8,
            marker={
                "color": COLOURS.get(method, "#444444"), "symbol": symbols[name], "size": 15 if moves else 9,
                "line": {"color": "#FFFFFF", "width": 1.5 if moves else 0},
            },
        )  # fmt: skip
    styled(figure, "Where does each method gain, and where does it lose?", 130 + 27 * len(names))
    # At the bottom whatever its number of rows, which changes with the width.
    figure.update_layout(margin={"t": 50}, legend={"y": 0, "yanchor": "bottom", "yref": "container"})
    ticks = {"tickvals": list(range(len(names))), "ticktext": [f"{_role(role)} {name} " for role, name in index]}
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], zeroline=False, fixedrange=True, **ticks)
    figure.update_xaxes(
        title=f"accuracy, or AUROC of {DETECTORS[compared.score]}, %", range=[low - 2, 101], fixedrange=True,
        zeroline=False,
    )  # fmt: skip
    moving = [shown[i].T.to_numpy() for i in compared.moving]  # (W, S) each
    frames = [[{"x": _plain(values)} for values in places] for places in zip(*moving)]
    return Moving(figure, compared.moving, frames, 560)


def axes_radar(compared: Compared) -> Moving:
    """Return the three axes of every line, their ends those of all lines at every alpha (paper Fig. 1)."""
    axes = [axis for axis in MEANS if all(axis in track.means.index for track in compared.tracks.values())]
    every = pd.concat([track.means.loc[axes].T for track in compared.drawn])
    if len(axes) < 3 or len(compared.tracks) < 2:
        return Moving(styled(go.Figure(), "A radar needs two lines and all three axes", 120), width=380)
    low, high, looks = every.min(), every.max(), compared.looks
    values = pd.DataFrame([track.means.loc[axes].iloc[:, 0] for track in compared.drawn], index=looks["line"])
    methods = dict(zip(looks["line"], looks["method"]))
    figure = radar(values, low, high, methods, style_of(looks, ("solid", "dash", "dot", "dashdot")))
    styled(figure, "Who leads on which axis?", 400)
    ends = {"text": "inner ring: the worst line; rim: the best", "showarrow": False, "font": {"size": 11}}
    figure.add_annotation(x=0, y=-0.85, **ends)
    figure.update_layout(showlegend=False, margin={"l": 10, "r": 10, "t": 50, "b": 10})
    moving = [compared.drawn[i].means.loc[axes].T for i in compared.moving]
    corners = [polygons(radii(means, low, high).to_numpy()) for means in moving]  # (W, A + 1, 2) each
    frames = [[{"x": _plain(p[:, 0]), "y": _plain(p[:, 1])} for p in places] for places in zip(*corners)]
    return Moving(figure, compared.moving, frames, 380)


def score_histograms(compared: Compared) -> Moving:
    """Return the chosen line's ID scores, the test set's against each OOD set's."""
    track, line = compared.tracks[compared.chosen], compared.chosen
    outside = [name for name in track.histograms if name != "test"]
    if not outside:
        return Moving(styled(go.Figure(), f"{line}: there is no OOD set with {DETECTORS[compared.score]} scores", 110))
    cols = min(_COLS, len(outside))
    rows = -(-len(outside) // cols)
    figure = make_subplots(rows, cols, subplot_titles=outside, shared_yaxes=True, horizontal_spacing=0.03)
    for i, name in enumerate(outside):
        for label, of, shade in (("ID", "test", ID_COLOUR), ("OOD", name, OOD_COLOUR)):
            figure.add_scatter(
                x=track.middles_B, y=track.histograms[of][0], name=f"{label} pictures", mode="lines", fill="tozeroy",
                line={"color": shade, "shape": "hvh", "width": 1.5}, row=i // cols + 1, col=i % cols + 1,
                showlegend=i == 0, legendgroup=label, hovertemplate="%{y:.1f}%",
            )  # fmt: skip
    styled(figure, f"Does {line}'s {DETECTORS[compared.score]} tell ID from OOD?", 110 + 170 * rows)
    most, cut = _height(track)
    figure.update_yaxes(range=[0, most], fixedrange=True).update_yaxes(title=f"% of pictures{cut}", col=1)
    figure.update_layout(legend={"x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "yref": "container"})
    figure.update_xaxes(range=[track.middles_B[0], track.middles_B[-1]], fixedrange=True)
    figure.update_xaxes(title=SCORE_NAMES[compared.score], row=rows)
    if len(track.weights_W) == 1:
        return Moving(figure)
    order = [of for name in outside for of in ("test", name)]
    frames = [[{"y": _plain(track.histograms[of][at])} for of in order] for at in range(len(track.weights_W))]
    return Moving(figure, list(range(len(order))), frames)


def _height(track: Track) -> tuple[float, str]:
    """Return the axis' height, and whether it cuts: one bin of sure answers would flatten all others."""
    parts = np.concatenate(list(track.histograms.values()))  # (W * sets, B)
    most, second = float(parts.max()), float(np.sort(parts, axis=1)[:, -2].max())
    return (1.3 * second, ", tallest cut") if most > 2 * second > 0 else (1.05 * most, "")


def _role(role: str) -> str:
    return {"id": "ID", "shift": "shift", "ood": "OOD"}[role]


def _plain(values) -> list[float | None]:
    """Return numbers as JSON has them: rounded, and nothing for what is not there."""
    return [None if np.isnan(value) else round(float(value), 4) for value in values]
