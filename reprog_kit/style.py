"""The look of every figure (plotly): a method's colour, a line's style, titles."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio

from .parameters import in_jupyterlab

# Okabe and Ito's colours, told apart by colour-blind readers; a method keeps its colour in every figure.
COLOURS = {
    "zero_shot": "#7F7F7F",
    "prompt_ensemble": "#7F7F7F",  # zero-shot's with more captions
    "reprogrammer": "#0072B2",
    "residual": "#009E73",
    "linear_probe": "#E69F00",
    "fine_tune": "#D55E00",
    "lp_ft": "#CC79A7",
    "l2_sp": "#56B4E9",
    "wise_ft": "#8C564B",
    "coop": "#000000",
}


def styled(figure: go.Figure, title: str, height: int = 380, width: int | None = None) -> go.Figure:
    """Give a figure its title, wrapped to a width in px or a notebook's, and the look that all figures share."""
    # plotly's own default in a kernel shows in JupyterLab, but not in the HTML that nbconvert makes of a headless run.
    if pio.renderers.default == "plotly_mimetype" and not in_jupyterlab():
        pio.renderers.default = "plotly_mimetype+notebook"
    lines = textwrap.wrap(title, 118 if width is None else int(width / 8.5), break_on_hyphens=False)
    figure.update_layout(
        title={
            "text": "<br>".join(lines),
            "font": {"size": 16},
            "x": 0,
            "xanchor": "left",
            "xref": "paper",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 16},
        },
        template="plotly_white",
        width=width,
        height=height + 22 * (len(lines) - 1),
        margin={"l": 60, "r": 20, "t": 58 + 22 * len(lines), "b": 50},
        legend={"orientation": "h", "y": -0.22, "x": 0},
        font={"size": 13},
    )
    return figure


class Figures(list):
    """Several figures that a notebook shows below one another."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(*self)


def errors(found: pd.DataFrame) -> dict:
    """Return plotly's error bars in percent: the seeds' standard deviation, of a single seed the bootstrap interval."""
    single = found["std"].isna()
    up = found["std"].where(~single, found["high"] - found["value"])
    down = found["std"].where(~single, found["value"] - found["low"])
    return {"type": "data", "symmetric": False, "array": 100 * up, "arrayminus": 100 * down}


def style_of(found: pd.DataFrame, styles: Sequence[str]) -> dict[str, str]:
    """Return a style a line: a method keeps its colour, so its variants differ in dash, symbol or pattern."""
    lines = found.drop_duplicates("line")
    return {line: styles[i % len(styles)] for line, i in zip(lines["line"], lines.groupby("method").cumcount())}


def colour(rows: pd.DataFrame) -> str:
    """Return the colour of the method of these rows."""
    return COLOURS.get(rows["method"].iloc[0] if len(rows) else "", "#444444")


def tint(shade: str, strength: float = 0.1) -> str:
    """Return a colour, #rrggbb, so faint that it can fill an area."""
    return f"rgba({', '.join(str(int(shade[i : i + 2], 16)) for i in (1, 3, 5))}, {strength:.2f})"
