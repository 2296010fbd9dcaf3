"""What is said of a sweep is computed from its rows: every number here follows from curves that are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reprog_kit import sweep_plots, sweep_rows
from reprog_kit.parameters import InputError

WEIGHTS = np.round(np.linspace(0, 1, 11), 1)


def rows_of(kind: str = "residual", seeds=(1, 2), roles=("validation", "id", "shift", "ood"), lift: float = 0.0):
    """Return rows of curves with known tops: ID at 0, shift at 0.3, AUROC at 0.5; of wise_ft the other way round."""
    x = WEIGHTS if kind == "residual" else 1 - WEIGHTS
    made = []
    for seed in seeds:
        off = 0.01 * (seed - 1)
        tops = {"validation": 0.90 - 0.2 * x**2, "id": 0.95 - 0.1 * x - off, "shift": 0.7 - (x - 0.3) ** 2 + lift}
        for role, sets in (("validation", ["validation"]), ("id", ["test"]), ("shift", ["a", "b"])):
            for i, name in enumerate(sets if role in roles else ()):
                made += [
                    (seed, name, role, 100, None, "accuracy", v - 0.02 * i, w) for v, w in zip(tops[role], WEIGHTS)
                ]
        for score in ("msp", "knn") if "ood" in roles else ():
            worse = 0.1 if score == "msp" else 0.0
            for metric, values in (
                ("auroc", 0.9 - worse - (x - 0.5) ** 2),
                ("fpr_at_95_id_recall", 0.4 + (x - 0.6) ** 2),
            ):
                made += [(seed, "far", "ood", 50, score, metric, v, w) for v, w in zip(values, WEIGHTS)]
    found = pd.DataFrame(made, columns=["seed", "set", "role", "n", "score", "metric", "value", "weight"])
    return found.assign(kind=kind)


def test_validation_takes_the_most_zero_shot_within_one_standard_error():
    # Of 100 pictures at 90% the standard error is 3 points: 0.2 x^2 <= 0.03 up to x = 0.387.
    assert sweep_rows.chosen(rows_of()) == {1: 0.3, 2: 0.3}
    assert sweep_rows.chosen(rows_of("wise_ft")) == {1: 0.7, 2: 0.7}


def test_a_flat_curve_is_zero_shot_whole():
    for kind, weight in (("residual", 1.0), ("wise_ft", 0.0)):
        assert sweep_rows.chosen(rows_of(kind, seeds=[1]).assign(value=0.5)) == {1: weight}


@pytest.mark.parametrize(("axis", "at"), [("ID accuracy", 0), ("shift accuracy", 0.3), ("AUROC", 0.5), ("FPR95", 0.6)])
def test_the_best_in_hindsight_is_the_top_of_the_mean_and_of_fpr95_the_bottom(axis, at):
    assert sweep_rows.best(rows_of(), axis, "msp") == at
    assert sweep_rows.best(rows_of("wise_ft"), axis, "msp") == pytest.approx(1 - at)


def test_the_table_has_mean_and_spread_at_every_mark():
    table = sweep_rows.sweep_table(rows_of(), "msp")
    assert list(table.index) == [
        "reprogrammer", "validation's choice", "the released", "zero-shot", "best ID accuracy in hindsight",
        "best shift accuracy in hindsight", "best AUROC in hindsight",
    ]  # fmt: skip
    assert list(table["alpha"]) == ["0", "0.3", "0.4", "1", "0", "0.3", "0.5"]
    # The seeds' ID accuracies are 0.92 and 0.91, both sets' shift accuracies 0.70 and 0.68.
    assert table.loc["validation's choice", "ID accuracy"] == "91.5 ± 0.7"
    assert table.loc["validation's choice", "shift accuracy"] == "69.0 ± 0.0"
    assert table.loc["best AUROC in hindsight", "AUROC, MSP"] == "80.0 ± 0.0"
    single = sweep_rows.sweep_table(rows_of(seeds=[1]), "msp")
    assert single.loc["validation's choice", "ID accuracy"] == "92.0"
    assert "the usual" in sweep_rows.sweep_table(rows_of("wise_ft")).index


def test_seeds_that_choose_differently_are_each_taken_at_their_own_weight():
    rows = rows_of()
    steep = (rows["seed"] == 2) & (rows["role"] == "validation")
    rows.loc[steep, "value"] = 0.9 - 2 * rows.loc[steep, "weight"]
    assert sweep_rows.chosen(rows) == {1: 0.3, 2: 0.0}
    line = sweep_rows.sweep_table(rows).loc["validation's choice"]
    assert line["alpha"] == "0.15 (0 to 0.3)" and line["ID accuracy"] == "93.0 ± 1.4"  # 0.92 and 0.94


def test_a_score_that_was_not_computed_is_refused():
    with pytest.raises(InputError, match=r"score = 'energy' is refused.*Known: msp, knn"):
        sweep_rows.axes(rows_of(), "energy")


def test_the_title_says_what_the_choice_wins_and_what_hindsight_would():
    assert sweep_rows.finding(rows_of(), "msp") == (
        "At alpha 0.30, validation's choice: ID accuracy -3.0, shift accuracy +9.0, AUROC +21.0 points against the "
        "reprogrammer; at best, in hindsight: +0.0 at 0, +9.0 at 0.3, +25.0 at 0.5"
    )
    assert "FPR95 -27.0 points" in sweep_rows.finding(rows_of(), "msp", "FPR95")
    assert "against the fine-tuned" in sweep_rows.finding(rows_of("wise_ft"), "msp")


def test_the_norm_s_title_says_where_it_matters_most():
    found = sweep_rows.norm_finding(rows_of(lift=0.02), rows_of(), "msp")
    assert found.startswith("Normalising again changes shift accuracy most: +2.0 points at alpha 0")
    assert "at the released 0.4: ID accuracy +0.0, shift accuracy +2.0, AUROC +0.0" in found


def test_the_detectors_title_names_the_best_and_the_one_that_moves():
    found = sweep_rows.detectors_finding(rows_of())
    assert found.startswith("kNN tells OOD best at validation's choice (86.0%); alpha moves")
    assert "65.0% at 0, 90.0% at 0.5" in found


@pytest.mark.parametrize("kind", ["residual", "wise_ft"])
@pytest.mark.parametrize("metric", ["AUROC", "FPR95"])
def test_the_curves_mark_three_weights_on_the_mean(kind, metric):
    figure = sweep_plots.curves(rows_of(kind), "msp", metric)
    points = {}
    for trace in figure.data:
        if trace.mode == "markers":
            points.setdefault(trace.name, []).append((trace.x[0], round(trace.y[0], 6)))
    assert len(points) == 3 and all(len(found) == 3 for found in points.values())
    turned = (lambda x: x) if kind == "residual" else (lambda x: 1 - x)
    best = points["best, in hindsight: chosen on test"]
    assert best[0] == (turned(0), 94.5) and best[1] == (pytest.approx(turned(0.3)), 69.0)
    assert points["chosen on validation"][0][0] == pytest.approx(turned(0.3))
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 4  # three means, and validation
    assert sum(trace.fill == "toself" for trace in sweep_plots.curves(rows_of(kind, seeds=[1])).data) == 0
    names = figure.layout.xaxis.ticktext
    assert ("reprogrammer" if kind == "residual" else "zero-shot") in names[0]


def test_what_is_not_there_is_left_out():
    bare = rows_of(roles=("validation", "id"))
    assert [a.text for a in sweep_plots.curves(bare).layout.annotations] == ["ID accuracy"]
    assert "no OOD sets" in sweep_plots.detectors(bare).layout.title.text
    assert "nothing to normalise again" in sweep_plots.renormalised(pd.DataFrame(), pd.DataFrame()).layout.title.text
    assert list(sweep_rows.sweep_table(bare).columns) == ["alpha", "validation accuracy", "ID accuracy"]


def test_differences_are_in_points():
    figure = sweep_plots.renormalised(rows_of(lift=0.02), rows_of(), "knn")
    bold = [trace for trace in figure.data if trace.name == "shift accuracy" and trace.mode == "lines"]
    assert np.allclose(bold[0].y, 2.0)


def test_every_detector_has_a_line():
    figure = sweep_plots.detectors(rows_of())
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines"}
    assert set(lines) == {"MSP", "kNN"}
    assert max(lines["kNN"].y) == pytest.approx(90)
