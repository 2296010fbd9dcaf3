"""Maps of features beside each other (plotly), with the numbers that say what the eye sees.

Shapes: M pictures, those of the OOD sets last.
"""

from __future__ import annotations

from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .ledger import DETECTORS
from .map_panels import FeatureMaps, Panel, written
from .style import styled

# Ten colours are more than colour-blind readers tell apart (Okabe and Ito give eight), so the symbols differ as well.
CLASS_STYLES = (
    ("#0072B2", "circle"), ("#E69F00", "square"), ("#009E73", "diamond"), ("#D55E00", "triangle-up"),
    ("#CC79A7", "circle"), ("#56B4E9", "square"), ("#8C564B", "diamond"), ("#332288", "triangle-up"),
    ("#A89A00", "circle"), ("#882255", "square"),
)  # fmt: skip
REST = ("#BDBDBD", "circle")
OOD_STYLES = (("#000000", "x-thin"), ("#666666", "cross-thin"), ("#000000", "asterisk"), ("#666666", "y-up"))
_WIDE = 3  # panels a row
_ALIKE = 0.02


def feature_maps(maps: FeatureMaps) -> go.Figure:
    """Return a map a kind of features; the panels' titles hold silhouette and k-NN purity in feature space.

    A colour and a symbol a class, of many classes for the ten most frequent; white inside where the panel's method
    answers wrongly. OOD sets are thin crosses. Each point's ``customdata`` is its number among the pictures.
    """
    panels = maps.panels
    wide = 2 if len(panels) == 4 else min(_WIDE, len(panels))
    tall = -(-len(panels) // wide)
    figure = make_subplots(
        tall, wide, subplot_titles=[_title(maps, panel) for panel in panels],
        horizontal_spacing=0.02, vertical_spacing=(0.24 if maps.outside else 0.18) / tall,
    )  # fmt: skip
    texts, groups = hover_texts(maps), _groups(maps)
    for number, panel in enumerate(panels):
        where = {"row": number // wide + 1, "col": number % wide + 1}
        wrong_M = maps.answers[panel.methods[-1]].answers_M != maps.labels_M
        for name, chosen, style in groups:
            chosen = chosen[np.argsort(wrong_M[chosen], kind="stable")]  # wrong answers come last, on top
            figure.add_scatter(
                x=panel.map_M2[chosen, 0], y=panel.map_M2[chosen, 1], mode="markers", name=name, legendgroup=name,
                showlegend=False, customdata=chosen, text=[texts[i] for i in chosen], hoverinfo="text",
                marker=_marker(style, 7, wrong_M[chosen]), **where,
            )  # fmt: skip
    _legend(figure, [(name, style) for name, _, style in groups])
    figure.update_xaxes(showticklabels=False, zeroline=False, showgrid=False, showline=True, mirror=True)
    figure.update_yaxes(showticklabels=False, zeroline=False, showgrid=False, showline=True, mirror=True)
    figure.update_xaxes(linecolor="#BBBBBB").update_yaxes(linecolor="#BBBBBB").update_annotations(font_size=13)
    styled(figure, finding(maps), (430 if tall == 1 else 370) * tall)
    top = figure.layout.margin.t + (24 if maps.outside else 6)  # the panels' titles have several lines
    return figure.update_layout(
        margin={"l": 10, "r": 10, "t": top, "b": 20}, hoverlabel={"align": "left"},
        legend={"orientation": "h", "y": -0.04, "yanchor": "top", "itemsizing": "constant"},
    )  # fmt: skip


def finding(maps: FeatureMaps) -> str:
    """Return in whose features the classes stand apart most, with zero-shot, or who comes next, beside it.

    Silhouettes within 0.02 of each other are called alike.
    """
    panels = [panel for panel in maps.panels if not np.isnan(panel.silhouette)]
    if not panels:
        return f"{maps.set}: there is no silhouette without several pictures of two classes"
    ranked = sorted(panels, key=lambda panel: -panel.silhouette)
    best, worst, purest = ranked[0], ranked[-1], max(panels, key=lambda panel: panel.purity)
    pure = f"purest neighbours: {purest.name}, {written(purest.purity)}%"
    if best.silhouette - worst.silhouette <= _ALIKE:
        span = "" if best is worst else f"{worst.silhouette:.2f} to "
        return f"{maps.set}: classes stand apart alike in all features (silhouette {span}{best.silhouette:.2f}); {pure}"
    against = panels[0] if best is not panels[0] else ranked[1]
    numbers = f"{best.silhouette:.2f}, {against.name} {against.silhouette:.2f}"
    return f"{maps.set}: classes stand apart most for {best.name} (silhouette {numbers}); {pure}"


def hover_texts(maps: FeatureMaps) -> list[str]:
    """Return for every picture its set and class, and each method's answer and ID score, as plotly's HTML."""
    score, classes = DETECTORS[maps.settings.score], [escape(name, quote=False) for name in maps.classes]
    texts = []
    for i, label in enumerate(maps.labels_M):
        lines = [f"<b>{classes[label]}</b> ({maps.sets_M[i]})" if label >= 0 else f"<b>{maps.sets_M[i]}</b> (OOD)"]
        for name, said in maps.answers.items():
            wrong = " ✗" if label >= 0 and said.answers_M[i] != label else ""
            lines.append(f"{name}: {classes[said.answers_M[i]]}{wrong}, {score} {said.scores_M[i]:.3g}")
        texts.append("<br>".join(lines))
    return texts


def _title(maps: FeatureMaps, panel: Panel) -> str:
    shared = f" (features of {panel.name})" if len(panel.methods) > 1 else ""
    numbers = (
        f"silhouette {written(panel.silhouette, 1)}, {maps.settings.neighbours}-NN purity {written(panel.purity)}%"
    )
    outside = f"<br>OOD near OOD {written(panel.apart)}%" if maps.outside else ""
    return f"<b>{panel.methods[-1]}</b>{shared}<br>{numbers}{outside}"


def _groups(maps: FeatureMaps) -> list[tuple[str, np.ndarray, tuple[str, str]]]:
    """Return name, picture numbers and style of what is drawn alike: classes, the rest of them, OOD sets."""
    labels, counts = np.unique(maps.pictures.labels_N, return_counts=True)
    named = sorted(labels[np.argsort(-counts, kind="stable")][: len(CLASS_STYLES)])
    groups = [(maps.classes[c], np.flatnonzero(maps.labels_M == c), s) for c, s in zip(named, CLASS_STYLES)]
    if len(labels) > len(named):
        rest = np.flatnonzero((maps.labels_M >= 0) & ~np.isin(maps.labels_M, named))
        groups.insert(0, (f"{len(labels) - len(named)} other classes", rest, REST))  # below the others
    for i, name in enumerate(maps.outside):
        groups.append((f"{name} (OOD)", np.flatnonzero(maps.sets_M == name), OOD_STYLES[i % len(OOD_STYLES)]))
    return groups


def _marker(style: tuple[str, str], size: int, wrong: np.ndarray | None = None) -> dict:
    """Return plotly's marker of a colour and a symbol; what is wrong is white inside."""
    shade, symbol = style
    symbol += "-open" if style in OOD_STYLES else ""  # thin symbols have a line alone
    inside = shade if wrong is None or style in OOD_STYLES else np.where(wrong, "#FFFFFF", shade).tolist()
    return {"color": inside, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": shade}}


def _legend(figure: go.Figure, entries: list[tuple[str, tuple[str, str]]]) -> None:
    """Add entries of their own: a trace's would take the look of its first point, which may be a wrong answer."""
    for name, style in [*entries, ("white inside: wrong answer", ("#444444", "circle-open"))]:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=name, legendgroup=name, marker=_marker(style, 9),
            hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
