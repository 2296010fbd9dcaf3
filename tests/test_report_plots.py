"""Figures of the report: the numbers they draw are those of the tables, and their titles state what is true."""

import numpy as np
import pytest
from ledgers import SETS, ledger, row

from reprog_kit import plots, report_plots
from reprog_kit.ledger import MEAN, axis, estimates
from reprog_kit.style import COLOURS

AXES = ("ID accuracy", "shift accuracy", "AUROC")


@pytest.fixture(scope="module")
def rows():
    return ledger(variants=("", "padding 8"))


@pytest.fixture(scope="module")
def found(rows):
    return estimates(rows)


def reach(trace) -> list[float]:
    """Return how far each corner of a radar's line is from the centre."""
    return np.hypot(trace.x, trace.y).tolist()


def test_the_radar_puts_the_worst_on_the_inner_ring_and_the_best_on_the_rim(found):
    figure = report_plots.radar(found)
    drawn = {trace.name: trace for trace in figure.data}
    assert len(drawn) == 9 and "reprogrammer (padding 8)" not in drawn
    for i, name in enumerate(AXES):
        values = axis(found, name)["value"].drop("reprogrammer (padding 8)")
        assert reach(drawn[values.idxmax()])[i] == pytest.approx(1)
        assert reach(drawn[values.idxmin()])[i] == pytest.approx(0.25)
        for line, value in values.items():
            share = (value - values.min()) / (values.max() - values.min())
            assert reach(drawn[line])[i] == pytest.approx(0.25 + 0.75 * share)
            assert drawn[line].text[i] == f"{name}: {100 * value:.1f}%"
        assert f"{100 * values.min():.1f} to {100 * values.max():.1f}%" in figure.layout.annotations[i].text


def test_the_radars_title_names_the_largest_triangle(found):
    def area(trace) -> float:
        points = np.array(list(zip(trace.x, trace.y)))[:3]
        (x1, y1), (x2, y2) = points[1] - points[0], points[2] - points[0]
        return abs(x1 * y2 - x2 * y1) / 2

    figure = report_plots.radar(found)
    assert figure.layout.title.text.lower().startswith(max(figure.data, key=area).name.lower())


def test_a_radar_that_lacks_an_axis_or_a_second_method_says_so():
    for rows in (ledger(roles=("id", "shift")), ledger(("zero_shot",), (1,))):
        figure = report_plots.radar(estimates(rows))
        assert not figure.data and "needs two methods" in figure.layout.title.text


def test_methods_that_are_level_on_an_axis_all_reach_the_rim():
    rows = [row(m, 0.5, role, "s", metric) for m in ("coop", "lp_ft")
            for role, metric in (("id", "accuracy"), ("shift", "accuracy"), ("ood", "auroc"))]  # fmt: skip
    assert all(r == pytest.approx(1) for trace in report_plots.radar(estimates(rows)).data for r in reach(trace))


def test_the_trade_offs_show_each_line_twice_with_the_deviation_of_its_seeds(found):
    traces = [t for t in report_plots.trade_offs(found).data if t.name == "fine-tuning"]
    across = axis(found, "ID accuracy").loc["fine-tuning"]
    for trace, name in zip(traces, ("shift accuracy", "AUROC"), strict=True):
        up = axis(found, name).loc["fine-tuning"]
        assert (trace.x[0], trace.y[0]) == pytest.approx((100 * across["value"], 100 * up["value"]))
        assert (trace.error_x.array[0], trace.error_y.array[0]) == pytest.approx((100 * across["std"], 100 * up["std"]))


def test_a_method_keeps_its_colour_and_its_variants_differ_in_symbol(found):
    for figure in (report_plots.trade_offs(found), report_plots.every_set(found)):
        plain, varied = (next(t for t in figure.data if t.name == f"reprogrammer{v}") for v in ("", " (padding 8)"))
        assert plain.marker.color == varied.marker.color == COLOURS["reprogrammer"]
        assert plain.marker.symbol != varied.marker.symbol
        assert len([t for t in figure.data if t.showlegend]) == 10


def test_every_set_is_drawn_once_a_line_inside_its_band(found):
    figure = report_plots.every_set(found)
    coop = [t for t in figure.data if t.name == "CoOp"]
    assert [len(t.x) for t in coop] == [1 + len(SETS["shift"]), len(SETS["ood"])]
    assert all(abs(y - round(y)) < 0.5 for t in figure.data for y in t.y)
    part = found[(found["line"] == "CoOp") & (found["set"] == "letters") & (found["metric"] == "auroc")]
    estimate = part[part["score"] == "msp"].iloc[0]
    assert coop[1].x[0] + coop[1].error_x.array[0] == pytest.approx(100 * estimate["high"])
    assert coop[1].x[0] - coop[1].error_x.arrayminus[0] == pytest.approx(100 * estimate["low"])


def test_the_hardest_sets_are_named(found):
    sets = found[(found["set"] != MEAN) & (found["metric"] == "accuracy")]
    hardest = min(set(sets["set"]), key=lambda name: np.mean(sets["value"][sets["set"] == name]))
    assert report_plots.every_set(found).layout.title.text.startswith(f"Hardest: {hardest} (")


def test_the_comparison_has_the_seeds_deviation_or_for_one_seed_the_interval(rows, found):
    for name, given, estimated in (("several", rows, found), ("one", (one := ledger(seeds=(1,))), estimates(one))):
        trace = next(t for t in plots.comparison(given).data if t.name == "L2-SP")
        estimate = estimated[(estimated["line"] == "L2-SP") & (estimated["set"] == trace.x[0])].iloc[0]
        expected = estimate["std"] if name == "several" else estimate["high"] - estimate["value"]
        assert trace.error_y.array[0] == pytest.approx(100 * expected)


@pytest.mark.parametrize("figure", [report_plots.radar, report_plots.trade_offs, report_plots.every_set])
@pytest.mark.parametrize("roles", [("id",), ("id", "shift"), ("id", "ood"), ("id", "shift", "ood")])
def test_a_ledger_without_a_role_or_with_one_seed_is_still_drawn(figure, roles):
    made = figure(estimates(ledger(("residual", "coop"), (1,), roles=roles)))
    assert made.layout.title.text and made.layout.height > 100
