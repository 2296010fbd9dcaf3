"""The ledger: every method's rows, the seeds of a run, and a variant that names what differs from the defaults."""

import numpy as np
import pytest

from reprog_kit.detection import FEATURE_SCORES, SCORES
from reprog_kit.evaluation import Evaluation
from reprog_kit.parameters import InputError
from reprog_kit.results import costs, evaluate_runs, score, variant
from reprog_kit.run_folders import find_run, siblings
from reprog_kit.runs import train_run, train_runs
from reprog_kit.settings import EvaluateSettings

LEARNS = {"lr": 0.002, "epochs": 2}


def evaluated(run, **given):
    return EvaluateSettings(run=str(run.folder), runs=str(run.folder.parent), device="cpu", resamples=5, **given)


@pytest.mark.parametrize(
    ("method", "given", "lines"),
    [
        ("zero_shot", {}, {("zero_shot", "")}),
        ("linear_probe", {}, {("zero_shot", ""), ("linear_probe", "")}),
        ("fine_tune", LEARNS, {("zero_shot", ""), ("fine_tune", None), ("wise_ft", None)}),
        ("lp_ft", LEARNS, {("zero_shot", ""), ("lp_ft", None)}),
        ("l2_sp", LEARNS, {("zero_shot", ""), ("l2_sp", None)}),
        ("coop", LEARNS, {("zero_shot", ""), ("coop", None)}),
        ("reprogrammer", {"program": "text"}, {("zero_shot", ""), ("reprogrammer", None), ("residual", None)}),
    ],
)
def test_every_method_is_scored_on_every_axis(colours, benchmark_file, method, given, lines):
    path = benchmark_file(settings={"epochs": 2, "batch_size": 8, "warmup_steps": 1})
    run = train_run(colours(dataset=path, method=method, **given))
    rows = score(Evaluation(evaluated(run)))
    assert {r["method"] for r in rows} == {name for name, _ in lines}
    for name, spelled in lines:
        of = [r for r in rows if r["method"] == name]
        assert spelled is None or {r["variant"] for r in of} == {spelled}
        assert {r["score"] for r in of if r["role"] == "ood"} == {*SCORES, *FEATURE_SCORES}
        assert {(r["role"], r["set"]) for r in of} >= {("id", "test"), ("shift", "dim"), ("ood", "other")}
        assert all(np.isfinite(r["value"]) for r in of)
        assert {r["metric"] for r in of if r["role"] == "cost"} == (
            {"trainable_numbers", "train_seconds", "peak_memory_mb", "program_bytes"} if name == method else set()
        )


def test_wise_ft_in_the_ledger_is_the_run_at_1_and_zero_shot_at_0(colours):
    run = train_run(colours(method="fine_tune", lr=0.01))

    def values(method, weight):
        rows = score(Evaluation(evaluated(run, wise_weight=weight)))
        return {(r["set"], r["score"], r["metric"]): r["value"] for r in rows if r["method"] == method and r["n"]}

    def without_costs(found):
        return {k: v for k, v in found.items() if k[0] != "train"}

    assert values("wise_ft", 0.0) == values("zero_shot", 0.5)
    assert values("wise_ft", 1.0) == without_costs(values("fine_tune", 0.5))
    between = values("wise_ft", 0.5)
    assert between != values("wise_ft", 0.0) and between != values("wise_ft", 1.0)


def test_the_prompt_ensemble_of_the_yaml_is_a_line_of_its_own(colours, benchmark_file):
    path = benchmark_file(templates=["a photo of a {}", "a drawing of a {}", "{}"])
    run = train_run(colours(dataset=path, method="zero_shot"))
    rows = score(Evaluation(evaluated(run)))
    assert {r["variant"] for r in rows if r["role"] == "id"} == {"", "prompt ensemble"}


def test_the_seeds_of_a_run_are_found_and_evaluated_together(colours, tmp_path):
    first, second = train_runs(colours(seeds=[3, 5]))
    other = train_run(colours(epochs=1))
    assert [run.settings.seed for run in siblings(second)] == [3, 5]
    assert siblings(other)[0].folder == other.folder
    evaluations, rows = evaluate_runs(evaluated(first))
    assert [e.run.name for e in evaluations] == [first.name, second.name]
    assert rows == find_run(first.name, str(tmp_path / "runs")).results + second.results
    chosen, _ = evaluate_runs(evaluated(first, seeds=[5]))
    assert [e.run.name for e in chosen] == [second.name]
    with pytest.raises(
        InputError, match=r"seeds = \[5, 9\] is refused: .* was trained with seeds \[3, 5\]; train \[9\]"
    ):
        evaluate_runs(evaluated(first, seeds=[5, 9]))


def test_a_stop_ends_the_seeds_too(colours, monkeypatch):
    from reprog_kit.reprogrammer import Reprogrammer

    steps, loss = [], Reprogrammer.loss

    def pressed(self, *given):
        steps.append(1)
        if len(steps) == 5:  # in the second epoch of the first seed
            raise KeyboardInterrupt
        return loss(self, *given)

    monkeypatch.setattr(Reprogrammer, "loss", pressed)
    (only,) = train_runs(colours(seeds=[1, 2]))
    assert not only.finished
    assert len(only.history) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"padding": 5}, "padding 5"),
        ({"padding": 2}, ""),  # 32 // 14, the default of this backbone
        ({"program": "image", "twins": "negatives"}, "program image, twins negatives"),
        ({"recipe": "released"}, "recipe released"),
        ({"recipe": "released", "init_std": 0.01}, "recipe released, init_std 0.01"),
        ({"seed": 7}, ""),
        ({"limit": 9}, "limit 9"),
    ],
)
def test_a_variant_names_what_differs_from_the_defaults(colours, benchmark_file, tiny, given, expected):
    path = benchmark_file(settings={"epochs": 1, "batch_size": 8, "warmup_steps": 1})
    usual = {"dataset": path, "epochs": 1, "padding": None, "precision": None, **given}
    run = train_run(colours(**usual))
    assert variant(run, tiny, "reprogrammer") == expected
    scored = "score_precision fp16, scored_over all" if "recipe" in given else expected if "limit" in given else ""
    assert variant(run, tiny, "zero_shot") == scored


def test_costs_are_those_of_the_files(colours):
    run = train_run(colours(method="linear_probe"))
    found = costs(Evaluation(evaluated(run)))
    assert found["trainable_numbers"] == 3 * 32 + 3
    assert found["program_bytes"] == len((run.folder / "program.safetensors").read_bytes())
    assert found["train_seconds"] == run.history[0]["seconds"]


def test_the_released_recipe_scores_in_half_precision_over_all_classes_at_its_alpha(colours):
    run = train_run(colours(recipe="released", keep="last"))
    half = Evaluation(evaluated(run))
    assert half.alpha == 0.4
    scores = half.scores("reprogrammer", half.data.test)
    assert np.array_equal(scores, scores.astype(np.float16))
    exact = Evaluation(evaluated(train_run(colours(recipe="released", keep="last", score_precision="fp64"))))
    assert scores == pytest.approx(exact.scores("reprogrammer", exact.data.test), abs=0.05)
    assert not np.array_equal(scores, exact.scores("reprogrammer", exact.data.test))


def test_each_detector_scores_the_test_set_once_and_one_that_cannot_be_fitted_is_said(colours, monkeypatch, capsys):
    evaluation = Evaluation(evaluated(train_run(colours(method="linear_probe"))))
    twice = {**evaluation.data.ood, "again": evaluation.data.ood["other"]}
    monkeypatch.setitem(evaluation.data.__dict__, "ood", twice)
    scored, scores = [], evaluation.scores

    def count(method, data, detector):
        scored.append((method, data.name, detector))
        if detector == "mahalanobis":
            raise InputError("too few pictures")
        return scores(method, data, detector)

    monkeypatch.setattr(evaluation, "scores", count)
    rows = score(evaluation)
    inside = [call for call in scored if call[1] == "test"]
    assert len(inside) == len(set(inside)) == 2 * len({**SCORES, **FEATURE_SCORES})
    assert {r["score"] for r in rows if r["role"] == "ood"} == {*SCORES, *FEATURE_SCORES} - {"mahalanobis"}
    assert {r["set"] for r in rows if r["role"] == "ood"} == {"other", "again"}
    assert "linear_probe: no mahalanobis score (too few pictures)" in capsys.readouterr().out
