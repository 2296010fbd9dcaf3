"""A training fitted into seconds: what is kept, what is cut, what is refused; and speeds that are really measured."""

import math
import random

import pytest

from reprog_kit import budget
from reprog_kit.backbone import load_backbone
from reprog_kit.budget import Pace, fitted, measured, pace, rungs, spoken, told, warmed
from reprog_kit.datasets import BenchmarkData
from reprog_kit.features import between_batches
from reprog_kit.parameters import InputError
from reprog_kit.runs import train_run
from reprog_kit.settings import TrainSettings
from reprog_kit.train import steps_per_epoch

STEADY = Pace(pictures=900, held_out=300, classes=10, ahead_s=0.0, step_s=0.2, after_s=0.001)  # 3.3 s an epoch


def asked(**given) -> TrainSettings:
    return TrainSettings(**{"epochs": 20, "batch_size": 64, "warmup_steps": 20, **given})


def test_rungs_are_few_and_rise():
    assert rungs(100) == [1, 2, 3, 5, 8, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100]
    assert rungs(1_300_000)[-2:] == [800_000, 1_000_000]
    assert (rungs(0), rungs(1), rungs(4)) == ([], [1], [1, 2, 3])
    for n in rungs(10**6):
        assert len(str(n).rstrip("0")) <= 2


def test_the_cost_by_hand():
    speed = Pace(pictures=900, held_out=300, classes=10, ahead_s=0.01, step_s=0.5, after_s=0.002)
    assert speed.seconds(3, 64) == pytest.approx(0.01 * 1200 + 3 * (15 * 0.5 + 300 * 0.002))
    assert speed.seconds(2, 64, 100) == pytest.approx(0.01 * 200 + 2 * (2 * 0.5 + 100 * 0.002))
    assert speed.seconds(2, 64, 500) == pytest.approx(0.01 * 800 + 2 * (8 * 0.5 + 300 * 0.002))


@pytest.mark.parametrize(
    ("seconds", "epochs", "limit", "warmup", "text"),
    [
        (math.inf, 20, None, 20, "20 epochs of 900 pictures, about 1 min 6 s"),
        (66.1, 20, None, 20, "20 epochs of 900 pictures, about 1 min 6 s"),
        (65, 15, None, 20, "15 of 20 epochs of 900 pictures, about 50 s"),
        (33.1, 10, None, 20, "10 of 20 epochs of 900 pictures, about 33 s"),
        (20, 5, None, 20, "5 of 20 epochs of 900 pictures, about 16 s"),
        (9.95, 3, None, 15, "3 of 20 epochs of 900 pictures, about 10 s"),
        (3.4, 1, None, 5, "1 of 20 epochs of 900 pictures, about 3 s"),
        (3.2, 1, 800, 4, "1 of 20 epochs of 800 of 900 pictures, about 3 s"),
        (0.6, 1, 100, 0, "1 of 20 epochs of 100 of 900 pictures, about 0.5 s"),
        (0.27, 1, 64, 0, "1 of 20 epochs of 64 of 900 pictures, about 0.3 s"),
    ],
)
def test_epochs_then_pictures_are_cut_to_the_budget(seconds, epochs, limit, warmup, text):
    found = fitted(asked(), STEADY, seconds)
    assert (found.epochs, found.limit, found.warmup_steps) == (epochs, limit, warmup)
    assert told(asked(), found, STEADY) == text
    changed = {"epochs", "limit", "warmup_steps"}
    assert found.model_dump(exclude=changed) == asked().model_dump(exclude=changed)


def test_a_slightly_other_measurement_leads_to_the_same_run():
    for seconds in (20, 60, 600):
        runs = {fitted(asked(epochs=100), Pace(900, 300, 10, 0, step, 0.001), seconds) for step in (0.2, 0.203, 0.197)}
        assert len({(run.epochs, run.limit, run.warmup_steps) for run in runs}) == 1


def test_whatever_the_speed_a_fitted_run_is_accepted_within_the_budget_and_never_more_than_asked():
    rng, refused = random.Random(0), 0
    for _ in range(2000):
        pictures, held_out, classes = rng.randint(1, 5000), rng.randint(1, 500), rng.randint(1, 200)
        took = [10 ** rng.uniform(-6, 0) for _ in range(3)]
        speed = Pace(pictures, held_out, classes, took[0] / 10, took[1] * rng.randint(0, 1), took[2] / 10)
        made = asked(epochs=rng.randint(1, 120), batch_size=rng.randint(2, 300), limit=rng.choice([None, pictures]))
        seconds = 10 ** rng.uniform(-3, 3)
        try:
            found = fitted(made, speed, seconds)
        except InputError as error:
            refused += 1
            least = min(pictures, max(made.batch_size, classes))
            epochs = 1 if speed.step_s else made.epochs
            assert "is too short here" in str(error) and speed.seconds(epochs, made.batch_size, least) > seconds
            continue
        count = min(pictures, found.limit or pictures)
        assert speed.seconds(found.epochs, found.batch_size, found.limit) <= seconds
        assert 1 <= found.epochs <= made.epochs and found.warmup_steps <= made.warmup_steps
        assert found.limit is None or min(pictures, max(made.batch_size, classes)) <= found.limit <= pictures
        if (found.epochs, found.limit) == (made.epochs, made.limit):
            assert found == (warmed(made, pictures) if speed.step_s else made)
        elif speed.step_s:
            assert steps_per_epoch(count, found) >= 1
        assert found.epochs == made.epochs or found.limit == made.limit or found.epochs == 1
    assert 0 < refused < 1000


def test_a_warm_up_that_is_longer_than_the_run_is_a_third_of_it():
    made = asked(warmup_steps=20)
    speed = Pace(pictures=60, held_out=60, classes=10, ahead_s=0.0, step_s=0.01, after_s=0.0)
    assert fitted(made, speed, 100).warmup_steps == warmed(made, 60).warmup_steps == 6  # of 20 steps
    assert warmed(made, 65) is made  # of 40


def test_a_method_without_steps_keeps_its_settings_and_is_cut_in_pictures():
    speed = Pace(pictures=50_000, held_out=5000, classes=10, ahead_s=0.001, step_s=0.0, after_s=0.0)
    made = asked(method="linear_probe")
    assert fitted(made, speed, 55.1) is made
    found = fitted(made, speed, 20)
    assert (found.epochs, found.warmup_steps, found.limit) == (made.epochs, made.warmup_steps, 15_000)
    assert told(made, found, speed) == "15,000 of 50,000 pictures, about 20 s"
    assert told(made, made, speed) == "50,000 pictures, about 55 s"


def test_a_probe_keeps_a_picture_of_every_class():
    speed = Pace(pictures=5000, held_out=10, classes=1000, ahead_s=0.001, step_s=0.0, after_s=0.0)
    assert fitted(asked(method="linear_probe"), speed, 1.2).limit == 1000
    with pytest.raises(InputError, match=r"budget of 0\.9 s is too short here: .* on 1000 pictures, takes about 1 s"):
        fitted(asked(method="linear_probe"), speed, 0.9)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf])
def test_no_time_is_refused(seconds):
    with pytest.raises(InputError, match=r"seconds = .* is refused: .* Give more than 0"):
        fitted(asked(), STEADY, seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.04 s"), (0.5, "0.5 s"), (9.6, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (125, "2 min 5 s")]
    + [(3600, "1 h"), (12_010, "3 h 20 min")],
)
def test_seconds_as_they_are_said(seconds, text):
    assert spoken(seconds) == text


def parts(settings: TrainSettings):
    return load_backbone(settings.model, device="cpu"), BenchmarkData.of(settings), settings


@pytest.mark.parametrize(
    ("method", "given", "ahead", "steps"),
    [
        ("reprogrammer", {}, False, True),
        ("reprogrammer", {"program": "text"}, True, True),
        ("fine_tune", {}, False, True),
        ("lp_ft", {}, True, True),
        ("l2_sp", {}, False, True),
        ("coop", {}, True, True),
        ("linear_probe", {}, True, False),
        ("linear_probe", {"probe": "adam"}, True, True),
        ("zero_shot", {}, True, False),
    ],
)
def test_every_method_is_measured_and_leaves_nothing(colours, tmp_path, method, given, ahead, steps):
    settings = colours(method=method, batch_size=4, **given) if method != "zero_shot" else colours(method=method)
    backbone, data, _ = parts(settings)
    assert len(data.train) == 24  # decoded, and kept on the disk
    kept = set((tmp_path / "runs").rglob("*"))
    speed = measured(backbone, data, settings)
    assert set((tmp_path / "runs").rglob("*")) == kept
    assert (speed.pictures, speed.held_out, speed.classes) == (24, 6, 3)
    assert (speed.step_s > 0) == steps and (speed.after_s > 0) == steps
    assert speed.ahead_s > 0
    assert fitted(settings, speed, 1e6) is settings
    if ahead and not steps:
        assert speed.seconds(1, 4) == pytest.approx(30 * speed.ahead_s)


def test_what_was_fitted_trains(colours):
    settings = colours(epochs=9, batch_size=4, warmup_steps=20)
    backbone, _, _ = parts(settings)
    speed = Pace(24, 6, 3, 0.0, 1.0, 0.0)
    for seconds, epochs, limit in ((20, 3, None), (5, 1, 20), (1.5, 1, 4)):
        found = fitted(settings, speed, seconds)
        assert (found.epochs, found.limit) == (epochs, limit)
        run = train_run(found.model_copy(update={"keep": "last"}), backbone=backbone)
        assert run.finished and len(run.history) == epochs


def test_the_same_question_has_the_same_answer_whatever_the_width_but_none(colours, monkeypatch):
    monkeypatch.setattr(budget, "_measured", {})
    backbone, data, settings = parts(colours(padding=4))
    first = pace(backbone, data, settings)
    assert pace(backbone, data, colours(padding=8, epochs=5, seed=3)) is first
    assert pace(backbone, data, colours(padding=0)) is not first
    assert pace(backbone, data, colours(padding=4, batch_size=4)) is not first
    assert len(budget._measured) == 3


def test_a_measurement_heeds_a_stop_at_its_steps(colours):
    calls = []

    def stop() -> None:
        calls.append(1)
        raise KeyboardInterrupt

    token = between_batches.set(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            measured(*parts(colours()))
    finally:
        between_batches.reset(token)
    assert calls == [1]


def test_a_slow_machine_is_measured_by_its_first_steps(colours, monkeypatch):
    monkeypatch.setattr(budget, "_ENOUGH", 0.0)
    speed = measured(*parts(colours()))
    assert speed.after_s == pytest.approx(speed.step_s / 8)
