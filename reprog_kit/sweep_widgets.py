"""A slider over the weight of a sweep (ipywidgets); headless the same figure, standing still."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import plotly.graph_objects as go
import traitlets

from .parameters import in_jupyterlab
from .sweep import Sweep
from .sweep_rows import WORDS
from .sweep_view import SweepView


class WeightSlider(ipywidgets.VBox):
    """A slider, and the figure that follows it.

    Attributes
    ----------
    at : int
        Index of the weight that is shown; set it, and slider and figure follow.
    weight : float
        That weight.
    numbers : dict
        Percent by set there: accuracy of ID and shift sets, AUROC of OOD sets.
    """

    at = traitlets.Int(0, min=0)
    weight = traitlets.Float(read_only=True)
    numbers = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Float(), read_only=True)

    def __init__(self, view: SweepView):
        self.view = view
        self.slider = ipywidgets.SelectionSlider(
            options=[(f"{weight:g}", at) for at, weight in enumerate(view.weights_W)], value=view.chosen_at,
            description=WORDS[view.kind][0], style={"description_width": "initial"}, layout={"width": "70%"},
        )  # fmt: skip
        self.figure = view.figure(view.chosen_at, go.FigureWidget)
        self.figure.update_layout(width=1000)  # in a box it would be plotly's 700, too narrow for three panels
        super().__init__([self.slider, self.figure])
        traitlets.link((self.slider, "value"), (self, "at"))
        self._follow({"new": self.at})
        self.observe(self._follow, "at")

    @traitlets.validate("at")
    def _within(self, proposal) -> int:
        return min(proposal["value"], len(self.view.weights_W) - 1)

    def _follow(self, change) -> None:
        """Show the weight at an index."""
        self.set_trait("weight", float(self.view.weights_W[change["new"]]))
        self.set_trait("numbers", self.view.numbers(change["new"]))
        self.view.show(self.figure, change["new"])


def alpha_slider(sweeps: Sequence[Sweep], score: str = "msp") -> WeightSlider | go.Figure:
    """Return a slider over the weight beside curves, numbers and scores; outside JupyterLab validation's choice alone.

    Parameters
    ----------
    sweeps : sequence of Sweep
        One a seed.
    score : str
        The detector of AUROC and scores.
    """
    view = SweepView(sweeps, score)
    return WeightSlider(view) if in_jupyterlab() else view.figure()
