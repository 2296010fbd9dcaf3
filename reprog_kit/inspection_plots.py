"""Figures of an inspection (plotly): the pictures with the gradient, the answers, and the ID score."""

from __future__ import annotations

import textwrap

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .inspection import Inspection
from .ledger import DETECTORS
from .plots import ID_COLOUR, OOD_COLOUR, SCORE_NAMES, data_uri, nothing
from .style import COLOURS, styled

_OTHER = "#444444"
_ROW = 17  # px a bar


def finding(inspection: Inspection) -> str:
    """Return in a sentence what the line answers, and what its border has to do with it."""
    found, border = inspection, inspection.border
    wrong = "" if found.label in (None, found.answer) else f" (it is {found.label})"
    mixed = f" at alpha {found.alpha:.2f}" if found.method == "residual" else ""
    answer = f"{_short(found.name[:1].upper() + found.name[1:])}{mixed}: {found.answer}{wrong}"
    if border is None:
        own = found.answers.loc[found.answers["line"] == found.name, "probability"].iloc[0]
        return f"{answer}, P = {own:.2f}; it has no border"
    kept, removed = f"{border.kept:.2f}", f"{border.removed:.2f}"
    change = f"stays {kept}" if kept == removed else _moves(border.kept, border.removed)
    return (
        f"{answer}. {100 * border.gradient:.0f}% of the gradient lies on the border ({100 * border.area:.0f}% of the "
        f"area); without it P({found.answer}) {change}"
    )


def _short(name: str) -> str:
    """Return a line's name with its middle left out, if it is long: lines differ at both ends."""
    return name if len(name) <= 44 else f"{name[:24].rstrip()} … {name[-16:].lstrip()}"


def _moves(kept: float, removed: float) -> str:
    return f"{'falls' if removed < kept else 'rises'} from {kept:.2f} to {removed:.2f}"


def pictures(inspection: Inspection, width: int | None = None) -> go.Figure:
    """Return the picture on the canvas, what the encoder sees of it, and where the answer's gradient lies.

    The dashed line is the border's inner edge. The strongest hundredth of the gradient has the brightest colour alike.
    """
    side, border = len(inspection.gradient_SS), inspection.border
    whose = "the reprogrammer's" if inspection.method == "residual" else "the answer's"
    titles = ("the picture on its canvas", "what the encoder sees", f"{whose} gradient")
    figure = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.03)
    figure.add_image(source=data_uri(inspection.picture_SSC), row=1, col=1, hoverinfo="skip")
    figure.add_image(source=data_uri(inspection.seen_SSC), row=1, col=2, hoverinfo="skip")
    figure.add_heatmap(
        z=inspection.gradient_SS, row=1, col=3, colorscale="Cividis", zmin=0,
        zmax=float(np.percentile(inspection.gradient_SS, 99)) or 1,
        colorbar={"title": {"text": "logits a unit<br>of brightness", "font": {"size": 11}}, "thickness": 12},
        hovertemplate="%{z:.3g} at row %{y}, column %{x}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.5, side - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[side - 0.5, -0.5], constrain="domain")
    figure.update_yaxes(scaleanchor="x3", row=1, col=3)
    inner = border.padding - 0.5 if border else -0.5
    edges = {"x0": inner, "y0": inner, "x1": side - 1 - inner, "y1": side - 1 - inner}
    for col, shade in ((2, "#000000"), (2, "#FFFFFF"), (3, "#FFFFFF")):  # black and white is seen on any picture
        line = {"color": shade, "width": 1.5 if border else 0, "dash": "solid" if shade == "#000000" else "dash"}
        figure.add_shape(type="rect", line=line, row=1, col=col, **edges)
    return styled(figure, finding(inspection), 340, width).update_layout(margin={"l": 10, "b": 16})


def answers(inspection: Inspection, width: int | None = None) -> go.Figure:
    """Return every line's likeliest classes as bars in its method's colour; ✓ marks the true class, where known.

    Below a line's name stand the picture's ID score and the share of the ID test pictures that have a lower one.
    """
    table, label = inspection.answers, inspection.label
    at, rows, ticks = 0.0, [], []
    for name, part in table.groupby("line", sort=False):
        rows.append(at + np.arange(len(part)))
        ticks.append((rows[-1].mean(), "<br>".join([*textwrap.wrap(_short(name), 24), _score_of(inspection, name)])))
        at = rows[-1][-1] + 1.8
    shown = zip(table["class"], table["probability"], table["rank"])
    figure = go.Figure()
    figure.add_bar(
        x=table["probability"], y=np.concatenate(rows), orientation="h", width=0.85, cliponaxis=False,
        text=[f"{found}  {p:.2f}{_mark(rank, found == label)}" for found, p, rank in shown], textposition="outside",
        marker={"color": [COLOURS.get(method, _OTHER) for method in table["method"]]},
        textfont={"size": 12, "color": "#222222"}, customdata=table["line"],
        hovertemplate="%{customdata}: %{text}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(tickvals=[y for y, _ in ticks], ticktext=[text for _, text in ticks], range=[at - 0.8, -0.8])
    figure.update_yaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(title="probability", range=[0, 1.4], tickvals=[0, 0.25, 0.5, 0.75, 1])
    styled(figure, _agreement(inspection), int(_ROW * at) + 90, width)
    return figure.update_layout(margin={"l": 170, "t": _under(figure)})


def _under(figure: go.Figure) -> int:
    """Return the px that a title takes over a panel without one of its own."""
    return 30 + 22 * (figure.layout.title.text.count("<br>") + 1)


def _score_of(inspection: Inspection, name: str) -> str:
    detector, own = DETECTORS[inspection.score], inspection.scores.loc[name]
    said = f"{detector} {own['score']:.2f} > {100 * own['below']:.0f}% of ID"
    said = f"no {detector}" if np.isnan(own["score"]) else said
    return f"<span style='font-size: 11px; color: #666666'>{said}</span>"


def _mark(rank: int, true: bool) -> str:
    return "" if not true else "  ✓" if rank == 1 else f"  ✓ rank {rank}"


def _agreement(inspection: Inspection) -> str:
    first = inspection.answers[inspection.answers["rank"] == 1]
    counts = first["class"].value_counts()
    if inspection.label is not None:
        right = int(counts.get(inspection.label, 0))
        return f"It is {inspection.label}: {right} of {len(first)} methods say so"
    if len(counts) == 1:
        return f"All {len(first)} methods say {counts.index[0]}" if len(first) > 1 else f"It says {counts.index[0]}"
    return f"{counts.iloc[0]} of {len(first)} methods say {counts.index[0]}"


def id_score(inspection: Inspection, width: int | None = None) -> go.Figure:
    """Return the chosen line's ID scores of the test pictures and of all OOD sets together, and the picture's own."""
    found, name = inspection, DETECTORS[inspection.score]
    if found.name in found.unscored:
        return nothing(f"{name} cannot be had: {found.unscored[found.name]}", width)
    own = found.scores.loc[found.name]
    figure = go.Figure()
    for label, parts_B, shade in (("ID test pictures", found.id_B, ID_COLOUR), ("all OOD", found.ood_B, OOD_COLOUR)):
        figure.add_bar(
            x=found.middles_B[: len(parts_B)], y=parts_B, name=label, marker={"color": shade, "line": {"width": 0}},
            opacity=0.6, visible=len(parts_B) > 0,
        )  # fmt: skip
    top = max(float(parts_B.max(initial=0)) for parts_B in (found.id_B, found.ood_B))
    figure.add_scatter(
        x=[own["score"]] * 2, y=[0, 1.05 * top], mode="lines", name="this picture", hovertemplate="%{x:.3g}",
        line={"color": "#000000", "width": 3},
    )  # fmt: skip
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_xaxes(title=f"{SCORE_NAMES[found.score]}<br>{_short(found.name)}").update_yaxes(title="% of pictures")
    title = f"{name} {own['score']:.2f}: higher than {100 * own['below']:.0f}% of the ID pictures"
    styled(figure, title, 340, width)
    return figure.update_layout(legend={"y": -0.36}, margin={"t": _under(figure)})
