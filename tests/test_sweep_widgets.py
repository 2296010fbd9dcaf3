"""The slider holds typed state, and its figure follows; headless there is the figure alone."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from test_sweep_rows import WEIGHTS, rows_of
from traitlets import TraitError

from reprog_kit import sweep_widgets
from reprog_kit.sweep_view import SweepView
from reprog_kit.sweep_widgets import WeightSlider, alpha_slider


class Swept:
    """What a view needs of a sweep."""

    def __init__(self, kind="residual", seed=1, roles=("validation", "id", "shift", "ood")):
        rng = np.random.default_rng(seed)
        self.kind, self.seed, self.weights_W = kind, seed, WEIGHTS
        self.curves = rows_of(kind, seeds=[seed], roles=roles)
        self.scores = {(n, "msp"): rng.normal(m, size=(11, 40)) for n, m in (("test", 1), ("far", 0))}
        self.scores = self.scores if "ood" in roles else {}


@pytest.fixture
def in_lab(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "somewhere")


def test_headless_it_is_the_plain_figure_at_validation_s_choice(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(sweep_widgets, "WeightSlider", None)
    figure = alpha_slider([Swept(), Swept(seed=2)])
    assert type(figure) is go.Figure
    assert figure.layout.title.text == "alpha 0.3: ID accuracy 91.5%, shift accuracy 69.0%, AUROC 76.0%"
    assert list(figure.data[0].x) == [0.3, 0.3]


def test_moving_the_slider_moves_line_bars_histogram_and_title(in_lab):
    box = alpha_slider([Swept()])
    assert isinstance(box, WeightSlider) and box.weight == 0.3
    before = list(box.figure.data[-1].y)
    box.slider.value = 8
    assert (box.at, box.weight) == (8, 0.8)
    assert box.numbers == {"test": 87.0, "a": 45.0, "b": 43.0, "far": 71.0}
    assert list(box.figure.data[0].x) == [0.8, 0.8]
    assert list(box.figure.data[1].text) == ["87.0", "45.0", "43.0", "71.0"]
    assert list(box.figure.data[-1].y) != before
    assert box.figure.layout.title.text.startswith("alpha 0.8: ID accuracy 87.0%")


def test_setting_the_state_moves_the_slider(in_lab):
    box = alpha_slider([Swept("wise_ft")])
    box.at = 2
    assert box.slider.value == 2 and box.slider.label == "0.2" and box.slider.description == "wise_weight"
    box.at = 99
    assert box.at == 10 and box.slider.value == 10
    for wrong in (-1, 0.5, "2"):
        with pytest.raises(TraitError):
            box.at = wrong
    with pytest.raises(TraitError):
        box.weight = 0.5


def test_histograms_hold_every_picture():
    swept = Swept()
    view = SweepView([swept])
    assert view.histograms_WBP.sum(axis=1) == pytest.approx(np.full((11, 2), 100))
    means = (view.middles_B[:, None] * view.histograms_WBP[4]).sum(axis=0) / 100
    assert means == pytest.approx([swept.scores[n, "msp"][4].mean() for n in ("test", "far")], abs=0.1)


def test_a_benchmark_without_ood_sets_has_a_slider_too(in_lab):
    box = alpha_slider([Swept(roles=("validation", "id", "shift"))])
    box.at = 5
    assert set(box.numbers) == {"test", "a", "b"}
