"""One weight of a sweep in full (plotly): where it lies on the curves, every set's number, ID against OOD scores.

Shapes: W weights, S sets, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .ledger import DETECTORS
from .metrics import binned
from .plots import ID_COLOUR, OOD_COLOUR, SCORE_NAMES
from .style import COLOURS, styled
from .sweep import Sweep, rows_of
from .sweep_rows import WORDS, Mark, axes, band, chosen

BINS = 40


class SweepView:
    """What there is to show at every weight, computed beforehand, so that a slider only picks.

    Parameters
    ----------
    sweeps : sequence of Sweep
        One a seed: curves and numbers are their means, the scores those of the first.
    score : str
        The detector.

    Attributes
    ----------
    weights_W : ndarray
    percent : DataFrame
        Accuracy of ID and shift sets and AUROC of OOD sets by set and weight.
    histograms_WBP : ndarray
        Percent of ID (0) and of OOD pictures (1) whose score is in a bin.
    """

    def __init__(self, sweeps: Sequence[Sweep], score: str = "msp"):
        first, rows = sweeps[0], rows_of(sweeps)
        self.kind, self.seed, self.score, self.weights_W = first.kind, first.seed, score, first.weights_W
        self.axes = axes(rows, score).drop(columns=["validation accuracy", "FPR95"], errors="ignore")
        self.choice = Mark("", chosen(rows)).weight
        is_shown = rows["role"].isin(("id", "shift")) | ((rows["metric"] == "auroc") & (rows["score"] == score))
        shown = rows[is_shown].groupby(["role", "set", "weight"], sort=False)["value"].mean()
        self.percent = 100 * shown.unstack("weight")
        inside = first.scores.get(("test", score), np.empty((len(self.weights_W), 0)))
        outside = [first.scores[name, score] for role, name in self.percent.index if role == "ood"]
        self.middles_B, parts = binned([inside, np.concatenate([inside[:, :0], *outside], axis=1)], BINS)
        self.histograms_WBP = np.stack(parts, axis=-1)

    @property
    def chosen_at(self) -> int:
        """The index of the weight nearest to validation's choice."""
        return int(np.abs(self.weights_W - self.choice).argmin())

    def numbers(self, at: int) -> dict[str, float]:
        """Return the percentages of every set at a weight."""
        return dict(zip(self.percent.index.get_level_values("set"), self.percent.iloc[:, at].round(1)))

    def title(self, at: int) -> str:
        """Return where this is, and the means there."""
        means = 100 * self.axes.groupby("weight").mean().iloc[at]
        place = f"{WORDS[self.kind][0]} {self.weights_W[at]:g}"
        return f"{place}: " + ", ".join(f"{axis} {value:.1f}%" for axis, value in means.items())

    def figure(self, at: int | None = None, made: type[go.Figure] = go.Figure) -> go.Figure:
        """Return the figure at a weight, by default validation's choice; `made` may be a FigureWidget."""
        at = self.chosen_at if at is None else at
        titles = (
            "mean over sets, %",
            "each set, % (OOD: AUROC)",
            f"{DETECTORS[self.score]}, seed {self.seed}",
        )
        figure = made(make_subplots(1, 3, subplot_titles=titles, column_widths=[0.32, 0.38, 0.3]))
        self._curves(figure)
        self._bars(figure)
        for part, (name, shade) in enumerate((("ID", ID_COLOUR), ("OOD", OOD_COLOUR))):
            figure.add_bar(
                x=self.middles_B, y=self.histograms_WBP[at, :, part], name=f"{name} pictures", marker_color=shade,
                opacity=0.6, row=1, col=3,
            )  # fmt: skip
        styled(figure, self.title(at), max(400, 150 + 24 * len(self.percent)))
        figure.update_layout(barmode="overlay", bargap=0)
        figure.update_yaxes(title="% of pictures", range=[0, 1.05 * max(1.0, self.histograms_WBP.max())], row=1, col=3)
        figure.update_xaxes(title=SCORE_NAMES[self.score], row=1, col=3)
        self.show(figure, at)
        return figure

    def show(self, figure: go.Figure, at: int) -> None:
        """Move a figure of this view to another weight, in one update."""
        here, bars, inside, outside = (figure.data[i] for i in (0, 1, -2, -1))
        with figure.batch_update():
            here.x = [self.weights_W[at]] * 2
            bars.x = self.percent.iloc[:, at]
            bars.text = [f"{value:.1f}" for value in self.percent.iloc[:, at]]
            inside.y, outside.y = self.histograms_WBP[at, :, 0], self.histograms_WBP[at, :, 1]
            figure.layout.title.text = self.title(at)

    def _curves(self, figure: go.Figure) -> None:
        """Add the line that moves, the bars that move, and the axes' means over the weight."""
        means = {axis: 100 * band(self.axes[axis])["mean"] for axis in self.axes}
        low, high = min(m.min() for m in means.values()), max(m.max() for m in means.values())
        figure.add_scatter(
            x=[0, 0], y=[low - 1, high + 1], mode="lines", line={"color": "#000000", "width": 2}, showlegend=False,
            hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
        names = [name for _, name in self.percent.index]
        shades = [{"id": ID_COLOUR, "shift": COLOURS[self.kind], "ood": OOD_COLOUR}[r] for r, _ in self.percent.index]
        figure.add_bar(
            y=names, x=[0] * len(names), orientation="h", marker={"color": shades, "opacity": 0.55},
            textposition="inside", insidetextanchor="start", textfont={"color": "#222222"},
            showlegend=False, row=1, col=2,
        )  # fmt: skip
        for (axis, mean), shade in zip(means.items(), (ID_COLOUR, COLOURS[self.kind], OOD_COLOUR)):
            figure.add_scatter(
                x=mean.index, y=mean, mode="lines", name=axis, line={"color": shade, "width": 2.5}, row=1, col=1
            )
        name, start, end, _ = WORDS[self.kind]
        ticks = {"tickvals": [0, 0.5, 1], "ticktext": [f"0<br>{start}", "0.5", f"1<br>{end}"]}
        figure.update_xaxes(title={"text": name, "standoff": 4}, range=[-0.03, 1.03], **ticks, row=1, col=1)

    def _bars(self, figure: go.Figure) -> None:
        """Add both ends to the sets' bars, as ticks."""
        names = [name for _, name in self.percent.index]
        colours = {"reprogrammer": "reprogrammer", "zero-shot": "zero_shot", "fine-tuned": "fine_tune"}
        for at, end in ((0, WORDS[self.kind][1]), (-1, WORDS[self.kind][2])):
            figure.add_scatter(
                x=self.percent.iloc[:, at], y=names, mode="markers", name=end, row=1, col=2,
                marker={"symbol": "line-ns", "size": 14, "line": {"width": 3, "color": COLOURS[colours[end]]}},
            )  # fmt: skip
        figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix=" ", row=1, col=2)
        figure.update_xaxes(range=[0, 101], row=1, col=2)
