"""A sweep is the evaluation at every weight: each figure is computed again here by the slow way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from reprog_kit import features as features_module
from reprog_kit import residual as residual_module
from reprog_kit.detection import FEATURE_SCORES, SCORES
from reprog_kit.evaluation import ALPHAS, Evaluation
from reprog_kit.explore_settings import SweepSettings
from reprog_kit.features import Head
from reprog_kit.metrics import detection, detection_along
from reprog_kit.parameters import InputError
from reprog_kit.residual import MixedCosines
from reprog_kit.run_folders import Run
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings
from reprog_kit.sweep import EVERY_SCORE, norm_rows, residual_sweep, sweep_runs, weights_of, wise_sweep
from reprog_kit.sweep_rows import chosen

SOME = (0.0, 0.07, 0.4, 0.93, 1.0)
PART = {
    "dim": {"kind": "folder", "path": "shift"},
    "part": {"kind": "folder", "path": "test", "drop": ["green"]},  # a set that lacks a class
}
OOD = {"other": {"kind": "folder", "path": "other"}, "blocks": {"kind": "generated", "name": "pixelate", "of": "test"}}


@pytest.fixture(scope="module")
def trained(pictures, tower, tmp_path_factory):
    """Return a function that trains a run on the colours once."""
    runs, made = tmp_path_factory.mktemp("runs"), {}

    def train(**given) -> Run:
        key = json.dumps(given, sort_keys=True)
        if key not in made:
            benchmark = {"shift": PART, "ood": given.pop("ood", OOD)}
            parts = {name: {"kind": "folder", "path": name} for name in ("train", "test")}
            path = runs / f"{len(made)}.yaml"
            path.write_text(yaml.safe_dump({"side": 16, "id": {**parts, "validation": 0.2}, **benchmark}))
            quick = {} if given.get("method") == "zero_shot" else {"epochs": 2, "batch_size": 8, "warmup_steps": 1}
            if "method" not in given:
                quick |= {"padding": 4, "image_lr": 0.05, "text_lr": 0.005, "keep": "last"}
            where = {"model": tower("vit"), "data_root": str(pictures), "runs": str(runs), "device": "cpu"}
            made[key] = train_run(TrainSettings.build(dataset=str(path), precision="fp32", **where, **quick, **given))
        return made[key]

    return train


@pytest.fixture
def evaluated(trained):
    """Return a function that evaluates a run, its settings changed, on features of float64.

    In float32 a residual feature is right to 1e-7 on either way, so that two ways may order two pictures differently.
    """

    def build(changed=None, double=True, **given) -> Evaluation:
        run = trained(**given)
        changed = Run(run.folder, run.settings.model_copy(update=changed or {}))
        settings = EvaluateSettings(run=str(run.folder), runs=str(run.folder.parent), device="cpu")
        found = Evaluation(settings, changed)
        if double and "residual" in found.methods:
            for method in ("reprogrammer", "zero_shot"):
                for data in (found.held_out, found.bank, *(data for _, data in found.sets.values())):
                    key = (method, data.fingerprint)
                    found._features[key] = found.features(method, data).astype(np.float64)
                its = found.heads[method]
                found.heads[method] = Head(its.weights_CD.astype(np.float64), its.scale)
        return found

    return build


def figure(rows, at, name, metric="accuracy", score=None) -> float:
    """Return the one value of a weight, set, metric and score."""
    is_scored = rows["score"].isna() if score is None else rows["score"] == score
    (found,) = rows[(rows["weight"] == at) & (rows["set"] == name) & (rows["metric"] == metric) & is_scored]["value"]
    return found


def by_hand(evaluation: Evaluation, method: str) -> dict[tuple, float]:
    """Return every figure of a method at the alpha of an evaluation, through its own heads and scores."""
    sets, found = {"validation": ("validation", evaluation.held_out), **evaluation.sets}, {}
    for name, (role, data) in sets.items():
        if role != "ood":
            answers = evaluation.logits(method, data).argmax(axis=1)
            found[name, "accuracy", None] = np.mean(answers == data.labels_N)
            continue
        for score in EVERY_SCORE:
            sides = [evaluation.scores(method, part, score) for part in (evaluation.data.test, data)]
            for metric in ("auroc", "fpr_at_95_id_recall"):
                found[name, metric, score] = detection(*sides, resamples=0)[metric].value
    return found


@pytest.mark.parametrize("renormalise", [True, False])
def test_every_figure_is_the_evaluations_at_that_alpha(evaluated, renormalise):
    evaluation = evaluated({"renormalise": renormalise})
    sweep = residual_sweep(evaluation, SOME)
    for alpha in SOME:
        evaluation.__dict__["alpha"], evaluation._fitted = alpha, {}
        expected = by_hand(evaluation, "residual")
        assert len(sweep.curves[sweep.curves["weight"] == alpha]) == len(expected)
        for (name, metric, score), value in expected.items():
            assert figure(sweep.curves, alpha, name, metric, score) == pytest.approx(value, abs=1e-9), (alpha, name)


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("alpha", [*SOME, 0.5])
def test_scores_are_the_evaluations_and_at_the_ends_those_of_the_parts_to_the_last_bit(evaluated, alpha, renormalise):
    evaluation = evaluated({"renormalise": renormalise})
    sweep = residual_sweep(evaluation, [alpha])
    evaluation.__dict__["alpha"] = alpha
    for name, data in {"test": evaluation.data.test, **evaluation.data.ood}.items():
        for score in EVERY_SCORE:
            found = sweep.scores[name, score][0]
            assert found == pytest.approx(evaluation.scores("residual", data, score), rel=1e-9, abs=1e-9), score
            if alpha in (0, 1):
                part = "zero_shot" if alpha else "reprogrammer"
                assert np.array_equal(found, evaluation.scores(part, data, score)), score


def test_at_the_ends_normalising_again_changes_nothing_and_between_them_something(evaluated):
    evaluation = evaluated()
    with_, without = (residual_sweep(evaluation, SOME, ["max_logit"], norm) for norm in (True, False))
    for name in ("test", "other"):
        same = [
            np.array_equal(*pair) for pair in zip(with_.scores[name, "max_logit"], without.scores[name, "max_logit"])
        ]
        assert same == [True, False, False, False, True]
    pair = norm_rows([without], "max_logit")
    assert pair[0]["value"].equals(with_.curves["value"]) and pair[1]["value"].equals(without.curves["value"])
    assert np.array_equal(residual_sweep(evaluation, SOME, ["msp"]).scores["test", "msp"],
                          residual_sweep(evaluation, SOME, ["msp"], True).scores["test", "msp"])  # fmt: skip


def test_many_similarities_are_held_in_float32_and_are_right_to_1e4(monkeypatch):
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(n, 32)) for n in (50, 50, 7, 7)]
    p, z, P, Z = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    exact = {norm: MixedCosines.of((p, z), (P, Z), norm) for norm in (True, False)}
    monkeypatch.setattr(residual_module, "_MANY", 100)
    for norm, whole in exact.items():
        half = MixedCosines.of((p, z), (P, Z), norm)
        for alpha in np.float64([0, 0.3, 0.99, 1]):
            assert half.at(alpha).dtype == np.float32
            assert half.at(alpha) == pytest.approx(whole.at(alpha), abs=1e-6)
            assert 100 * half.at(alpha) == pytest.approx(100 * whole.at(alpha), abs=1e-4)


def test_in_float32_a_sweep_says_the_same_to_1e4(evaluated, monkeypatch):
    evaluation = evaluated()
    exact = residual_sweep(evaluation, SOME, list(SCORES))
    monkeypatch.setattr(residual_module, "_MANY", 1)
    rough = residual_sweep(evaluation, SOME, list(SCORES))
    for (name, score), values in exact.scores.items():
        assert rough.scores[name, score] == pytest.approx(values, rel=1e-4, abs=1e-4), (name, score)


def test_validation_chooses_what_the_evaluation_takes(evaluated):
    evaluation = evaluated()
    sweep = residual_sweep(evaluation)
    assert np.array_equal(sweep.weights_W, ALPHAS) and np.array_equal(weights_of("residual", 101), ALPHAS)
    assert sweep.accuracy["validation"] == pytest.approx(evaluation.validation_curve, abs=1e-12)
    assert chosen(sweep.curves) == {1: evaluation.alpha}


def test_a_benchmark_without_ood_sets_has_accuracies_alone(evaluated):
    sweep = residual_sweep(evaluated(ood={}), SOME)
    assert sweep.scores == {} and sweep.detectors == []
    assert set(sweep.curves["metric"]) == {"accuracy"}
    assert set(sweep.curves["set"]) == {"validation", "test", "dim", "part"}


@pytest.mark.parametrize("scored_over", ["covered", "all"])
def test_a_set_that_lacks_a_class_is_scored_over_what_the_run_says(evaluated, scored_over):
    evaluation = evaluated({"scored_over": scored_over})
    sweep, data = residual_sweep(evaluation, [0.5], ["msp"]), evaluation.data.shift["part"]
    cosines = evaluation.cosines("residual", data, 0.5)[0]
    if scored_over == "covered":
        cosines[:, 1] = -2  # blue, green, red: no green in it
    assert sweep.accuracy["part"] == [np.mean(cosines.argmax(axis=1) == data.labels_N)]


def test_half_precision_of_the_released_recipe_is_kept(evaluated):
    evaluation = evaluated({"score_precision": "fp16", "alpha": 0.4})
    sweep = residual_sweep(evaluation, [0.4])
    assert np.array_equal(sweep.scores["test", "msp"][0], evaluation.scores("residual", evaluation.data.test, "msp"))
    assert (sweep.scores["test", "msp"] == sweep.scores["test", "msp"].astype(np.float16)).all()


def test_a_detector_that_cannot_be_fitted_is_left_out_and_said(evaluated, monkeypatch, capsys):
    def refuse(bank_MD, labels_M):
        raise InputError("too few")

    monkeypatch.setitem(FEATURE_SCORES, "mahalanobis", refuse)
    sweep = residual_sweep(evaluated(), SOME)
    assert "no mahalanobis score (too few)" in capsys.readouterr().out
    assert set(sweep.curves["score"].dropna()) == set(EVERY_SCORE) - {"mahalanobis"}


@pytest.mark.parametrize("method", ["linear_probe", "zero_shot"])
def test_a_run_without_a_weight_is_refused(evaluated, method):
    evaluation = evaluated(method=method)
    with pytest.raises(InputError, match=f"was trained by {method}, which has no weight .* a reprogrammer run with -p"):
        residual_sweep(evaluation)
    with pytest.raises(InputError, match="a fine_tune run with -p run NAME"):
        wise_sweep(evaluation, [0, 1])


def test_no_alpha_asks_the_encoder_once_features_are_cached(evaluated, monkeypatch, tmp_path):
    evaluation = evaluated(double=False)
    passed, encode = [], features_module.encode
    monkeypatch.setattr(features_module, "encode", lambda *given: passed.append(len(given[1])) or encode(*given))
    evaluation.settings = evaluation.settings.model_copy(update={"runs": str(tmp_path)})  # an empty cache
    residual_sweep(evaluation, ALPHAS[::10])
    assert sorted(passed) == sorted(2 * [6, 24, 12, 9, 8, 6, 12])  # with the program and without
    passed.clear()
    norm_rows([residual_sweep(evaluation, ALPHAS[::10])], "knn")
    residual_sweep(Evaluation(evaluation.settings, evaluation.run), ALPHAS[::10])
    assert passed == []


def test_every_weight_of_wise_ft_is_the_evaluations(evaluated):
    evaluation = evaluated(method="fine_tune", lr=0.01)
    sweep = wise_sweep(evaluation, [0, 0.3, 1])
    others = {0: "zero_shot", 1: "fine_tune", 0.3: "wise_ft"}
    again = Evaluation(evaluation.settings.model_copy(update={"wise_weight": 0.3}))
    for weight, method in others.items():
        for (name, metric, score), value in by_hand(again, method).items():
            assert figure(sweep.curves, weight, name, metric, score) == pytest.approx(value, abs=1e-12), (weight, name)
    assert set(sweep.curves["kind"]) == {"wise_ft"}
    assert list(sweep.curves.columns) == list(residual_columns())


def residual_columns() -> list[str]:
    """Return the columns of every sweep's rows."""
    return ["kind", "seed", "set", "role", "n", "score", "metric", "value", "weight"]


def test_wise_ft_passes_pictures_once_a_weight_and_its_ends_are_the_evaluations(evaluated, monkeypatch, tmp_path):
    evaluation = evaluated(method="fine_tune", lr=0.01)
    evaluation.settings = evaluation.settings.model_copy(update={"runs": str(tmp_path)})  # an empty cache
    passed, encode = [], features_module.encode
    monkeypatch.setattr(features_module, "encode", lambda *given: passed.append(len(given[1])) or encode(*given))
    for data in (evaluation.held_out, evaluation.bank, *(data for _, data in evaluation.sets.values())):
        for method in ("zero_shot", "fine_tune"):
            evaluation.features(method, data)
    before = len(passed)
    wise_sweep(evaluation, [0, 0.5, 1])
    assert len(passed) == before + 7  # only the weight between is new
    wise_sweep(Evaluation(evaluation.settings, evaluation.run), [0, 0.5, 1])
    assert len(passed) == before + 7


@pytest.mark.parametrize("method", ["reprogrammer", "fine_tune"])
def test_the_seeds_of_a_run_are_swept_together(trained, method):
    given = {} if method == "reprogrammer" else {"method": method}
    run = trained(**given)
    train_run(run.settings.model_copy(update={"seed": 2}))
    settings = SweepSettings(run=run.name, runs=str(run.folder.parent), device="cpu", steps=3, wise_weights=3)
    sweeps, rows = sweep_runs(settings)
    assert [sweep.seed for sweep in sweeps] == [1, 2] and set(rows["seed"]) == {1, 2}
    residual = method == "reprogrammer"
    assert sorted(set(rows["weight"])) == ([0, 0.4, 0.5, 1] if residual else [0, 0.5, 1])
    assert set(rows["kind"]) == {"residual" if residual else "wise_ft"}
    # two seeds at four weights: four accuracies, and two metrics of two OOD sets by every detector, or by one
    lengths = [8 * (4 + 4 * len(EVERY_SCORE)), 8 * (4 + 4)] if residual else [0, 0]
    assert [len(part) for part in norm_rows(sweeps, "msp")] == lengths
    (only,), _ = sweep_runs(settings.model_copy(update={"seeds": (2,)}))
    assert only.seed == 2


def test_detection_along_is_detection_at_each_weight_ties_included():
    rng = np.random.default_rng(1)
    inside, outside = rng.integers(0, 9, (6, 101)) / 8, rng.integers(-3, 6, (6, 57)) / 8
    inside[1], outside[2] = 1.0, 1.0
    found = detection_along(inside, outside)
    for at in range(6):
        expected = detection(inside[at], outside[at], resamples=0)
        for metric, values in found.items():
            assert values[at] == pytest.approx(expected[metric].value, abs=1e-12), (at, metric)
    for n in (1, 2, 19, 20, 21, 40, 597):
        sides = rng.normal(size=(1, n)), rng.normal(size=(1, 11))
        expected = detection(sides[0][0], sides[1][0], resamples=0)["fpr_at_95_id_recall"].value
        assert detection_along(*sides)["fpr_at_95_id_recall"] == [expected]


def test_detection_along_refuses_what_detection_refuses():
    with pytest.raises(ValueError, match="OOD scores"):
        detection_along(np.zeros((2, 3)), np.zeros((2, 0)))
    with pytest.raises(ValueError, match="1 of 6 ID scores are not finite"):
        detection_along(np.array([[0, 1, np.nan], [0, 1, 2]]), np.zeros((2, 3)))
