"""The alpha slider, the menus, and every figure that follows them (ipywidgets); headless plain figures at one alpha."""

from __future__ import annotations

import ipywidgets
import numpy as np

from .compare_plots import Compared, axes_radar, each_set, score_histograms
from .ledger import DETECTORS
from .live_figures import LiveFigures
from .parameters import in_jupyterlab
from .style import Figures
from .sweep import weights_of
from .workbench import Workbench

_VIEWS = (each_set, axes_radar, score_histograms)


def compared(bench: Workbench) -> Compared:
    """Return what the workbench's figures show, by its traits."""
    tracks = {name: bench.track(name, bench.score) for name in bench.names}
    methods = {name: bench.lines[name].method for name in bench.names}
    weights = weights_of("residual", bench.settings.steps)
    return Compared(tracks, methods, bench.chosen, bench.score, weights)


class Comparison(ipywidgets.VBox):
    """A slider over alpha, menus of detector and line, and the figures.

    Attributes
    ----------
    bench : Workbench
        Whose traits it sets and follows.
    live : LiveFigures
        Tied to the slider inside the browser.
    """

    def __init__(self, bench: Workbench):
        self.bench = bench
        self._weights = weights_of("residual", bench.settings.steps)
        wide = {"description_width": "initial"}
        self.slider = ipywidgets.SelectionSlider(
            options=[(f"{weight:g}", at) for at, weight in enumerate(self._weights)], index=self._place(),
            description="alpha", layout={"flex": "1 1 380px", "max_width": "700px"},
        )  # fmt: skip
        self.lines = ipywidgets.Dropdown(options=bench.names, value=bench.chosen, description="scores of", style=wide)
        detectors = [(name, score) for score, name in DETECTORS.items()]
        self.detectors = ipywidgets.Dropdown(options=detectors, value=bench.score, description="detector")
        self.live = LiveFigures(at=self.slider.index)
        row = {"flex_flow": "row wrap", "grid_gap": "12px", "align_items": "center"}
        super().__init__([ipywidgets.Box([self.slider, self.lines, self.detectors], layout=row), self.live])
        ipywidgets.jslink((self.slider, "index"), (self.live, "at"))
        self.slider.observe(self._slid, "index")
        self._line_link = ipywidgets.link((bench, "chosen"), (self.lines, "value"))
        ipywidgets.link((bench, "score"), (self.detectors, "value"))
        bench.observe(self._moved, "alpha")
        bench.observe(self._joined, "names")
        bench.observe(self._redraw, ["chosen", "score"])
        self._redraw()

    def _place(self) -> int:
        return int(np.abs(self._weights - self.bench.alpha).argmin())

    def _slid(self, change) -> None:
        self.bench.alpha = float(self._weights[change["new"]])

    def _moved(self, _) -> None:
        self.slider.index = self._place()

    def _joined(self, _) -> None:
        self._line_link.unlink()  # a menu with other options jumps to the first
        self.lines.options = self.bench.names
        self._line_link.link()
        self._redraw()

    def _redraw(self, _=None) -> None:
        shown = compared(self.bench)
        self.live.show([view(shown) for view in _VIEWS], shown.said())


def comparison(bench: Workbench) -> Comparison | Figures:
    """Return the slider and its figures in JupyterLab, else the figures at the workbench's alpha."""
    if in_jupyterlab():
        return Comparison(bench)
    shown = compared(bench)
    at = int(np.abs(shown.weights_W - bench.alpha).argmin())
    return Figures(view(shown).at(at) for view in _VIEWS)
