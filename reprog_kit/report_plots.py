"""Figures of a report (plotly): each takes estimates of the ledger and returns a `plotly.graph_objects.Figure`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import radar as radars
from .ledger import DETECTORS, MEAN, axis, default_lines
from .sentences import against_fine_tuning, headline
from .style import COLOURS, colour, style_of, styled

SYMBOLS = ("circle", "square-open", "diamond-open", "triangle-up-open", "x-thin-open", "star-open", "cross-open")


def radar(found: pd.DataFrame, score: str = "msp") -> go.Figure:
    """Return the three axes, ID accuracy, shift accuracy and AUROC, of every method with its defaults (Fig. 1).

    Each axis runs linearly from the worst line, at a quarter of the radius, to the best, at the rim: it shows ranks and
    proportions, and its ends are written at its name. It says nothing of how far the ends lie apart.
    """
    plain = default_lines(found)
    parts = {name: 100 * axis(plain, name, score)["value"] for name in ("ID accuracy", "shift accuracy", "AUROC")}
    values = pd.DataFrame(parts).dropna()
    if len(values) < 2:
        return styled(go.Figure(), "A radar needs two methods that were measured on all three axes", 120)
    low, high = values.min(), values.max()
    methods = plain.drop_duplicates("line").set_index("line")["method"]
    order = sorted(values.index, key=lambda line: methods[line] in radars.OURS)  # ours come last, on top
    dashes = style_of(plain, ("solid", "dash", "dot", "dashdot"))
    figure = radars.radar(values.loc[order], low, high, methods, dashes)
    radius = radars.radii(values, low, high)
    largest = max(
        values.index, key=lambda line: radius.loc[line] @ np.roll(radius.loc[line], 1)
    )  # area, but for a factor
    title = f"{largest} covers the largest triangle; each axis from the worst (inner ring) to the best (rim)"
    styled(figure, title[0].upper() + title[1:], 560)
    return figure.update_layout(legend={"orientation": "v", "x": 0.85, "y": 0.9}, margin={"b": 0})


def trade_offs(found: pd.DataFrame, score: str = "msp") -> go.Figure:
    """Return ID accuracy against shift accuracy and against AUROC, a point a line, with standard deviations over seeds.

    Dotted lines mark zero-shot: what stands above and right of them is better at both.
    """
    across, panels = axis(found, "ID accuracy"), ("shift accuracy", "AUROC")
    titles = ("mean accuracy under shift", f"mean AUROC of {DETECTORS[score]}")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    symbols, seen = style_of(found, SYMBOLS), set()
    for col, name in enumerate(panels, start=1):
        up = axis(found, name, score)
        for line in [line for line in across.index if line in up.index]:
            x, y = across.loc[[line]], up.loc[[line]]
            shade = colour(x)
            bar = {"type": "data", "color": shade, "thickness": 1.2, "width": 3}
            figure.add_scatter(
                x=100 * x["value"], y=100 * y["value"], name=line, legendgroup=line, showlegend=line not in seen,
                error_x={**bar, "array": 100 * x["std"].fillna(0)}, error_y={**bar, "array": 100 * y["std"].fillna(0)},
                mode="markers", row=1, col=col,
                marker={"color": shade, "size": 12, "symbol": symbols[line], "line": {"width": 2, "color": shade}},
            )  # fmt: skip
            seen.add(line)
        for row in up.index[(up["method"] == "zero_shot") & (up["variant"] == "") & up.index.isin(across.index)]:
            dotted = {"line": {"dash": "dot", "color": COLOURS["zero_shot"], "width": 1}, "row": 1, "col": col}
            figure.add_vline(x=100 * across["value"][row], **dotted).add_hline(y=100 * up["value"][row], **dotted)
    figure.update_xaxes(title="ID accuracy, %").update_yaxes(title="%", col=1)
    title = against_fine_tuning(found, score, verdicts=False) or headline(found, score)
    return styled(figure, title.removesuffix("."), 470)


def every_set(found: pd.DataFrame, score: str = "msp") -> go.Figure:
    """Return accuracy of ID and shift sets, and AUROC of OOD sets, a dot a line, with 95% bootstrap intervals.

    The intervals are over pictures, means of the seeds'; the spread over seeds is in the tables.
    """
    sets = found[(found["set"] != MEAN) & (found["role"] != "cost")]
    parts = (sets[sets["metric"] == "accuracy"], sets[(sets["metric"] == "auroc") & (sets["score"] == score)])
    titles = ("accuracy: ID test and shift sets", f"OOD detection: AUROC of {DETECTORS[score]}")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.13)
    lines = list(dict.fromkeys(pd.concat(parts)["line"]))
    symbols, step = style_of(sets, SYMBOLS), 0.75 / max(1, len(lines))
    for col, part in enumerate(parts, start=1):
        names = list(dict.fromkeys(part["set"]))
        for i, line in enumerate(lines):
            of = part[part["line"] == line]
            y = [names.index(name) + (i - (len(lines) - 1) / 2) * step for name in of["set"]]
            width = {"array": 100 * (of["high"] - of["value"]), "arrayminus": 100 * (of["value"] - of["low"])}
            figure.add_scatter(
                x=100 * of["value"], y=y, name=line, legendgroup=line, showlegend=col == 1, mode="markers",
                error_x={**width, "color": colour(of), "thickness": 1.2, "width": 0}, row=1, col=col,
                marker={"color": colour(of), "size": 7, "symbol": symbols[line]},
            )  # fmt: skip
        ticks = {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False, "zeroline": False}
        figure.update_yaxes(**ticks, range=[len(names) - 0.5, -0.5], row=1, col=col)
        for edge in range(1, len(names)):
            figure.add_hline(y=edge - 0.5, line={"color": "#E0E0E0", "width": 1}, row=1, col=col)
    rows = max([1, *(part["set"].nunique() for part in parts)])
    figure.update_xaxes(title="%")
    inside = rows * (12 * len(lines) + 14)
    styled(figure, _hardest(parts), inside + 130)
    return figure.update_layout(legend={"y": -60 / inside}, margin={"b": 80})


def _hardest(parts: tuple[pd.DataFrame, pd.DataFrame]) -> str:
    """Return which set is hardest, by the mean over lines."""
    texts = []
    for part, what in zip(parts, ("accuracy", "AUROC")):
        if part["set"].nunique() > 1:
            means = part.groupby("set")["value"].mean()
            texts.append(f"{means.idxmin()} (mean {what} {100 * means.min():.1f}%)")
    return f"Hardest: {' and '.join(texts)}; bars: 95% bootstrap intervals" if texts else "Every set"
