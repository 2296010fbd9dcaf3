"""Figures of the padding ablation (plotly): curves over the border's width, and one width's pictures."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .ablation_tables import covered_share, finding, on_axis, padding_estimates
from .ledger import DETECTORS, MEAN, NAMES
from .padding_view import View, png
from .style import COLOURS, styled

PANELS = {"ID accuracy": (1, 1), "shift accuracy": (1, 2), "FPR95": (2, 1), "AUROC": (2, 2)}


def padding_curves(rows: pd.DataFrame, score: str = "msp") -> go.Figure:
    """Return ID accuracy, mean shift accuracy, FPR95 and AUROC over the padding (the paper's Fig. 4 a and b).

    Bands are one standard deviation over seeds, thin lines the reprogrammer's accuracy on each shift set, grey is
    zero-shot. The dotted line is the benchmark's own width. Below each width stands the share of the canvas that its
    border covers.

    Parameters
    ----------
    rows : DataFrame
        Of `reprog_kit.ablation.ablate`.
    score : str
        The ID score behind FPR95 and AUROC.
    """
    found, canvas = padding_estimates(rows), int(rows["canvas"].iloc[0])
    detector = DETECTORS[score]
    titles = ("ID accuracy", "accuracy under shift: mean, and each set", f"FPR95 of {detector}", f"AUROC of {detector}")
    figure = make_subplots(2, 2, subplot_titles=titles, horizontal_spacing=0.08, vertical_spacing=0.16)
    widths, own = sorted(rows["padding"].unique()), int(rows["benchmark_padding"].iloc[0])
    for name, (row, col) in PANELS.items():
        where = {"row": row, "col": col}
        if name == "shift accuracy":
            _each_set(figure, found, where)
        for method in ("zero_shot", "reprogrammer", "residual"):
            part = on_axis(found, name, method, score)
            if method == "zero_shot" and len(part) == 1:  # one line for all widths
                part = part.loc[part.index.repeat(2)].assign(padding=[widths[0], widths[-1]])
            _line(figure, part, method, name == "ID accuracy", where)
        said = {"annotation_text": "the benchmark's", "annotation_font_size": 10} if name == "FPR95" else {}
        said |= {"annotation_position": "bottom right"} if said else {}
        figure.add_vline(x=own, line={"dash": "dot", "color": "#444444", "width": 1}, **said, **where)
    ticks = _ticks(widths, own, canvas)
    figure.update_xaxes(
        tickangle=0, tickvals=ticks, ticktext=[f"{w}<br>{100 * covered_share(w, canvas):.0f}%" for w in ticks]
    )
    figure.update_xaxes(title="padding, px; below: share of the canvas under it", row=2)
    edge = 0.04 * max(widths[-1] - widths[0], 1)
    figure.update_xaxes(zeroline=False, range=[widths[0] - edge, widths[-1] + edge])
    if (found["role"] == "shift").any():  # room for the sets' names
        figure.update_xaxes(range=[widths[0] - edge, widths[-1] + 5 * edge], row=1, col=2)
    figure.update_yaxes(title="%", col=1)
    styled(figure, finding(rows, score), 640)
    return figure.update_layout(legend={"y": -0.16}, margin={"b": 90})


def _line(figure: go.Figure, part: pd.DataFrame, method: str, legend: bool, where: dict) -> None:
    """Add a method's mean over seeds, and its standard deviation as a band where there are several."""
    if part.empty:
        return
    shade, x, y = COLOURS[method], part["padding"], 100 * part["value"]
    spread = 100 * part["std"]
    if spread.notna().any():
        edge = pd.concat([y + spread.fillna(0), (y - spread.fillna(0))[::-1]])
        figure.add_scatter(
            x=pd.concat([x, x[::-1]]), y=edge, fill="toself", mode="lines", line={"width": 0}, fillcolor=shade,
            opacity=0.18, hoverinfo="skip", showlegend=False, legendgroup=method, name=f"{method} ± std", **where,
        )  # fmt: skip
    plain = method == "zero_shot"
    figure.add_scatter(
        x=x, y=y, name=NAMES[method], legendgroup=method, showlegend=legend, mode="lines" if plain else "lines+markers",
        line={"color": shade, "width": 2 if plain else 2.5, "dash": "dash" if plain else "solid"}, marker={"size": 7},
        customdata=spread.fillna(0), hovertemplate="%{x} px: %{y:.1f} ± %{customdata:.1f}%", **where,
    )  # fmt: skip


def _each_set(figure: go.Figure, found: pd.DataFrame, where: dict) -> None:
    """Add a thin line a shift set; its name stands at its end."""
    sets = found[(found["role"] == "shift") & (found["metric"] == "accuracy") & (found["set"] != MEAN)]
    sets = sets[sets["method"] == "reprogrammer"].sort_values("padding")
    for name, part in sets.groupby("set"):
        figure.add_scatter(
            x=part["padding"], y=100 * part["value"], name=name, showlegend=False, mode="lines", opacity=0.45,
            line={"color": COLOURS["reprogrammer"], "width": 1}, hovertemplate="%{x} px: %{y:.1f}%", **where,
        )  # fmt: skip
    last = sets.groupby("set").last().sort_values("value")
    heights = 100 * last["value"].to_numpy()
    for i in range(1, len(heights)):  # names that would stand on each other are pushed apart
        heights[i] = max(heights[i], heights[i - 1] + 7 * np.ptp(sets["value"]))
    figure.add_scatter(
        x=last["padding"], y=heights, text=[f" {name}" for name in last.index], mode="text",
        textposition="middle right", textfont={"size": 10, "color": "#555555"}, showlegend=False, hoverinfo="skip",
        **where,
    )  # fmt: skip


def _ticks(widths: list[int], own: int, canvas: int) -> list[int]:
    """Return the widths that get a label: those far enough from the one before; the benchmark's is kept."""
    kept: list[int] = []
    for width in widths:
        near = bool(kept) and width - kept[-1] < 0.08 * max(widths[-1] - widths[0], 1)
        if near and width == own:
            kept.pop()
        if not near or width == own:
            kept.append(int(width))
    return kept


def width_pictures(shown: View, table: pd.DataFrame | None = None, name: str = "") -> go.Figure:
    """Return a picture, the border and what the encoder sees at one width; the title says the nearest run's figures.

    Parameters
    ----------
    shown : View
        Of `reprog_kit.padding_view.view`.
    table : DataFrame, optional
        The figures, of `reprog_kit.ablation_tables.padding_table`.
    name : str
        The picture's.
    """
    parts = {
        name or "the picture": shown.picture_SSC,
        "program, stretched": shown.program_SSC,
        "what the encoder sees": shown.reprogrammed_SSC,
    }
    figure = make_subplots(1, 3, subplot_titles=list(parts), horizontal_spacing=0.02)
    for col, pixels in enumerate(parts.values(), start=1):
        source = "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
        figure.add_image(source=source, row=1, col=col, hoverinfo="skip")
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    if table is None:
        return styled(figure, shown.caption, 360)
    figures = ", ".join(f"{axis} {text}" for axis, text in table.loc[(NAMES["reprogrammer"], shown.nearest)].items())
    return styled(figure, f"{shown.caption}. {figures}", 360)
