"""Figures (plotly) and nothing else: each takes arrays or ledger rows and returns a `plotly.graph_objects.Figure`."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from PIL import Image
from plotly.subplots import make_subplots

from .evaluation import ALPHAS, Evaluation
from .ledger import DETECTORS, MEAN, NAMES, estimates
from .metrics import detection
from .sentences import headline
from .style import COLOURS, colour, errors, style_of, styled
from .zero_shot import ZeroShot

ID_COLOUR, OOD_COLOUR = "#0072B2", "#D55E00"
SCORE_NAMES = {
    **DETECTORS, "msp": "maximum softmax probability", "max_logit": "largest logit", "energy": "negative energy",
    "knn": "minus the distance to the nearest training pictures", "mahalanobis": "minus the Mahalanobis distance",
}  # fmt: skip


def _curves(tables: Sequence[pd.DataFrame], accuracy: str, label: str, shade: str) -> go.Figure:
    """Return the columns loss and `accuracy` over the epochs, side by side, a line a table."""
    figure = make_subplots(1, 2, subplot_titles=("training loss", label), horizontal_spacing=0.12)
    style = {
        "mode": "lines+markers",
        "line": {"color": shade},
        "opacity": 1 if len(tables) == 1 else 0.6,
    }
    for table in tables:
        figure.add_scatter(x=table["epoch"], y=table["loss"], row=1, col=1, **style)
        figure.add_scatter(x=table["epoch"], y=100 * table[accuracy], row=1, col=2, **style)
    figure.update_xaxes(title="epoch").update_yaxes(title="nats", rangemode="tozero", row=1, col=1)
    return figure.update_yaxes(title="%", row=1, col=2).update_layout(showlegend=False)


def training_curves(*histories: Sequence[Mapping], method: str = "reprogrammer") -> go.Figure:
    """Return loss and validation accuracy over the epochs of a run, or of one a seed; the best epochs are ringed."""
    tables = [pd.DataFrame(history) for history in histories]
    best = pd.DataFrame([table.loc[table["validation_accuracy"].idxmax()] for table in tables])
    accuracy, epochs = 100 * best["validation_accuracy"], ", ".join(f"{epoch:.0f}" for epoch in best["epoch"])
    figure = _curves(tables, "validation_accuracy", "validation accuracy", COLOURS[method])
    figure.add_scatter(
        x=best["epoch"], y=accuracy, mode="markers", row=1, col=2,
        marker={"size": 14, "symbol": "circle-open", "color": OOD_COLOUR, "line": {"width": 2}},
    )  # fmt: skip
    speed = f"{pd.concat(tables)['images_per_s'].median():.0f} images/s"
    spread = f" ± {accuracy.std():.1f}" if len(best) > 1 else ""
    return styled(figure, f"Best on validation: {accuracy.mean():.1f}{spread}% in epoch {epochs} ({speed})")


def pretraining_curves(history: Sequence[Mapping]) -> go.Figure:
    """Return loss, and accuracy over a batch's distinct captions, over the epochs of a pre-training."""
    table = pd.DataFrame(history)
    last = table.iloc[-1]
    title = f"{100 * last['accuracy']:.1f}% of the pictures find their caption in epoch {last['epoch']:.0f}"
    return styled(_curves([table], "accuracy", "accuracy over the batch's captions", COLOURS["reprogrammer"]), title)


def data_uri(pixels_HWC: np.ndarray) -> str:
    """Return a picture, floats in [0, 1] or uint8, as a data URI."""
    if pixels_HWC.dtype != np.uint8:
        pixels_HWC = (np.clip(pixels_HWC, 0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@torch.inference_mode()
def program(method: ZeroShot, images_NHWC: np.ndarray, titles: Sequence[str] = ()) -> go.Figure:
    """Return pictures, the image program, and what the backbone sees of them, side by side.

    Parameters
    ----------
    method : ZeroShot
        Any method; one without an image program shows the pictures as they are.
    images_NHWC : ndarray of uint8
        A handful of pictures.
    titles : sequence of str
        One a picture.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images_NHWC)).to(method.backbone.device)
    plain = ZeroShot(method.backbone, method.captions, method.image_size)
    rows = [(model.canvas(batch).permute(0, 2, 3, 1)).cpu().numpy() for model in (plain, method)]
    side, count, border = method.backbone.side, len(batch), getattr(method, "image_program", None)
    added = torch.zeros(3, side, side) if border is None else border.perturbation().cpu()
    specs = [[{"rowspan": 2}] + [{}] * count, [None] + [{}] * count]
    figure = make_subplots(
        2,
        count + 1,
        specs=specs,
        subplot_titles=("program, stretched", *titles),
        horizontal_spacing=0.015,
        vertical_spacing=0.04,
    )
    stretch = 1 / max(float(added.abs().max()), 1 / 255)
    figure.add_image(
        source=data_uri((stretch * added.permute(1, 2, 0).numpy() + 1) / 2), row=1, col=1, hoverinfo="skip"
    )
    for row, pictures in enumerate(rows, start=1):
        for col, pixels in enumerate(pictures, start=2):
            figure.add_image(source=data_uri(pixels), row=row, col=col, hoverinfo="skip")
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    level = 255 * added.abs().sum() / max(1, int((added != 0).sum()))
    title = "Above: the picture. Below: what the encoder sees"
    change = (
        f"the border changes by {level:.1f} grey levels on average" if border is not None else "no border is trained"
    )
    return styled(figure, f"{title}; {change}", height=360)


def nothing(title: str, width: int | None = None) -> go.Figure:
    """Return a title in the place of a figure that this run cannot have."""
    figure = styled(go.Figure(), title, 110, width)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)


@torch.inference_mode()
def tokens_moved(method: ZeroShot, most: int = 20, width: int | None = None) -> go.Figure:
    """Return how far the text program moved each token it owns, relative to the token's length."""
    if getattr(method, "text_program", None) is None:
        return nothing("This run has no text program", width)
    moved = method.text_program.moved(method.backbone).cpu().numpy()
    order = np.argsort(-moved)[:most]
    decode = method.backbone.tokenizer.decode
    names = [decode([int(method.text_program.used_V[i])]).strip() for i in order]
    figure = go.Figure(go.Bar(x=names, y=100 * moved[order], marker_color=COLOURS["reprogrammer"]))
    figure.update_xaxes(title="token", type="category").update_yaxes(title="moved, % of its length")
    title = f"The text program moved “{names[0]}” most: {100 * moved[order[0]]:.0f}% of its length"
    return styled(figure, title, 320, width)


def comparison(rows: pd.DataFrame | Sequence[Mapping], score: str = "msp") -> go.Figure:
    """Return accuracy on ID and shift sets, and AUROC on OOD sets, of every line.

    Bars end at the mean over seeds; the whiskers are its standard deviation, of a single seed the bootstrap interval.
    """
    found = estimates(rows)
    sets = found[found["set"] != MEAN]
    shown = {
        1: sets[sets["metric"] == "accuracy"],
        2: sets[(sets["metric"] == "auroc") & (sets["score"] == score)],
    }
    counts = [part["set"].nunique() for part in shown.values()]
    widths = [max(1, count, 0.4 * max(counts)) for count in counts]  # a single OOD set still has room for its title
    titles = ("accuracy: ID test and shift sets", f"OOD detection: AUROC of {DETECTORS[score]}")
    figure = make_subplots(1, 2, column_widths=widths, subplot_titles=titles, horizontal_spacing=0.09)
    patterns = style_of(found, ("", "/", ".", "x", "-", "+", "|", "\\"))
    for col, part in shown.items():
        for line, of in part.groupby("line", sort=False):
            figure.add_bar(
                x=of["set"], y=100 * of["value"], error_y={**errors(of), "thickness": 1, "width": 2}, row=1, col=col,
                name=line, marker_color=colour(of), showlegend=col == 1,
                marker_pattern_shape=patterns[line], legendgroup=line,
            )  # fmt: skip
    figure.update_yaxes(title="%", range=[0, 100], row=1, col=1).update_yaxes(range=[0, 100], row=1, col=2)
    figure.add_hline(y=50, line={"dash": "dot", "color": "grey"}, row=1, col=2)
    return styled(figure, headline(found, score), height=430)


def score_histograms(evaluation: Evaluation, method: str | None = None, score: str | None = None) -> go.Figure:
    """Return histograms of the ID score, the ID test set against each OOD set; by default of the last method."""
    method = method or evaluation.methods[-1]
    score = score or evaluation.settings.score
    inside = evaluation.scores(method, evaluation.data.test, score)
    outside = {name: evaluation.scores(method, data, score) for name, data in evaluation.data.ood.items()}
    aurocs = {name: detection(inside, values, resamples=0)["auroc"].value for name, values in outside.items()}
    cols = min(4, max(1, len(outside)))
    lines = -(-max(1, len(outside)) // cols)
    titles = [f"{name}: AUROC {100 * aurocs[name]:.1f}" for name in outside]
    figure = make_subplots(lines, cols, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    every = np.concatenate([inside, *outside.values()])
    bins = {"start": float(every.min()), "end": float(every.max()) + 1e-9, "size": float(np.ptp(every)) / 30 or 1.0}
    for i, values in enumerate(outside.values()):
        for label, part, shade in (("ID", inside, ID_COLOUR), ("OOD", values, OOD_COLOUR)):
            figure.add_histogram(
                x=part, xbins=bins, histnorm="percent", opacity=0.6, name=label, marker_color=shade,
                row=i // cols + 1, col=i % cols + 1, showlegend=i == 0, legendgroup=label,
            )  # fmt: skip
    figure.update_layout(barmode="overlay").update_yaxes(title="% of pictures", col=1)
    figure.update_xaxes(title=SCORE_NAMES[score], row=lines)
    question = f"Does the {NAMES.get(method, method.replace('_', ' '))}'s {score.upper()} tell ID from OOD?"
    hardest = min(aurocs, key=aurocs.get) if aurocs else None
    return styled(figure, f"{question} Hardest: {hardest}" if hardest else question, height=220 + 160 * lines)


def alpha_curve(evaluation: Evaluation) -> go.Figure:
    """Return the residual's validation accuracy over alpha, and the alpha in use."""
    if "residual" not in evaluation.methods:
        return nothing("This run is no reprogrammer, so it has no residual")
    curve, alpha = 100 * evaluation.validation_curve, evaluation.alpha
    figure = go.Figure(go.Scatter(x=ALPHAS, y=curve, mode="lines", line={"color": COLOURS["residual"]}))
    figure.add_vline(x=alpha, line={"dash": "dash", "color": OOD_COLOUR}, annotation_text=f"alpha {alpha:.2f}")
    figure.update_xaxes(title="alpha: share of the zero-shot features (0: reprogrammer, 1: zero-shot)")
    figure.update_yaxes(title="validation accuracy, %")
    chosen = "the largest within one standard error of the best"
    how = chosen if evaluation.given_alpha is None else "as the settings have it"
    return styled(figure, f"alpha = {alpha:.2f}, {how}", 340)
