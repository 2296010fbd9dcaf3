"""The benchmark's arithmetic on amounts that are known; one small measurement, whole."""

import numpy as np
import pandas as pd
import pytest

from reprog_kit import benchmark, benchmark_plots
from reprog_kit.benchmark import TASKS, cost_growth, digits, measure, spoken, utilisation
from reprog_kit.contestants import captions_of, noise
from reprog_kit.explore_settings import BenchmarkSettings
from reprog_kit.fresh import alone
from reprog_kit.parameters import InputError

SMALL = BenchmarkSettings.build(models="mini", batch_size=8, rounds=2, many_classes=20, growth=8)


@pytest.fixture(scope="module")
def rows():
    return measure(SMALL)


def test_every_task_is_measured_in_every_precision(rows):
    names = [task.name.format("20") for task in TASKS] + [benchmark.FIRST_BATCH, benchmark.MEMORY]
    assert sorted(rows["task"].unique()) == sorted(names)
    assert (rows.groupby("task")["precision"].apply(list).map(tuple) == ("fp32", "bf16")).all()
    for way in ("ours", "plain", "ratio"):
        assert ((rows[f"{way}_low"] > 0) & (rows[f"{way}_low"] <= rows[way]) & (rows[way] <= rows[f"{way}_high"])).all()
    assert (rows["plain"].groupby(rows["task"]).nunique() == 1).all(), "the plain way is measured once a task"


def test_a_rate_is_pictures_over_seconds_and_a_ratio_is_of_seconds():
    took, plain = np.array([2.0, 4.0, 8.0]), np.array([16.0, 16.0, 16.0])
    row = benchmark._row(SMALL, "mini", "fp32", "training", "images/s", took, plain)
    assert (row["ours_low"], row["ours"], row["ours_high"]) == (1.0, 2.0, 4.0)
    assert (row["plain"], row["ratio_low"], row["ratio"], row["ratio_high"]) == (0.5, 2.0, 4.0, 8.0)
    assert spoken(row) == "mini, fp32, training: 2 images/s, plain 0.5, 4 times (2 to 8)"
    once = benchmark._row(SMALL, "mini", "fp32", "memory", "MB", took[:1], plain[:1])
    assert spoken(once) == "mini, fp32, memory: 2 MB, plain 16, 8 times"


def test_ways_take_turns_and_the_first_round_does_not_count():
    said = []
    ways = {name: (lambda name=name: said.append(name) or float(len(said))) for name in ("a", "b")}
    found = benchmark._in_turns(ways, 2)
    assert said == ["a", "b"] * 3
    assert {name: list(took) for name, took in found.items()} == {"a": [3, 5], "b": [4, 6]}


@pytest.mark.parametrize(
    ("amount", "said"), [(0, "0"), (0.01234, "0.0123"), (999.4, "999"), (999.6, "1,000"), (12345.6, "12,346")]
)
def test_amounts_have_three_digits(amount, said):
    assert digits(amount) == said


def test_the_share_is_flops_times_speed_over_the_rate(rows):
    found = utilisation(SMALL, rows)
    assert list(found["task"]) == ["training", "training", "evaluation of a residual", "evaluation of a residual"]
    assert set(found["precision"]) == {"fp32", "bf16"}
    expected = found["GFLOP an image"] * found["images/s"] / found["matrix GFLOP/s"]
    np.testing.assert_allclose(found["share"], expected)
    speeds = rows[rows["task"].isin(found["task"])]
    assert sorted(found["images/s"]) == sorted(speeds["ours"])
    assert found["GFLOP an image"].nunique() == 2
    shown = benchmark_plots.utilisation_table(found)
    assert shown["share, %"].iloc[0] == digits(100 * found["share"].iloc[0])


def test_growth_doubles_one_thing_at_a_time():
    found = cost_growth(SMALL)
    amounts = found[["pictures", "classes", "epochs"]].to_numpy().tolist()
    assert amounts[:3] == [[8, 10, 2], [16, 10, 2], [32, 10, 2]]
    assert amounts[3:] == [[8, 10, 2], [8, 20, 2], [8, 40, 2], [8, 10, 2], [8, 10, 4], [8, 10, 8]]
    assert (found["seconds"] > 0).all()
    assert (found["MB"] > 0).all()
    first = found[found["factor"] == 1]
    assert (first["seconds x"] == 1).all()
    assert first["seconds"].nunique() == 1, "the smallest is trained once"


def test_another_process_computes_and_what_it_refuses_comes_back():
    assert alone(divmod, 17, 5) == (3, 2)
    with pytest.raises(ZeroDivisionError):
        alone(divmod, 1, 0)


def test_pictures_and_captions_are_the_same_every_time():
    one, other = noise(7, 3, 5), noise(7, 3, 5)
    assert one.images_NHWC.shape == (7, 5, 5, 3)
    assert one.fingerprint == other.fingerprint
    assert one.labels_N.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert len(set(captions_of(30))) == 30


def test_an_unknown_precision_or_model_is_refused():
    with pytest.raises(InputError, match="fp32"):
        BenchmarkSettings.build(precisions=["fp16"])
    with pytest.raises(InputError, match="unknown model 'ViT-B-23'"):
        measure(BenchmarkSettings.build(models="ViT-B-23"))


def test_figures_show_the_rows(rows):
    figure = benchmark_plots.ratios(rows)
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.name for trace in dots] == ["ours in fp32", "ours in bf16"]
    assert list(dots[0].x) == list(rows.loc[rows["precision"] == "fp32", "ratio"])
    training = rows[rows["task"] == "training"]
    best = training.loc[training["ratio"].idxmax()]
    assert f"in {best['precision']} is {best['ratio']:.3g} times" in figure.layout.title.text.replace("<br>", " ")
    shown = benchmark_plots.table(rows)
    assert shown.loc[("mini", "training", "fp32"), "unit"] == "images/s"
    assert shown.loc[("mini", benchmark.MEMORY, "fp32"), "least to largest"] == "", "measured once"


def test_the_growth_figure_says_what_grew_most():
    found = pd.DataFrame(
        [(what, factor, cost, cost) for what, costs in {"pictures": (1, 2, 4), "epochs": (1, 2, 6)}.items()
         for factor, cost in zip((1, 2, 4), costs)],
        columns=["grown", "factor", "seconds", "MB"],
    )  # fmt: skip
    found[["seconds x", "MB x"]] = found[["seconds", "MB"]]
    figure = benchmark_plots.growth_curves(found)
    title = figure.layout.title.text.replace("<br>", " ")
    assert title.startswith("With 4 times as many epochs a training takes 6 times as long")
    assert [trace.name for trace in figure.data[:3]] == ["pictures", "epochs", "as the work"]
    even = found[found["grown"] == "pictures"]
    assert benchmark_plots.growth_curves(even).layout.title.text == "No cost grows faster than the work"
