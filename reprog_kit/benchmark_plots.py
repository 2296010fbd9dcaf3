"""Figures and tables of the benchmark (plotly): ratios to the plain way, and how cost grows with the work."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .benchmark import digits
from .style import styled

# By precision; the plain way is 1.
SHADES = {"fp32": "#0072B2", "bf16": "#E69F00"}


def ratios(rows: pd.DataFrame) -> go.Figure:
    """Return how many times as well as the plain way ours does each task: a panel a model, on a logarithmic axis.

    Parameters
    ----------
    rows : DataFrame
        Of `reprog_kit.benchmark.measure`. Dots are medians over rounds, bars reach from the least to the largest.
    """
    models = list(dict.fromkeys(rows["model"]))
    figure = make_subplots(1, len(models), subplot_titles=models, shared_yaxes=True, horizontal_spacing=0.03)
    for column, model in enumerate(models, 1):
        for precision, part in rows[rows["model"] == model].groupby("precision", sort=False):
            middle = part["ratio"]
            error = {"type": "data", "symmetric": False, "array": part["ratio_high"] - middle}
            error["arrayminus"] = middle - part["ratio_low"]
            look = {"color": SHADES[precision], "size": 9}
            figure.add_scatter(
                x=middle, y=part["task"], mode="markers", name=f"ours in {precision}", marker=look, error_x=error,
                legendgroup=precision, showlegend=column == 1, customdata=part[["ours", "plain", "unit"]],
                hovertemplate="%{y}: %{x:.3g} times<br>ours %{customdata[0]:,.3g} %{customdata[2]}, "
                "plain %{customdata[1]:,.3g}<extra></extra>",
                row=1, col=column,
            )  # fmt: skip
        figure.add_vline(x=1, line={"color": "#7F7F7F", "width": 1}, row=1, col=column)
    figure.update_xaxes(type="log", title="times as well as the plain way", dtick=1)
    figure.update_yaxes(autorange="reversed")
    styled(figure, _finding(rows), 130 + 34 * rows["task"].nunique())
    return figure.update_layout(legend={"y": -0.28}, margin={"l": 200, "b": 80})


def _finding(rows: pd.DataFrame) -> str:
    """Return the title: what training gains, in the precision in which it gains most, on the last model."""
    training = rows[(rows["task"] == "training") & (rows["model"] == rows["model"].iloc[-1])]
    best = training.loc[training["ratio"].idxmax()]
    return (
        f"Training {best['model']} in {best['precision']} is {best['ratio']:.3g} times as fast as the plain way, "
        f"at {best['ours']:,.3g} images/s on {best['device']}"
    )


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows for people: a line a (model, task, precision), amounts to three digits."""
    found = rows[["model", "task", "precision", "unit", "ours", "plain", "ratio"]].copy()
    for name in ("ours", "plain", "ratio"):
        found[name] = found[name].map(digits)
    several = rows["rounds"] > 1
    ends = zip(rows["ratio_low"], rows["ratio_high"])
    found["least to largest"] = [f"{digits(a)} to {digits(b)}" if s else "" for (a, b), s in zip(ends, several)]
    return found.set_index(["model", "task", "precision"])


def utilisation_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `reprog_kit.benchmark.utilisation`'s rows for people; the share in percent."""
    found = rows.rename(columns={"share": "share, %"}).assign(**{"share, %": 100 * rows["share"]})
    numbers = found.select_dtypes("number").columns
    found[numbers] = found[numbers].map(digits)
    return found.set_index(["model", "task", "precision"])


def growth_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `reprog_kit.benchmark.cost_growth`'s rows for people."""
    found = rows.copy()
    for name in ("seconds", "MB", "seconds x", "MB x"):
        found[name] = found[name].map(digits)
    return found.set_index(["grown", "factor"])


def growth_curves(rows: pd.DataFrame) -> go.Figure:
    """Return time and memory of a training as multiples of the smallest's, over the factor by which its work grew.

    Parameters
    ----------
    rows : DataFrame
        Of `reprog_kit.benchmark.cost_growth`. The dotted line is cost that grows as the work does.
    """
    titles = ("time", "memory above libraries and model")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    for column, measure in enumerate(("seconds", "MB"), 1):
        for shade, (what, part) in zip(("#0072B2", "#E69F00", "#009E73"), rows.groupby("grown", sort=False)):
            figure.add_scatter(
                x=part["factor"], y=part[f"{measure} x"], name=what, line={"color": shade}, legendgroup=what,
                showlegend=column == 1, customdata=part[[measure]], row=1, col=column,
                hovertemplate=f"{what} x %{{x}}: %{{customdata[0]:.3g}} {measure}<extra></extra>",
            )  # fmt: skip
        factors = sorted(rows["factor"].unique())
        figure.add_scatter(
            x=factors, y=factors, name="as the work", line={"color": "#7F7F7F", "dash": "dot"}, mode="lines",
            showlegend=column == 1, row=1, col=column,
        )  # fmt: skip
    figure.update_xaxes(title="factor", type="log", tickvals=factors, ticktext=factors)
    figure.update_yaxes(title="multiple of the smallest's", type="log", dtick="D2")
    worst = rows.loc[(rows["seconds x"] / rows["factor"]).idxmax()]
    return styled(
        figure,
        f"With {worst['factor']} times as many {worst['grown']} a training takes {worst['seconds x']:.2g} times as "
        "long: nothing grows faster than its work by more than that" if worst["factor"] > 1 else
        "No cost grows faster than the work",
    )  # fmt: skip
