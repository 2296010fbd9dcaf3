"""Figures of sweeps (plotly): each takes their rows and returns a `plotly.graph_objects.Figure`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import sweep_rows
from .ledger import DETECTORS
from .plots import OOD_COLOUR, nothing
from .style import COLOURS, styled, tint
from .sweep_rows import METRICS, WORDS, Mark, axes, band, chosen, kind_of

# One a detector: no method's business, so told apart by dash as well.
_LINES = {
    "msp": ("#0072B2", "solid"),
    "mcm": ("#56B4E9", "dash"),
    "max_logit": ("#009E73", "dot"),
    "energy": ("#E69F00", "dashdot"),
    "knn": ("#CC79A7", "solid"),
    "mahalanobis": ("#000000", "dash"),
}
_MARKS = {"choice": ("dash", "circle"), "usual": ("dot", "square"), "hindsight": ("", "star")}


def _panels(rows: pd.DataFrame, score: str, metric: str = "AUROC") -> dict[str, tuple[int, str]]:
    """Return the axes that there are, each with its panel and its title."""
    there = [a for a in ("ID accuracy", "shift accuracy", metric) if a in axes(rows, score).columns]
    titles = {"ID accuracy": "ID accuracy", "shift accuracy": "accuracy under shift", metric: f"{metric} of OOD sets"}
    titles[metric] += f", {DETECTORS[score]}"
    return {axis: (col, titles[axis]) for col, axis in enumerate(there, start=1)}


def _draw(figure: go.Figure, values: pd.Series, col: int, name: str, shade: str, **line) -> None:
    """Add the mean over seeds of percentages by (seed, weight), and a band of one standard deviation."""
    found = band(100 * values)
    if found["std"].notna().all():
        around = np.r_[found["mean"] + found["std"], (found["mean"] - found["std"])[::-1]]
        figure.add_scatter(
            x=np.r_[found.index, found.index[::-1]], y=around, fill="toself", fillcolor=tint(shade, 0.18), mode="none",
            hoverinfo="skip", showlegend=False, legendgroup=name, row=1, col=col,
        )  # fmt: skip
    figure.add_scatter(
        x=found.index, y=found["mean"], mode="lines", name=name, legendgroup=name, row=1, col=col, showlegend=False,
        line={"color": shade, "width": 3, **line}, hovertemplate=f"%{{x:g}}: %{{y:.1f}}<extra>{name}</extra>",
    )  # fmt: skip


def _draw_sets(figure: go.Figure, rows: pd.DataFrame, col: int, shade: str) -> None:
    """Add every set thin, with its name on it; neighbours have theirs at different places."""
    order = list(rows.groupby("set")["value"].mean().sort_values().index)
    for name, of in rows.groupby("set", sort=False):
        found = 100 * of.groupby("weight")["value"].mean()
        middle = int(np.abs(found.index - (0.6, 0.85)[order.index(name) % 2]).argmin())
        figure.add_scatter(
            x=[found.index[middle]], y=[found.iloc[middle]], mode="text", text=[name], textposition="top center",
            textfont={"size": 10, "color": "#555555"}, showlegend=False, hoverinfo="skip", row=1, col=col,
        )  # fmt: skip
        figure.add_scatter(
            x=found.index, y=found, mode="lines", name=name, line={"color": shade, "width": 1}, opacity=0.55, row=1,
            col=col, showlegend=False, hovertemplate=f"%{{x:g}}: %{{y:.1f}}<extra>{name}</extra>",
        )  # fmt: skip


def _of(rows: pd.DataFrame, axis: str, score: str) -> pd.DataFrame:
    """Return the rows behind an axis, a set each."""
    if axis in METRICS:
        return rows[(rows["metric"] == METRICS[axis]) & (rows["score"] == score)]
    return rows[(rows["role"] == {"ID accuracy": "id", "shift accuracy": "shift"}[axis]) & (rows["score"].isna())]


def curves(rows: pd.DataFrame, score: str = "msp", metric: str = "AUROC") -> go.Figure:
    """Return the three axes over the weight: seeds' mean and band, sets thin, and the weights to mark.

    Parameters
    ----------
    rows : DataFrame
        Of one sweep or of several seeds'.
    score : str
        The detector of the third panel.
    metric : str
        ``AUROC`` or ``FPR95``.
    """
    panels, kind = _panels(rows, score, metric), kind_of(rows)
    figure = make_subplots(1, len(panels), subplot_titles=[t for _, t in panels.values()], horizontal_spacing=0.1)
    shade, found = COLOURS[kind], axes(rows, score)
    for axis, (col, _) in panels.items():
        if axis == "ID accuracy":
            _draw(figure, found["validation accuracy"], col, "validation", shade, dash="dash", width=1.5)
        else:
            _draw_sets(figure, _of(rows, axis, score), col, shade)
        _draw(figure, found[axis], col, axis, shade)
        _mark(figure, rows, axis, score, col)
    _legend(figure, shade, kind)
    _ends(figure, kind)
    return styled(figure, sweep_rows.finding(rows, score, metric), 430)


def _mark(figure: go.Figure, rows: pd.DataFrame, axis: str, score: str, col: int) -> None:
    """Add validation's choice, the usual weight and the best in hindsight to the mean of an axis."""
    kind, means = kind_of(rows), 100 * band(axes(rows, score)[axis])["mean"]
    choice = Mark("", chosen(rows))
    # each seed at its own choice, so that the point may stand beside the mean curve
    at_choice = 100 * sweep_rows.at(rows, choice, score)[axis].mean()
    usual, best = sweep_rows.usual(rows), sweep_rows.best(rows, axis, score)
    points = {
        "choice": ("chosen on validation", choice.weight, at_choice, "#000000"),
        "usual": (f"{WORDS[kind][3]} {usual:g}", usual, means[usual], "#555555"),
        "hindsight": ("best, in hindsight: chosen on test", best, means[best], OOD_COLOUR),
    }
    for key, (name, x, y, shade) in points.items():
        dash, symbol = _MARKS[key]
        size, edge = (13 if key == "hindsight" else 10), {"width": 1, "color": "white"}
        if dash:
            figure.add_vline(x=x, line={"dash": dash, "color": shade, "width": 1}, row=1, col=col)
        figure.add_scatter(
            x=[x], y=[y], mode="markers", name=name, legendgroup=name, showlegend=col == 1, row=1, col=col,
            marker={"symbol": symbol, "size": size, "color": shade, "line": edge},
            hovertemplate=f"{name}: %{{y:.1f}} at %{{x:.2f}}<extra></extra>",
        )  # fmt: skip


def _legend(figure: go.Figure, shade: str, kind: str) -> None:
    """Say once what bold, thin and dashed mean."""
    texts = {
        "mean over seeds and sets": (3, "solid", 1),
        "each set": (1, "solid", 0.55),
        "validation": (1.5, "dash", 1),
    }
    for name, (width, dash, opacity) in texts.items():
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=name, line={"color": shade, "width": width, "dash": dash},
            opacity=opacity, row=1, col=1,
        )  # fmt: skip


def _ends(figure: go.Figure, kind: str) -> None:
    """Label the ends of the axis with what stands there."""
    name, low, high, _ = WORDS[kind]
    ticks = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": [f"0<br>{low}", "0.25", "0.5", "0.75", f"1<br>{high}"]}
    figure.update_xaxes(title={"text": name, "standoff": 4}, range=[-0.03, 1.03], **ticks).update_yaxes(
        title="%", col=1
    )


def renormalised(rows: pd.DataFrame, others: pd.DataFrame, score: str = "msp", metric: str = "AUROC") -> go.Figure:
    """Return what normalising residual features again adds to each axis, in points, over alpha.

    Parameters
    ----------
    rows, others : DataFrame
        The same runs with and without it; empty of what is no residual.
    """
    if rows.empty:
        return nothing("WiSE-FT mixes weights, not features: there is nothing to normalise again")
    panels, found = _panels(rows, score, metric), sweep_rows.difference(rows, others, score)
    figure = make_subplots(
        1, len(panels), subplot_titles=[t for _, t in panels.values()], horizontal_spacing=0.1, shared_yaxes=True
    )
    keys = ["seed", "weight", "set"]
    for axis, (col, _) in panels.items():
        if axis != "ID accuracy":
            sides = (_of(side, axis, score).set_index(keys)["value"] for side in (rows, others))
            with_, without = sides
            _draw_sets(figure, (with_ - without).reset_index(), col, COLOURS["residual"])
        _draw(figure, found[axis], col, axis, COLOURS["residual"])
        figure.add_hline(y=0, line={"color": "#888888", "width": 1}, row=1, col=col)
        for x, dash in ((sweep_rows.usual(rows), "dot"), (Mark("", chosen(rows)).weight, "dash")):
            figure.add_vline(x=x, line={"dash": dash, "color": "#555555", "width": 1}, row=1, col=col)
    _ends(figure, "residual")
    figure.update_yaxes(title="points", col=1)
    return styled(figure, sweep_rows.norm_finding(rows, others, score), 330).update_layout(showlegend=False)


def detectors(rows: pd.DataFrame) -> go.Figure:
    """Return every detector's mean AUROC over the weight, with seed bands."""
    if not rows["score"].notna().any():
        return nothing("This benchmark has no OOD sets, so there is nothing to detect")
    found, kind = sweep_rows.detector_means(rows), kind_of(rows)
    figure = make_subplots(1, 1)
    for score in [s for s in _LINES if s in found.columns]:
        shade, dash = _LINES[score]
        _draw(figure, found[score], 1, DETECTORS[score], shade, dash=dash, width=2.5)
        figure.data[-1].showlegend = True
    for x, dash, text in (
        (Mark("", chosen(rows)).weight, "dash", "validation"), (sweep_rows.usual(rows), "dot", WORDS[kind][3])
    ):  # fmt: skip
        figure.add_vline(
            x=x,
            line={"dash": dash, "color": "#555555", "width": 1},
            annotation_text=text,
            annotation_font_size=11,
            annotation_position="bottom right",
        )
    _ends(figure, kind)
    figure.update_yaxes(title="mean AUROC of the OOD sets, %")
    return styled(figure, sweep_rows.detectors_finding(rows), 400)
