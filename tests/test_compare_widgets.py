"""The alpha slider and its menus: typed state on the workbench, figures that follow; headless plain figures."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from test_compare_plots import track
from traitlets import Enum, Float, HasTraits, List, Unicode

from reprog_kit import compare_widgets
from reprog_kit.compare_widgets import Comparison, comparison
from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.live_figures import LiveFigures, Moving
from reprog_kit.sweep import weights_of

WEIGHTS = weights_of("residual", 11)


class Line:
    def __init__(self, method):
        self.method = method


class Bench(HasTraits):
    """What the panel needs of a workbench, with figures drawn by chance."""

    alpha, score, chosen = Float(0.3), Enum(["msp", "energy"], "msp"), Unicode("residual")
    names = List(Unicode())

    def __init__(self):
        super().__init__()
        self.settings = ExploreSettings(steps=11)
        self.lines = {"zero-shot": Line("zero_shot"), "residual": Line("residual")}
        self.names = list(self.lines)

    def track(self, name, score):
        weights = WEIGHTS if self.lines[name].method == "residual" else [0.0]
        return track(len(name) + len(score), weights)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "somewhere")
    return Bench()


def test_headless_they_are_plain_figures_at_the_workbenchs_alpha(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(compare_widgets, "Comparison", None)
    bench = Bench()
    figures = comparison(bench)
    assert [type(figure) for figure in figures] == [go.Figure] * 3
    expected = bench.track("residual", "msp").percent.iloc[:, 3]
    assert list(figures[0].data[-1].x) == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_slider_and_the_workbench_say_the_same(bench):
    panel = comparison(bench)
    assert isinstance(panel, Comparison) and panel.slider.label == "0.3"
    panel.slider.index = 7
    assert bench.alpha == pytest.approx(0.7)
    bench.alpha = 0.1
    assert panel.slider.index == 1 and panel.live.said[1].startswith("alpha 0.1 – residual")


def test_every_place_of_the_slider_is_in_the_browser_beforehand(bench):
    sets, radar, scores = comparison(bench).live.figures
    for figure in (sets, radar, scores):
        assert len(figure["frames"]) == len(WEIGHTS)
        assert all(len(frame) == len(figure["traces"]) for frame in figure["frames"])
    track = bench.track("residual", "msp")
    for at in range(len(WEIGHTS)):
        assert sets["frames"][at][0]["x"] == pytest.approx(track.percent.iloc[:, at].tolist(), abs=1e-4)


def test_the_menus_set_the_workbench_and_draw_anew(bench):
    panel = comparison(bench)
    before = panel.live.figures
    panel.detectors.value = "energy"
    assert bench.score == "energy" and panel.live.figures[0] != before[0]
    bench.chosen = "zero-shot"
    assert panel.lines.value == "zero-shot" and not panel.live.figures[2]["frames"]
    assert all(text.startswith("zero-shot:") for text in panel.live.said)


def test_a_line_that_joins_is_in_menu_and_figures_and_the_chosen_one_stays(bench):
    panel = comparison(bench)
    bench.lines["CoOp"] = Line("coop")
    bench.names = ["zero-shot", "residual", "CoOp"]
    assert panel.lines.options == ("zero-shot", "residual", "CoOp")
    assert panel.lines.value == bench.chosen == "residual"
    assert "CoOp" in [trace["name"] for trace in panel.live.figures[0]["data"]]


def test_a_figure_without_frames_is_the_same_everywhere():
    still = Moving(go.Figure(go.Scatter(x=[1], y=[2])))
    assert still.at(5) is still.figure and still.sent()["frames"] == []
    live = LiveFigures(at=2)
    live.show([still], ["a", "b", "c"])
    assert live.said == ["a", "b", "c"] and len(live.figures) == 1
    assert "Plotly" in live.get_state()["_esm"]
    assert np.asarray(live.figures[0]["data"][0]["x"]).tolist() == [1]
