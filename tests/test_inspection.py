"""One picture under every line: each number is computed again by another road."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import softmax

import reprog_kit
from reprog_kit.detection import FEATURE_SCORES, SCORES
from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.inspection import inspect, share_below
from reprog_kit.parameters import InputError
from reprog_kit.runs import train_run
from reprog_kit.seen import Seen
from reprog_kit.workbench import Workbench
from reprog_kit.zero_shot import ZeroShot

STILL = ("zero-shot", "prompt ensemble", "reprogrammer", "fine-tuning", "WiSE-FT", "linear probe")


def named(bench, start: str) -> str:
    """Return the whole name of the line that starts so."""
    return next(name for name in bench.names if name == start or name.startswith(f"{start} ("))


def picture(bench, number: int, data: str = "dim") -> np.ndarray:
    return np.array(bench.pictures(data).images_NHWC[number])


def probability(found, name: str) -> dict[str, float]:
    rows = found.answers[found.answers["line"] == name]
    return dict(zip(rows["class"], rows["probability"]))


@pytest.mark.parametrize("value", [0.0, 0.1, 0.2, 0.25, 0.4, 1.0])
def test_the_share_below_counts_half_of_the_ties(value):
    others = np.array([0.1, 0.2, 0.2, 0.2, 0.4])
    points = 0.0
    for other in others:
        points += 1.0 if other < value else 0.5 if other == value else 0.0
    assert share_below(others, value) == pytest.approx(points / 5)
    assert share_below(np.array([0.3]), 0.3) == 0.5


@pytest.mark.parametrize(
    ("start", "alpha"),
    [
        ("reprogrammer", 0),
        ("residual", 0.0),
        ("residual", 0.37),
        ("residual", 1.0),
        ("fine-tuning", 0),
        ("linear probe", 0),
    ],
)
@pytest.mark.parametrize("score", ["msp", "energy"])
def test_answers_and_scores_are_those_of_the_loaded_classifier(bench, start, alpha, score):
    name = named(bench, start)
    line = bench.lines[name]
    classifier = reprog_kit.load(
        line.evaluation.run.folder, alpha=alpha if line.moves else None, backbone=bench.backbone
    )
    for number in (0, 4, 8):
        expected = classifier(picture(bench, number), score=score)
        found = inspect(bench, picture(bench, number), score, alpha, name)
        assert probability(found, name) == pytest.approx(
            dict(zip(expected.classes, expected.probabilities[0])), abs=1e-5
        )
        assert found.answer == expected.labels[0]
        assert found.scores.loc[name, "score"] == pytest.approx(expected.scores[0], abs=1e-4)


@pytest.mark.parametrize("start", STILL)
@pytest.mark.parametrize("score", [*SCORES, *FEATURE_SCORES])
def test_a_picture_of_the_test_set_scores_as_it_does_in_the_set(bench, start, score):
    name = named(bench, start)
    line, test = bench.lines[name], bench.data.test
    set_scores = line.evaluation.scores(line.method, test, score)
    logits = line.evaluation.logits(line.method, test)
    for number in (0, 7):
        found = inspect(bench, picture(bench, number, "test"), score, 0.5, name)
        own = found.scores.loc[name]
        assert own["score"] == pytest.approx(set_scores[number], abs=1e-3)
        below = np.mean([1.0 if s < own["score"] else 0.5 if s == own["score"] else 0.0 for s in set_scores])
        assert own["below"] == pytest.approx(below)
        assert found.answer == bench.data.classes[logits[number].argmax()]


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("score", ["mcm", "knn", "mahalanobis"])
def test_the_residual_scores_at_its_alpha(bench, alpha, score):
    """A second road: mix features by hand, at an alpha that is not the evaluation's, after another one."""
    evaluation = bench.lines[named(bench, "residual")].evaluation
    assert evaluation.alpha != alpha
    inspect(bench, picture(bench, 0), score, 0.9)
    name = named(bench, "residual")
    found = inspect(bench, picture(bench, 2), score, alpha, name).scores.loc[name]

    def mixed(data):
        rows = (1 - alpha) * evaluation.features("reprogrammer", data) + alpha * evaluation.features("zero_shot", data)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    features = {name: mixed(bench.pictures(name)) for name in ("dim", "test")}
    if score == "mcm":
        heads = [evaluation.heads[part].weights_CD for part in ("reprogrammer", "zero_shot")]
        rows = (1 - alpha) * heads[0] + alpha * heads[1]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        scores = {name: softmax(part @ rows.T, axis=1).max(axis=1) for name, part in features.items()}
    else:
        fitted = FEATURE_SCORES[score](mixed(evaluation.bank), evaluation.bank.labels_N)
        scores = {name: fitted(part) for name, part in features.items()}
    assert found["score"] == pytest.approx(scores["dim"][2], rel=1e-4)
    below = np.mean([1.0 if s < found["score"] else 0.5 if s == found["score"] else 0.0 for s in scores["test"]])
    assert found["below"] == pytest.approx(below)


def test_the_encoder_sees_the_picture_plus_the_border(bench):
    found = inspect(bench, picture(bench, 3), name=named(bench, "residual"), alpha=0.5)
    values = bench.lines[named(bench, "residual")].evaluation.method.image_program.perturbation().detach().numpy()
    plain = found.picture_SSC.astype(float) / 255
    expected = np.clip(plain + values.transpose(1, 2, 0), 0, 1)
    assert np.abs(found.seen_SSC / 255 - expected).max() < 1.01 / 255
    assert not np.array_equal(found.seen_SSC, found.picture_SSC)
    assert np.array_equal(found.seen_SSC[4:28, 4:28], found.picture_SSC[4:28, 4:28])
    assert found.picture_SSC.shape == (32, 32, 3) and found.picture_SSC.dtype == np.uint8


@pytest.mark.parametrize("start", ["reprogrammer", "residual", "fine-tuning", "linear probe", "zero-shot"])
def test_the_gradient_is_that_of_finite_differences(bench, start):
    """In double precision, at pixels of the border and of the centre."""
    name = named(bench, start)
    found = inspect(bench, picture(bench, 5), name=name, alpha=0.6)
    evaluation, method = bench.lines[name].evaluation, bench.lines[name].method
    method = "reprogrammer" if method == "residual" else method
    model, head = copy.deepcopy(evaluation.model(method)).double(), evaluation.heads[method]
    label = bench.data.classes.index(found.answer)
    with torch.no_grad():
        canvas = evaluation.model(method).canvas(torch.from_numpy(picture(bench, 5)[None])).double()

        def logit(pixels: torch.Tensor) -> float:
            return head.scale * float(
                model.encoder.encode_image(pixels)[0].double() @ torch.from_numpy(head.weights_CD[label]).double()
            )

        for row, column in ((0, 0), (2, 17), (31, 9), (15, 16), (9, 21)):
            total, step = 0.0, 4e-3
            for channel in range(3):
                nudge = torch.zeros_like(canvas)
                nudge[0, channel, row, column] = step
                total += abs(logit(canvas + nudge) - logit(canvas - nudge)) / (2 * step)
            assert found.gradient_SS[row, column] == pytest.approx(total, rel=0.05, abs=0.02)


def test_the_border_s_share_is_added_up_pixel_by_pixel(bench):
    found = inspect(bench, picture(bench, 1), name=named(bench, "reprogrammer"))
    inside = outside = pixels = 0.0
    for row in range(32):
        for column in range(32):
            on = row < 4 or row >= 28 or column < 4 or column >= 28
            pixels += on
            outside += found.gradient_SS[row, column] * on
            inside += found.gradient_SS[row, column] * (not on)
    assert found.border.padding == 4
    assert found.border.area == pytest.approx(pixels / 32**2)
    assert found.border.gradient == pytest.approx(outside / (outside + inside), rel=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.4, 1.0])
def test_without_the_border_the_answer_is_that_of_a_program_with_no_values(bench, alpha):
    name = named(bench, "reprogrammer" if alpha is None else "residual")
    evaluation = bench.lines[name].evaluation
    bare = copy.deepcopy(evaluation.method)
    with torch.no_grad():
        bare.image_program.values.zero_()
        image = torch.from_numpy(picture(bench, 6)[None])
        own, plain = bare.image_features(image), evaluation.zero_shot.image_features(image)
        texts = bare.class_weights(), evaluation.zero_shot.class_weights()
        weight = alpha or 0.0
        sides = [(1 - weight) * a + weight * b for a, b in ((own, plain), texts)]
        sides = [side / side.norm(dim=1, keepdim=True) for side in sides]
        expected = (bare.scale * sides[0] @ sides[1].T).softmax(1)[0]
    found = inspect(bench, picture(bench, 6), name=name, alpha=weight)
    label = bench.data.classes.index(found.answer)
    assert found.border.removed == pytest.approx(expected[label].item(), abs=1e-4)
    assert found.border.kept == pytest.approx(probability(found, name)[found.answer])
    assert (found.border.kept == found.border.removed) == (alpha == 1.0)


@pytest.mark.parametrize("start", ["zero-shot", "prompt ensemble", "fine-tuning", "linear probe"])
def test_a_method_without_a_border_has_none(bench, start):
    found = inspect(bench, picture(bench, 0), name=named(bench, start))
    assert found.border is None
    assert np.array_equal(found.picture_SSC, found.seen_SSC)
    assert found.gradient_SS.max() > 0


def test_a_text_program_has_no_border_and_a_shrunk_picture_stands_in_its(bench, colours, tmp_path):
    made = bench.lines[named(bench, "residual")].evaluation.run.settings.model_dump(
        include={"dataset", "data_root", "model", "device"}
    )
    runs = str(tmp_path / "more")
    text = train_run(colours(**made, program="text", padding=None, runs=runs, epochs=1))
    train_run(colours(**made, program="image", image_size=20, padding=6, runs=runs, epochs=1))
    other = Workbench(
        ExploreSettings.build(dataset=made["dataset"], data_root=made["data_root"], device="cpu", runs=runs)
    )
    shrunk = inspect(other, picture(bench, 0), name=next(n for n in other.names if "image_size 20" in n))
    assert shrunk.border.padding == 6
    assert not shrunk.picture_SSC[:6].any() and shrunk.picture_SSC[6:26, 6:26].any()
    (name, *_) = other.join(other.evaluate(text))
    found = inspect(other, picture(bench, 0), name=name)
    assert found.border is None and np.array_equal(found.picture_SSC, found.seen_SSC)


def test_a_picture_s_passes_are_done_once(bench):
    """Moving alpha, or the detector, runs no encoder again."""
    passes = []
    towers = {line.evaluation.model(line.method).encoder.clip.visual for line in bench.lines.values()}
    hooks = [tower.register_forward_hook(lambda *_: passes.append(1)) for tower in towers]
    try:
        seen, name = Seen(bench, picture(bench, 2)), named(bench, "residual")
        first = inspect(bench, seen, alpha=0.0, name=name)
        before = len(passes)
        assert before > 0
        later = [inspect(bench, seen, score, alpha, name) for alpha in (0.05, 0.1) for score in ("msp", "knn")]
        flipped = sum(found.answer != first.answer for found in later)
        assert len(passes) == before + (1 if flipped else 0)  # another class' gradient is another pass
        assert later[0].answers.equals(inspect(bench, picture(bench, 2), "msp", 0.05, name).answers)
        assert len(passes) > before  # a new Seen knows nothing
    finally:
        for hook in hooks:
            hook.remove()


def test_nothing_of_a_method_changes_even_where_gradients_are_off(bench):
    models = {line.evaluation.model(line.method) for line in bench.lines.values()}
    before = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    asked = [[p.requires_grad for p in model.parameters()] for model in models]
    with torch.no_grad():
        for name in bench.names:
            assert inspect(bench, picture(bench, 0), name=name).gradient_SS.max() > 0
    for model, state, wanted in zip(models, before, asked):
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert [p.requires_grad for p in model.parameters()] == wanted
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_where_the_workbench_stands_is_the_default(bench):
    name = bench.chosen = named(bench, "residual")
    bench.score, bench.alpha = "energy", 0.7
    found = inspect(bench, picture(bench, 0))
    assert (found.name, found.score, found.alpha, found.label) == (name, "energy", 0.7, None)
    assert list(found.scores.index) == list(bench.names) == list(dict.fromkeys(found.answers["line"]))


def test_the_true_class_is_named_with_its_rank_wherever_it_stands(bench):
    whole = inspect(bench, picture(bench, 0), name=named(bench, "reprogrammer"))
    last = whole.answers[whole.answers["line"] == whole.name].iloc[-1]
    label = bench.data.classes.index(last["class"])
    found = inspect(bench, picture(bench, 0), name=named(bench, "reprogrammer"), label=label, most=1)
    rows = found.answers[found.answers["line"] == whole.name]
    assert list(rows["rank"]) == [1, 3] and list(rows["class"]) == [found.answer, last["class"]]
    assert found.label == last["class"]
    assert inspect(bench, picture(bench, 0), label=-1).label is None


@pytest.mark.parametrize(("name", "alpha"), [("residual", 0.3), ("zero-shot", 0.3)])
def test_the_histograms_are_those_of_the_scores(bench, name, alpha):
    name = named(bench, name)
    line, found = bench.lines[name], inspect(bench, picture(bench, 0), "msp", alpha, name)
    kept = alpha if line.moves else None
    width = found.middles_B[1] - found.middles_B[0]
    edges = np.r_[found.middles_B - width / 2, found.middles_B[-1] + width / 2]
    outside = np.concatenate([line.evaluation.scores(line.method, d, "msp", kept) for d in bench.data.ood.values()])
    inside = line.evaluation.scores(line.method, bench.data.test, "msp", kept)
    for parts_B, scores_N in ((found.id_B, inside), (found.ood_B, outside)):
        assert parts_B.sum() == pytest.approx(100)
        expected = 100 * np.histogram(scores_N, edges)[0] / len(scores_N)
        assert np.abs(np.cumsum(parts_B) - np.cumsum(expected)).max() < 100.1 / len(
            scores_N
        )  # one may stand on an edge


def test_a_benchmark_without_runs_and_ood_sets_has_zero_shot_alone(colours, benchmark_file, tmp_path):
    made = colours(dataset=benchmark_file(ood={}))
    where = {name: getattr(made, name) for name in ("dataset", "data_root", "model", "device")}
    alone = Workbench(ExploreSettings.build(**where, runs=str(tmp_path / "none")))
    found = inspect(alone, picture(alone, 0), label=0)
    assert list(found.scores.index) == ["zero-shot"] and found.border is None and found.label == "blue"
    assert found.id_B.sum() == pytest.approx(100) and found.ood_B.size == 0
    plain = ZeroShot(alone.backbone, alone.data.captions)
    with torch.no_grad():
        logits = plain.scale * plain.image_features(torch.from_numpy(picture(alone, 0)[None])) @ plain.class_weights().T
    assert probability(found, "zero-shot") == pytest.approx(
        dict(zip(alone.data.classes, logits.softmax(1)[0].tolist())), abs=1e-5
    )


def test_a_detector_that_cannot_be_fitted_is_said_and_the_rest_is_there(colours, benchmark_file, tmp_path):
    made = colours(dataset=benchmark_file())
    where = {name: getattr(made, name) for name in ("dataset", "data_root", "model", "device")}
    alone = Workbench(ExploreSettings.build(**where, runs=str(tmp_path / "none"), bank=1))
    found = inspect(alone, picture(alone, 0), "mahalanobis")
    assert "Mahalanobis distances are not defined" in found.unscored["zero-shot"]
    assert np.isnan(found.scores.loc["zero-shot", "score"]) and np.isnan(found.scores.loc["zero-shot", "below"])
    assert found.middles_B.size == found.id_B.size == found.ood_B.size == 0
    assert len(found.answers) == 3
    assert not inspect(alone, picture(alone, 0), "knn").unscored


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((16, 16, 3)), ["float64 of shape (16, 16, 3)", "uint8 of shape (16, 16, 3)", "pictures.squares"]),
        (np.zeros((20, 20, 3), np.uint8), ["uint8 of shape (20, 20, 3)"]),
        (np.zeros((1, 16, 16, 3), np.uint8), ["shape (1, 16, 16, 3)"]),
    ],
)
def test_other_pixels_are_refused(bench, wrong, words):
    with pytest.raises(InputError) as error:
        inspect(bench, wrong)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "zeroshot"}, "no line 'zeroshot'. Did you mean 'zero-shot'"),
        ({"score": "mps"}, "no detector 'mps'. Did you mean 'msp'"),
        ({"alpha": 1.5}, "alpha = 1.5 is refused"),
    ],
)
def test_what_there_is_not_is_refused(bench, given, words):
    with pytest.raises(InputError, match=words):
        inspect(bench, picture(bench, 0), **given)
