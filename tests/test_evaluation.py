"""An evaluation is arithmetic on features that are computed once: every row is computed again here by another way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from reprog_kit import features as features_module
from reprog_kit.detection import FEATURE_SCORES, SCORES
from reprog_kit.evaluation import ALPHAS, Evaluation
from reprog_kit.ledger import label
from reprog_kit.metrics import DETECTION_METRICS
from reprog_kit.parameters import InputError
from reprog_kit.programs import load_program
from reprog_kit.results import score
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings
from reprog_kit.tables import per_set, summary
from reprog_kit.zero_shot import ZeroShot

METHODS = ("zero_shot", "reprogrammer", "residual")


@pytest.fixture(scope="module")
def yaml_file(tmp_path_factory):
    """The colours; one shift set lacks green."""
    path = tmp_path_factory.mktemp("yaml") / "colours.yaml"
    path.write_text(
        "side: 16\n"
        "id: {train: {kind: folder, path: train}, validation: 0.4, test: {kind: folder, path: test}}\n"
        "shift:\n"
        "  dim: {kind: folder, path: shift}\n"
        "  part: {kind: folder, path: test, drop: [green]}\n"
        "ood: {other: {kind: folder, path: other}, blocks: {kind: generated, name: pixelate, of: test}}\n"
    )
    return path


@pytest.fixture(scope="module")
def made(yaml_file, pictures, tower, tmp_path_factory):
    """A trained run and its evaluation with rows."""
    runs = tmp_path_factory.mktemp("runs")
    run = train_run(
        TrainSettings.build(
            dataset=str(yaml_file), model=tower("vit"), data_root=str(pictures), runs=str(runs), epochs=3, batch_size=6,
            warmup_steps=1, padding=4, image_lr=0.05, text_lr=0.005, device="cpu", precision="fp32", keep="last",
        )
    )  # fmt: skip
    found = Evaluation(EvaluateSettings(run=str(run.folder), runs=str(runs), device="cpu", resamples=20))
    return found, score(found)


def again(made, **given) -> Evaluation:
    settings = made[0].settings
    return Evaluation(EvaluateSettings(**{**settings.model_dump(), **given}))


def value(rows, method, data, metric, score=None) -> float:
    (found,) = [r for r in rows if (r["method"], r["set"], r["metric"], r["score"]) == (method, data, metric, score)]
    return found["value"]


def slow_cosines(made, tiny, method: str, data) -> np.ndarray:
    """Encode one picture at a time, through the modules rather than through caches and heads."""
    program = load_program(made[0].run.folder / "program.safetensors", tiny)
    plain = ZeroShot(tiny, program.captions)
    alpha = {"zero_shot": 1.0, "reprogrammer": 0.0, "residual": made[0].alpha}[method]
    with torch.no_grad():
        sides = []
        for encode in (lambda m, x: m.image_features(x), lambda m, x: m.class_weights()):
            rows = [
                (1 - alpha) * encode(program, picture) + alpha * encode(plain, picture)
                for picture in torch.from_numpy(np.asarray(data.images_NHWC)).split(1)
            ]
            sides.append([row / row.norm(dim=1, keepdim=True) for row in rows])
        return torch.cat([image @ texts.T for image, texts in zip(*sides)]).double().numpy()


@pytest.mark.parametrize("method", METHODS)
def test_accuracies_are_those_of_the_slow_way(made, tiny, method):
    evaluation, rows = made
    for name, (role, data) in evaluation.sets.items():
        if role == "ood":
            continue
        cosines = slow_cosines(made, tiny, method, data)
        if name == "part":
            cosines[:, 1] = -2  # blue, green, red: green is not in this set
        assert value(rows, method, name, "accuracy") == np.mean(cosines.argmax(axis=1) == data.labels_N)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["other", "blocks"])
def test_aurocs_are_those_of_the_slow_way(made, tiny, method, name):
    evaluation, rows = made
    inside, outside = (
        (tiny.scale * slow_cosines(made, tiny, method, data)).max(axis=1)
        for data in (evaluation.data.test, evaluation.data.ood[name])
    )
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    expected = roc_auc_score(truth, np.r_[inside, outside])
    # float32 features on both ways: one swapped pair of pictures is allowed
    pairs = len(inside) * len(outside)
    assert value(rows, method, name, "auroc", "max_logit") == pytest.approx(expected, abs=1 / pairs + 1e-9)


def test_there_is_one_row_a_method_set_score_and_metric(made):
    rows = made[1]
    keys = [(r["method"], r["set"], r["score"], r["metric"]) for r in rows]
    assert len(set(keys)) == len(keys)
    # Accuracy and calibration of three sets; five metrics of every score of two OOD sets; four costs.
    assert len(rows) == 3 * (2 * 3 + len(DETECTION_METRICS) * len({**SCORES, **FEATURE_SCORES}) * 2) + 4
    assert {(r["role"], r["set"]) for r in rows if r["role"] != "cost"} == {
        ("id", "test"), ("shift", "dim"), ("shift", "part"), ("ood", "other"), ("ood", "blocks")
    }  # fmt: skip
    assert {r["n"] for r in rows if r["set"] == "part"} == {8}


def test_rows_are_in_the_ledger_and_a_second_evaluation_replaces_them(made):
    evaluation, rows = made
    assert evaluation.run.results == rows
    fresh = score(again(made))
    assert len(evaluation.run.results) == len(rows)
    assert [r["value"] for r in fresh] == [r["value"] for r in rows]


def test_intervals_hold_their_values(made):
    for row in [row for row in made[1] if row["role"] != "cost"]:
        assert row["low"] <= row["high"], row
        if row["metric"] in ("accuracy", "auroc"):
            assert row["low"] <= row["value"] + 0.2 and row["high"] >= row["value"] - 0.2, row


def test_a_second_evaluation_never_touches_the_image_encoder(made, monkeypatch):
    score(again(made))

    def refuse(*given):
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(features_module, "encode", refuse)
    score(again(made))


def test_an_alpha_sweep_passes_each_picture_once_through_each_encoder(made, monkeypatch, tmp_path):
    passed, encode = [], features_module.encode
    monkeypatch.setattr(features_module, "encode", lambda *given: passed.append(len(given[1])) or encode(*given))
    evaluation = again(made, runs=str(tmp_path))
    assert len(evaluation.validation_curve) == 101
    assert passed == [12, 12]


def test_the_ends_of_the_residual_are_its_parts_to_the_last_bit(made):
    evaluation, data = made[0], made[0].data.test
    for alpha, part in ((0.0, "reprogrammer"), (1.0, "zero_shot")):
        assert np.array_equal(evaluation.cosines("residual", data, alpha)[0], evaluation.cosines(part, data)[0])


def test_validation_chooses_alpha_and_the_setting_overrules_it(made):
    evaluation, curve = made[0], made[0].validation_curve
    best = curve.max()
    within = [
        a for a, c in zip(ALPHAS, curve) if c >= best - np.sqrt(best * (1 - best) / len(evaluation.data.validation))
    ]
    assert evaluation.alpha == max(within)
    given = again(made, alpha=0.25)
    assert given.alpha == 0.25
    assert not np.array_equal(
        given.cosines("residual", given.data.test)[0], evaluation.cosines("zero_shot", given.data.test)[0]
    )


def test_a_run_that_does_not_renormalise_mixes_without(made):
    evaluation, data = again(made, alpha=0.5), made[0].data.test
    unit = evaluation.cosines("residual", data)[0]
    evaluation.run = type(evaluation.run)(
        evaluation.run.folder, evaluation.run.settings.model_copy(update={"renormalise": False})
    )
    longer = evaluation.cosines("residual", data)[0]
    images = [evaluation.features(m, data) for m in ("reprogrammer", "zero_shot")]
    texts = [evaluation.heads[m].weights_CD for m in ("reprogrammer", "zero_shot")]
    expected = (sum(images) / 2).astype(np.float64) @ (sum(texts) / 2).astype(np.float64).T
    assert longer == pytest.approx(expected, abs=1e-6)
    assert np.abs(longer - unit).max() > 1e-4


def test_the_summary_means_the_sets_of_a_role(made):
    rows, table = made[1], summary(made[1], "energy")
    assert list(table.columns) == ["ID accuracy", "shift accuracy", "FPR95", "AUROC"]
    assert [line.split(" (")[0] for line in table.index] == [label(method) for method in METHODS]
    for method, line in zip(METHODS, table.to_numpy(dtype=float)):
        expected = [
            value(rows, method, "test", "accuracy"),
            (value(rows, method, "dim", "accuracy") + value(rows, method, "part", "accuracy")) / 2,
            sum(value(rows, method, s, "fpr_at_95_id_recall", "energy") for s in ("other", "blocks")) / 2,
            sum(value(rows, method, s, "auroc", "energy") for s in ("other", "blocks")) / 2,
        ]
        assert line == pytest.approx([100 * e for e in expected], abs=0.0501)


def test_two_alphas_are_kept_apart_by_their_variant(made):
    first, second = ([dict(r) for r in score(again(made, alpha=alpha))] for alpha in (0.25, 0.75))
    table = summary(made[0].run.results)
    for rows, alpha in ((first, "0.25"), (second, "0.75")):
        (name,) = [line for line in table.index if f"alpha {alpha}" in line]
        (same,) = [line for line in summary(rows).index if "residual" in line]
        assert list(table.loc[name]) == list(summary(rows).loc[same])
    score(again(made, alpha=0.25))  # evaluated again it stands once
    assert len(summary(made[0].run.results)) == len(table)


def test_the_table_of_sets_has_a_line_a_set_with_its_interval(made):
    table = per_set(made[1])
    assert [(role, name) for role, name, _, _ in table.index] == [
        ("id", "test"), ("shift", "dim"), ("shift", "part"), ("ood", "blocks"), ("ood", "other")
    ]  # fmt: skip
    assert [line.split(" (")[0] for line in table.columns] == [label(method) for method in METHODS]
    shown = f"{100 * value(made[1], 'residual', 'test', 'accuracy'):.1f} ["
    assert table.filter(like="residual").iloc[0, 0].startswith(shown)


def test_a_changed_caption_is_refused_at_evaluation(made, yaml_file):
    before = yaml_file.read_text()
    yaml_file.write_text(before + "caption: a picture of a {}\n")
    try:
        with pytest.raises(InputError, match=r"other captions .*'a photo of a blue' against 'a picture of a blue'"):
            again(made)
    finally:
        yaml_file.write_text(before)


def test_the_pictures_may_have_moved(made, pictures, tmp_path):
    moved = tmp_path / "moved"
    moved.symlink_to(pictures)
    assert again(made, data_root=str(moved)).data.test.fingerprint == made[0].data.test.fingerprint
    with pytest.raises(InputError, match="there is nothing at"):
        again(made, data_root=str(tmp_path / "nowhere"))


def test_the_embedded_benchmark_is_evaluated_end_to_end(mini, tmp_path, colours):
    """The real asset on real digits, a quick look: every row is there and is a number."""
    run = train_run(colours(dataset="demo", model="mini", data_root=None, epochs=1, limit=40, padding=8, batch_size=16))
    settings = EvaluateSettings(run=str(run.folder), runs=str(Path(run.folder).parent), resamples=0)
    evaluation = Evaluation(settings)
    rows = score(evaluation)
    assert {r["set"] for r in rows} >= {"test", "printed", "letters"}
    assert all(np.isfinite(r["value"]) and r["low"] is None for r in rows)
    assert 0 <= summary(rows)["AUROC"].astype(float).min() <= 100


def test_labels_in_another_order_raise_an_alarm_and_the_right_ones_do_not(mini, colours):
    """Zero-shot on real digits, and the same digits with their labels permuted as a set in another class order has."""
    run = train_run(colours(dataset="demo", model="mini", data_root=None, method="zero_shot", limit=300))
    evaluation = Evaluation(EvaluateSettings(run=str(run.folder), runs=str(run.folder.parent)))
    right = evaluation.data.test
    swapped = replace(right, name="swapped", labels_N=np.array([0, 2, 1, 3, 4, 5, 6, 7, 8, 9])[right.labels_N])
    evaluation.__dict__["sets"] = {"test": ("id", right), "swapped": ("shift", swapped)}
    (alarm,) = evaluation.alarms()
    assert alarm.name == "swapped"
    assert set(alarm.moves) == {("one", "two"), ("two", "one")}
    assert alarm.renamed_accuracy - alarm.accuracy > 0.1
