"""The workbench: every line's figures against the evaluation's own, its traits, what joins it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from traitlets import TraitError

from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.metrics import binned
from reprog_kit.parameters import InputError
from reprog_kit.run_folders import find_run
from reprog_kit.runs import train_run
from reprog_kit.settings import TrainSettings
from reprog_kit.workbench import Workbench

QUICK = {"epochs": 2, "batch_size": 8, "warmup_steps": 1, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def where(pictures, tower, tmp_path_factory):
    """The settings of everything here."""
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "colours.yaml"
    file.write_text(
        'side: 16\ntemplates: ["a photo of a {}", "the colour {}"]\n'
        "id: {train: {kind: folder, path: train}, validation: 0.2, test: {kind: folder, path: test}}\n"
        "shift: {dim: {kind: folder, path: shift}}\n"
        "ood: {other: {kind: folder, path: other}, blocks: {kind: generated, name: pixelate, of: test}}\n"
    )
    return {"dataset": str(file), "model": tower("vit"), "data_root": str(pictures), "runs": str(folder / "runs")}


@pytest.fixture(scope="module")
def trained(where):
    """Runs of a reprogrammer and of two methods."""
    own = {"reprogrammer": {"padding": 4, "image_lr": 0.05}, "fine_tune": {"lr": 1e-3}, "linear_probe": {}}
    return {m: train_run(TrainSettings.build(method=m, **where, **QUICK, **given)) for m, given in own.items()}


@pytest.fixture(scope="module")
def bench(where, trained):
    return Workbench(ExploreSettings.build(device="cpu", **where))


def named(bench: Workbench, start: str) -> str:
    return next(name for name in bench.names if name.startswith(start))


def test_a_fresh_project_has_zero_shot_alone(where, tmp_path):
    bench = Workbench(ExploreSettings.build(device="cpu", **{**where, "runs": str(tmp_path / "none")}))
    assert bench.names == ["zero-shot", "prompt ensemble"] and bench.alpha == 0 and bench.chosen == "zero-shot"
    assert "no run yet" in bench.describe()
    assert not list((tmp_path / "none").glob("*/settings.yaml"))
    assert set(bench.track("zero-shot", "msp").percent.index.get_level_values("set")) == {
        "test", "dim", "other", "blocks",
    }  # fmt: skip


def test_the_lines_are_the_newest_of_each_method_and_what_follows_from_them(bench, trained):
    methods = [bench.lines[name].method for name in bench.names]
    assert methods == [
        "zero_shot", "prompt_ensemble", "reprogrammer", "residual", "linear_probe", "fine_tune", "wise_ft",
    ]  # fmt: skip
    assert bench.lines[bench.chosen].method == "residual"
    for run in trained.values():
        assert run.name in bench.describe()


@pytest.mark.parametrize("score", ["msp", "energy", "knn"])
def test_the_figures_are_those_of_the_evaluation(bench, score):
    for name in bench.names:
        line, track = bench.lines[name], bench.track(name, score)
        for at in range(0, len(track.weights_W), 25):
            alpha = float(track.weights_W[at]) if line.moves else None
            for set_name, (role, data) in line.evaluation.sets.items():
                if role != "ood":
                    logits = line.evaluation.logits(line.method, data, alpha)
                    expected = np.mean(logits.argmax(axis=1) == data.labels_N)
                elif score != "knn" or not line.moves:
                    sides = [_scores(line, part, score, alpha) for part in (line.evaluation.data.test, data)]
                    truth = np.r_[np.ones(len(sides[0])), np.zeros(len(sides[1]))]
                    expected = roc_auc_score(truth, np.concatenate(sides))
                else:
                    continue
                assert track.percent.loc[(role, set_name)].iloc[at] == pytest.approx(100 * expected, abs=0.01)


def _scores(line, data, score: str, alpha: float | None) -> np.ndarray:
    if alpha is None:
        return line.evaluation.scores(line.method, data, score)
    return line.evaluation.logit_scores(*line.evaluation.cosines(line.method, data, alpha), score)


def test_the_means_are_over_sets(bench):
    track = bench.track(bench.chosen, "msp")
    ood = track.percent.loc["ood"]
    assert np.allclose(track.means.loc["AUROC"], (ood.loc["other"] + ood.loc["blocks"]) / 2)
    assert np.allclose(track.means.loc["ID accuracy"], track.percent.loc[("id", "test")])


def test_both_ends_of_alpha_are_the_lines_beside_it(bench):
    moving = bench.track(bench.chosen, "msp")
    for alpha, other in ((0.0, named(bench, "reprogrammer")), (1.0, "zero-shot")):
        assert moving.percent.iloc[:, moving.at(alpha)].to_numpy() == pytest.approx(
            bench.track(other, "msp").percent.iloc[:, 0].to_numpy()
        )


def test_a_zero_shot_that_is_shared_is_the_one_that_is_not(bench, trained):
    from reprog_kit.evaluation import Evaluation

    shared = bench.lines[named(bench, "fine-tuning")].evaluation
    alone = Evaluation(shared.settings, trained["fine_tune"])
    for method in alone.methods:
        for data in (alone.data.test, alone.data.shift["dim"]):
            assert np.array_equal(shared.logits(method, data), alone.logits(method, data)), method


def test_a_run_that_is_trained_later_joins_and_keeps_the_others(bench, where):
    before = list(bench.names)
    heard = []
    bench.observe(lambda change: heard.append(change["new"]), "names")
    run = train_run(bench.training(method="reprogrammer", padding=3, **{k: QUICK[k] for k in list(QUICK)[:3]}))
    new = bench.join(bench.evaluate(run))
    assert set(bench.names) - set(before) == set(new) and len(new) == 2 and all("padding 3" in name for name in new)
    assert heard[-1] == bench.names
    again = bench.join(bench.evaluate(run))
    assert again == new and len(bench.names) == len(before) + 2
    twin = train_run(bench.training(method="reprogrammer", padding=3, seed=2, **{k: QUICK[k] for k in list(QUICK)[:3]}))
    assert all(name.endswith("seed 2") for name in bench.join(bench.evaluate(twin)))
    for name in [n for n in bench.names if n not in before]:
        del bench.lines[name]
    bench.set_trait("names", before)


def test_the_traits_refuse_what_is_out_of_range(bench):
    with pytest.raises(TraitError, match=r"alpha = 1\.5 is refused"):
        bench.alpha = 1.5
    with pytest.raises(TraitError, match="padding = 17 px is refused: 0 to 16"):
        bench.padding = 17
    with pytest.raises(TraitError, match="no line 'nonsense'; there are: zero-shot"):
        bench.chosen = "nonsense"
    with pytest.raises(TraitError):
        bench.score = "nonsense"
    with pytest.raises(TraitError):
        bench.names = []


def test_the_start_is_what_the_settings_say(where, trained):
    given = {"alpha": 0.25, "padding": 3, "score": "energy", "runs_shown": [trained["linear_probe"].name]}
    bench = Workbench(ExploreSettings.build(device="cpu", **where, **given))
    assert (bench.alpha, bench.padding, bench.score) == (0.25, 3, "energy")
    assert [bench.lines[name].method for name in bench.names] == ["zero_shot", "prompt_ensemble", "linear_probe"]


def test_a_run_on_another_model_is_refused(where, trained, tower):
    given = {**where, "model": tower("quick"), "runs_shown": [trained["linear_probe"].name]}
    with pytest.raises(InputError, match="belongs to another backbone"):
        Workbench(ExploreSettings.build(device="cpu", **given))
    there = Workbench(ExploreSettings.build(device="cpu", **{**where, "model": tower("quick")}))
    assert there.names == ["zero-shot", "prompt ensemble"]  # the runs on the other model are no part of it


def test_histograms_hold_every_picture_in_the_same_bins():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(3, 50)), rng.normal(2, 1, size=(3, 20)), np.empty((3, 0))]
    middles, found = binned(parts, 7)
    for part, counted in zip(parts[:2], found):
        assert counted.sum(axis=1) == pytest.approx(np.full(3, 100))
        width = middles[1] - middles[0]
        slow = [[100 * np.mean(np.abs(row - middle) <= width / 2) for middle in middles] for row in part]
        assert counted == pytest.approx(np.array(slow))
    assert not found[2].any()
    assert binned([np.full((1, 4), 0.5)], 4)[1][0].tolist() == [[100, 0, 0, 0]]


def test_newest_comes_first(where, trained, bench):
    assert find_run("newest", where["runs"]).name == bench.known_runs()[0].name
