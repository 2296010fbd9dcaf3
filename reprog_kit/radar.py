"""A radar in plain coordinates (plotly): a polygon a line, each axis from the worst line to the best.

Plain coordinates, as plotly moves a line on them without drawing the whole figure anew; on polar ones it cannot.

Shapes: L lines, A axes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import COLOURS, tint

OURS = ("reprogrammer", "residual")
CORE = 0.25  # of the radius: where the worst line stands, so that its polygon stays a polygon


def radii(values: pd.DataFrame, low: pd.Series, high: pd.Series) -> pd.DataFrame:
    """Return where lines stand on their axes: `CORE` at the low end, 1 at the high one, and where both are the same."""
    return CORE + (1 - CORE) * ((values - low) / (high - low).where(high > low)).fillna(1.0)


def polygons(radii_LA: np.ndarray) -> np.ndarray:
    """Return the corners of closed polygons (L, A + 1, 2); the first axis points up, the others follow clockwise."""
    angles_A = np.pi / 2 - 2 * np.pi * np.arange(radii_LA.shape[-1]) / radii_LA.shape[-1]
    corners = radii_LA[..., None] * np.stack([np.cos(angles_A), np.sin(angles_A)], axis=-1)
    return np.concatenate([corners, corners[..., :1, :]], axis=-2)


def radar(
    values: pd.DataFrame, low: pd.Series, high: pd.Series, methods: Mapping[str, str], dashes: Mapping[str, str]
) -> go.Figure:
    """Return a radar of lines, the last on top; ours are thick and filled.

    Parameters
    ----------
    values : DataFrame
        In percent, a row a line and a column an axis.
    low, high : Series
        The ends of the axes, which are written at their names.
    methods, dashes : mapping
        Of each line, for its colour and its stroke.
    """
    figure, corners = go.Figure(), polygons(radii(values, low, high).to_numpy())
    for line, points in zip(values.index, corners):
        ours, shade = methods[line] in OURS, COLOURS.get(methods[line], "#444444")
        shown = [f"{axis}: {value:.1f}%" for axis, value in values.loc[line].items()]
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], name=line, mode="lines+markers", text=[*shown, shown[0]],
            hovertemplate="%{text}", opacity=1 if ours else 0.85, fill="toself" if ours else "none",
            line={"color": shade, "width": 3.5 if ours else 1.8, "dash": dashes[line]}, fillcolor=tint(shade),
            marker={"size": 9 if ours else 6, "color": shade},
        )  # fmt: skip
    _web(figure, low, high)
    return figure


def _web(figure: go.Figure, low: pd.Series, high: pd.Series) -> None:
    """Add both rings, the spokes, and each axis' name with its ends."""
    ends = polygons(np.ones(len(low)))
    rings = [share * ends for share in (CORE, 1)] + [np.array([[0, 0], end]) for end in ends[:-1]]
    for points in rings:
        path = "M" + "L".join(f"{x:.4f},{y:.4f}" for x, y in points)
        figure.add_shape(type="path", path=path, line={"color": "#BBBBBB", "width": 1}, layer="below")
    for (x, y), axis in zip(ends, low.index):
        figure.add_annotation(
            x=x, y=y, text=f"<b>{axis}</b><br>{low[axis]:.1f} to {high[axis]:.1f}%", showarrow=False,
            yshift=26 if y > 0 else -26,
        )  # fmt: skip
    hidden = {"visible": False, "fixedrange": True}
    figure.update_xaxes(range=[-1.25, 1.25], **hidden)
    figure.update_yaxes(range=[-0.85, 1.3], scaleanchor="x", **hidden)
