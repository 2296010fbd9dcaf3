"""The figures of the comparison: what is drawn is what the tracks hold, at every alpha."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reprog_kit.compare_plots import Compared, axes_radar, each_set, score_histograms
from reprog_kit.radar import polygons, radii
from reprog_kit.style import COLOURS
from reprog_kit.tracks import Track

WEIGHTS = np.linspace(0, 1, 5)
SETS = [("id", "test"), ("shift", "dim"), ("shift", "wet"), ("ood", "far"), ("ood", "near")]


def track(seed: int, weights=WEIGHTS, sets=SETS) -> Track:
    rng = np.random.default_rng(seed)
    percent = pd.DataFrame(rng.uniform(40, 95, (len(sets), len(weights))), columns=weights)
    percent.index = pd.MultiIndex.from_tuples(sets, names=["role", "set"])
    axes = {"id": "ID accuracy", "shift": "shift accuracy", "ood": "AUROC"}
    means = percent.groupby(level="role", sort=False).mean().rename(index=axes)
    named = ["test", *(name for role, name in sets if role == "ood")]
    histograms = {name: rng.uniform(0, 10, (len(weights), 6)) for name in named if len(named) > 1}
    return Track(np.asarray(weights), percent, means, np.linspace(0, 1, 6), histograms)


def compared(sets=SETS, chosen="residual", **more) -> Compared:
    methods = {"zero-shot": "zero_shot", "prompt ensemble": "prompt_ensemble", "reprogrammer": "reprogrammer",
               "residual": "residual", "CoOp": "coop", **more}  # fmt: skip
    tracks = {n: track(i, WEIGHTS if m == "residual" else [0.0], sets) for i, (n, m) in enumerate(methods.items())}
    return Compared(tracks, methods, chosen, "msp", WEIGHTS)


@pytest.mark.parametrize("at", range(len(WEIGHTS)))
def test_every_set_is_where_its_track_has_it(at):
    shown = compared()
    figure = each_set(shown).at(at)
    for trace in figure.data:
        expected = shown.tracks[trace.name].percent
        assert list(trace.x) == pytest.approx(
            expected.iloc[:, at if trace.name == "residual" else 0].tolist(), abs=1e-4
        )
        assert [figure.layout.yaxis.ticktext[y].split()[1] for y in trace.y] == [name for _, name in SETS]
    low, high = figure.layout.xaxis.range
    assert all(low < x < high for trace in figure.data for x in trace.x)
    assert figure.data[-1].name == "residual"  # on top
    assert {t.name: t.legendrank for t in figure.data}["CoOp"] == 5


def test_a_method_keeps_its_colour_and_the_ensemble_is_zero_shots():
    figure = each_set(compared()).figure
    colours = {trace.name: trace.marker.color for trace in figure.data}
    assert colours["residual"] == COLOURS["residual"] and colours["CoOp"] == COLOURS["coop"]
    assert colours["prompt ensemble"] == colours["zero-shot"] == COLOURS["zero_shot"]
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    assert symbols["prompt ensemble"] != symbols["zero-shot"]


@pytest.mark.parametrize("at", [0, 2, 4])
def test_the_radar_moves_the_residual_between_the_ends_of_all_lines_at_every_alpha(at):
    shown = compared()
    moving = axes_radar(shown)
    values = pd.concat([t.means.T for t in shown.tracks.values()])
    for trace in moving.at(at).data:
        means = shown.tracks[trace.name].means.iloc[:, at if trace.name == "residual" else 0]
        share = (means - values.min()) / (values.max() - values.min())
        assert np.hypot(trace.x, trace.y)[:3] == pytest.approx(0.25 + 0.75 * share, abs=1e-3)
    for value, note in zip(values.min(), moving.figure.layout.annotations):
        assert f"{value:.1f} to" in note.text


@pytest.mark.parametrize("at", [0, 3])
def test_the_histograms_are_those_of_the_chosen_line(at):
    shown = compared()
    figure = score_histograms(shown).at(at)
    drawn = {(trace.xaxis, trace.name): list(trace.y) for trace in figure.data}
    histograms = shown.tracks["residual"].histograms
    assert drawn["x", "OOD pictures"] == pytest.approx(histograms["far"][at].tolist(), abs=1e-4)
    assert drawn["x2", "OOD pictures"] == pytest.approx(histograms["near"][at].tolist(), abs=1e-4)
    assert drawn["x2", "ID pictures"] == pytest.approx(histograms["test"][at].tolist(), abs=1e-4)
    assert "residual's MSP" in figure.layout.title.text


def test_a_line_that_does_not_move_stands_still():
    moving = score_histograms(compared(chosen="CoOp"))
    assert not moving.frames and "CoOp's" in moving.at(3).layout.title.text
    texts = compared(chosen="CoOp").said()
    assert len(texts) == 5 and len(set(texts)) == 1


def test_the_words_say_alpha_and_the_means_there():
    shown = compared()
    means = shown.tracks["residual"].means.iloc[:, 2]
    assert shown.said()[2] == (
        f"alpha 0.5 – residual: ID accuracy {means.iloc[0]:.1f}%, shift accuracy {means.iloc[1]:.1f}%, "
        f"AUROC {means.iloc[2]:.1f}%"
    )


def test_a_tall_bin_of_sure_answers_is_cut_and_the_axis_says_so():
    shown = compared()
    shown.tracks["residual"].histograms["test"][:, -1] = 90
    figure = score_histograms(shown).figure
    assert figure.layout.yaxis.range[1] < 20 and "tallest cut" in figure.layout.yaxis.title.text
    plain = score_histograms(compared()).figure
    assert plain.layout.yaxis.range[1] > 9 and plain.layout.yaxis.title.text == "% of pictures"


def test_a_benchmark_without_shift_or_ood_is_drawn_too():
    shown = compared(sets=[("id", "test")])
    assert len(each_set(shown).at(1).data) == 5
    assert "needs two lines" in axes_radar(shown).at(1).layout.title.text
    assert "no OOD set" in score_histograms(shown).at(1).layout.title.text


def test_zero_shot_alone_is_drawn_too():
    shown = Compared({"zero-shot": track(0, [0.0])}, {"zero-shot": "zero_shot"}, "zero-shot", "energy", WEIGHTS)
    for view in (each_set, axes_radar, score_histograms):
        assert view(shown).at(3).layout.title.text
    assert "AUROC of energy" in each_set(shown).figure.layout.xaxis.title.text


def test_a_radars_corners_stand_on_the_circle_in_equal_angles():
    (points,) = polygons(np.ones((1, 4)))
    assert points == pytest.approx(np.array([[0, 1], [1, 0], [0, -1], [-1, 0], [0, 1]]), abs=1e-12)
    level = pd.DataFrame({"a": [5.0, 5.0]})
    assert (radii(level, level.min(), level.max()) == 1).all(axis=None)
