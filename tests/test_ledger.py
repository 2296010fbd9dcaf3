"""The ledger read: every mean and spread is computed again from the rows by Python's statistics."""

import json
import statistics
import subprocess
import sys

import numpy as np
import pytest
from ledgers import METHODS, ledger, row, write

from reprog_kit.ledger import NAMES, axis, default_lines, estimates, label, read_ledger
from reprog_kit.parameters import InputError


@pytest.fixture(scope="module")
def rows():
    return ledger()


@pytest.fixture(scope="module")
def found(rows):
    return estimates(rows)


def one(found, line, name, metric, score=""):
    part = found[(found["line"] == line) & (found["set"] == name) & (found["metric"] == metric)]
    (kept,) = [r for _, r in part.iterrows() if r["score"] == score]
    return kept


@pytest.mark.parametrize(("method", "name", "metric", "score"), [
    ("reprogrammer", "test", "accuracy", None), ("fine_tune", "rotated", "calibration_error", None),
    ("residual", "letters", "auroc", "knn"), ("coop", "train", "train_seconds", None),
])  # fmt: skip
def test_a_line_is_mean_and_sample_deviation_of_its_seeds(rows, found, method, name, metric, score):
    about = (method, name, metric, score)
    kept = [r for r in rows if (r["method"], r["set"], r["metric"], r["score"]) == about]
    estimate = one(found, label(method), name, metric, score or "")
    assert estimate["seeds"] == len(kept) == 3
    assert estimate["value"] == pytest.approx(statistics.mean(r["value"] for r in kept))
    assert estimate["std"] == pytest.approx(statistics.stdev(r["value"] for r in kept), abs=1e-12)
    if metric != "train_seconds":
        assert estimate["low"] == pytest.approx(statistics.mean(r["low"] for r in kept))
        assert estimate["high"] == pytest.approx(statistics.mean(r["high"] for r in kept))


def test_the_mean_over_sets_spreads_as_the_seeds_means_do(rows, found):
    kept = [r for r in rows if (r["method"], r["role"], r["metric"]) == ("lp_ft", "shift", "accuracy")]
    means = [statistics.mean(r["value"] for r in kept if r["seed"] == seed) for seed in (1, 2, 3)]
    estimate = axis(found, "shift accuracy").loc["LP-FT"]
    assert estimate["value"] == pytest.approx(statistics.mean(means))
    assert estimate["std"] == pytest.approx(statistics.stdev(means))
    assert estimate["n"] == 597 * 4 + 600


def test_zero_shot_of_every_run_counts_once_and_has_no_spread(found):
    of = found[found["method"] == "zero_shot"]
    assert (of["seeds"] == 1).all() and of["std"].isna().all()
    assert one(found, "zero-shot", "test", "accuracy")["value"] == pytest.approx(METHODS["zero_shot"][0])


def test_lines_come_as_the_methods_are_listed_and_variants_in_their_numbers_order():
    rows = ledger(("coop", "reprogrammer"), (1,), ("padding 16", "", "padding 8", "alpha 0.4"))
    assert list(estimates(rows)["line"].unique()) == [
        "zero-shot", "reprogrammer", "reprogrammer (alpha 0.4)", "reprogrammer (padding 8)",
        "reprogrammer (padding 16)", "CoOp",
    ]  # fmt: skip


def test_of_the_same_line_and_seed_the_newest_row_counts_whichever_file_it_is_in():
    old, new = row("coop", 0.5, time="2026-01-01T00:00:00"), row("coop", 0.7, time="2026-01-02T00:00:00")
    for rows in ([old, {**new, "run": "a"}], [{**new, "run": "a"}, old]):
        assert axis(estimates(rows), "ID accuracy").loc["CoOp", "value"] == 0.7


def test_other_models_pictures_and_benchmarks_are_never_averaged():
    rows = [row("coop", 0.5, seed=1, model="local-dir:/far/vit"), row("coop", 0.7, seed=2, model="mini")]
    assert list(axis(estimates(rows), "ID accuracy").index) == ["CoOp (mini)", "CoOp (vit)"]
    rows = [row("coop", 0.5, seed=1, model="local-dir:/a/vit"), row("coop", 0.7, seed=2, model="local-dir:/b/vit")]
    assert estimates(rows)["line"].nunique() == 2
    rows = [row("coop", 0.5, seed=1, n=1597), row("coop", 0.7, seed=2, n=300), row("zero_shot", 0.6, n=300)]
    assert set(estimates(rows)["line"]) == {"zero-shot", "CoOp (1,597 pictures)", "CoOp (300 pictures)"}
    rows = [row("coop", 0.5, dataset="a"), row("coop", 0.7, dataset="b", seed=2)]
    assert set(estimates(rows)["line"]) == {"CoOp (a)", "CoOp (b)"}


def test_seconds_on_two_devices_are_two_lines_and_accuracies_one():
    rows = [row("coop", 0.5, seed=1, device="cpu"), row("coop", 0.7, seed=2, device="H100")]
    rows += [{**r, "role": "cost", "set": "train", "metric": "train_seconds", "value": 9.0} for r in rows]
    found = estimates(rows)
    assert set(found["line"][found["role"] == "cost"]) == {"CoOp (cpu)", "CoOp (H100)"}
    assert axis(found, "ID accuracy")["seeds"].to_dict() == {"CoOp": 2}


def test_a_line_that_lacks_a_set_has_no_mean_and_one_without_intervals_has_none():
    rows = [row(m, 0.5, "shift", s) for m, s in (("coop", "a"), ("coop", "b"), ("lp_ft", "a"))]
    assert list(axis(estimates(rows), "shift accuracy").index) == ["CoOp"]
    rows = [row("coop", 0.5, "shift", "a", low=0.4, high=0.6), row("coop", 0.5, "shift", "b")]
    assert np.isnan(axis(estimates(rows), "shift accuracy").loc["CoOp", "low"])


def test_a_set_that_is_called_mean_is_no_mean():
    rows = [row("coop", 0.5, "shift", "mean"), row("coop", 0.7, "shift", "a")]
    assert axis(estimates(rows), "shift accuracy").loc["CoOp", "value"] == pytest.approx(0.6)


def test_rows_of_before_variants_are_read():
    old = {k: v for k, v in row("coop", 0.5).items() if k not in ("variant", "wise_weight")}
    assert list(estimates([old])["line"].unique()) == ["CoOp"]


def test_the_default_lines_are_those_without_a_variant_or_all_that_there_are():
    rows = [row("coop", 0.5), row("coop", 0.6, variant="x"), row("lp_ft", 0.7, variant="y")]
    assert list(default_lines(estimates(rows))["line"].unique()) == ["LP-FT (y)", "CoOp"]


def test_labels_are_how_people_write_them():
    assert set(METHODS) == set(NAMES)
    assert label("wise_ft") == "WiSE-FT" and label("residual", "alpha 0.4") == "residual (alpha 0.4)"
    assert label("mine", "", "ViT-B-32") == "mine (ViT-B-32)"


def test_the_ledger_is_read_from_every_run_and_only_of_the_dataset(tmp_path):
    write(ledger(("coop",), (1,)) + ledger(("coop",), (1,), dataset="flowers"), tmp_path)
    (tmp_path / "unfinished").mkdir()
    assert set(read_ledger(tmp_path)["dataset"]) == {"demo", "flowers"}
    assert set(read_ledger(tmp_path, "flowers")["dataset"]) == {"flowers"}
    lines = sum(len(path.read_text().splitlines()) for path in tmp_path.glob("*/results.jsonl"))
    assert len(read_ledger(tmp_path)) == lines
    assert json.loads(next(tmp_path.glob("*/results.jsonl")).read_text().splitlines()[0])["dataset"]


def test_an_empty_ledger_and_an_unknown_dataset_are_refused_with_the_next_command(tmp_path):
    with pytest.raises(InputError, match=r"no results in .*python -m reprog_kit reproduce demo"):
        read_ledger(tmp_path)
    write([row("coop", 0.5, dataset="flowers")], tmp_path)
    with pytest.raises(InputError, match=r"'flower' .*Did you mean 'flowers'\? There are: flowers\..*reproduce flower"):
        read_ledger(tmp_path, "flower")


def test_a_report_loads_no_torch():
    program = "import sys; from reprog_kit import Report, report_plots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
