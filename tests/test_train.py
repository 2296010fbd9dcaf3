"""One loop: its schedule, its records, its order, and a state from which it goes on exactly."""

import math
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.datasets import BenchmarkData
from reprog_kit.parameters import InputError
from reprog_kit.reprogrammer import Reprogrammer
from reprog_kit.train import train, validation_accuracy, warmup_cosine


@pytest.fixture
def start(tiny, colours):
    """Return a function that prepares training on the colours: method, train set, validation set, settings."""

    def prepare(**given):
        settings = colours(**given)
        data = BenchmarkData(load_benchmark(settings.dataset), settings.data_root, settings.limit)
        method = Reprogrammer.from_settings(tiny, data.classes, data.captions, settings)
        return method, data.train, data.validation, settings

    return prepare


def losses(epochs) -> list[float]:
    return [epoch.record["loss"] for epoch in epochs]


@pytest.mark.parametrize(("total", "warmup"), [(100, 10), (100, 0), (7, 6), (1, 0)])
def test_the_schedule_rises_in_line_and_falls_as_a_cosine_to_zero(total, warmup):
    shares = [warmup_cosine(step, total, warmup) for step in range(total + 1)]
    for step in range(warmup):
        assert shares[step] == pytest.approx((step + 1) / warmup)
    for step in range(warmup, total + 1):
        assert shares[step] == pytest.approx((1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2)
    assert shares[warmup] == 1.0
    assert shares[-1] == pytest.approx(0, abs=1e-12)


def test_training_learns_the_colours(start):
    method, fit, validation, settings = start(epochs=12, image_lr=0.05, text_lr=0.01)
    before = validation_accuracy(method, validation, settings)
    epochs = list(train(method, fit, validation, settings))
    assert losses(epochs)[-1] < 0.7 * losses(epochs)[0]
    assert epochs[-1].record["validation_accuracy"] > max(before, 0.5)


def test_a_record_an_epoch_says_what_people_want_to_know(start):
    method, fit, validation, settings = start(epochs=3, image_lr=0.004, text_lr=0.002)
    records = [epoch.record for epoch in train(method, fit, validation, settings)]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    for record in records:
        assert record.keys() >= {"loss", "validation_accuracy", "lr", "images_per_s", "seconds", "peak_memory_mb"}
        assert record["images_per_s"] == pytest.approx(24 / record["seconds"])
        assert record["peak_memory_mb"] > 10
        # 24 pictures in batches of 8 are 3 steps an epoch; the larger of the two rates is shown.
        assert record["lr"] == pytest.approx(0.004 * warmup_cosine(3 * record["epoch"] - 1, 9, 1))


def test_the_loss_of_an_epoch_is_the_mean_over_its_pictures(start):
    # Rates so small that nothing moves, and one loss a picture: the mean must not depend on the batches' sizes.
    frozen = {"image_lr": 1e-12, "text_lr": 1e-12, "loss": "captions", "epochs": 1, "warmup_steps": 0}
    method, fit, validation, settings = start(batch_size=7, **frozen)
    with torch.no_grad():
        expected = method.loss(torch.from_numpy(fit.images_NHWC), torch.from_numpy(fit.labels_N), settings).item()
    assert losses(train(method, fit, validation, settings)) == pytest.approx([expected], rel=1e-4)


def test_the_rates_of_the_optimizers_follow_the_schedule(start, monkeypatch):
    method, fit, validation, settings = start(epochs=2, image_lr=0.004, text_lr=0.002, warmup_steps=2)
    used = {"image": [], "text": []}
    for name, kind in (("image", torch.optim.Adam), ("text", torch.optim.AdamW)):
        step = kind.step

        def spy(self, *given, name=name, kind=kind, step=step):
            if type(self) is kind:
                used[name].append(self.param_groups[0]["lr"])
            return step(self, *given)

        monkeypatch.setattr(kind, "step", spy)
    list(train(method, fit, validation, settings))
    shares = [warmup_cosine(step, 6, 2) for step in range(6)]
    assert used["image"] == pytest.approx([0.004 * share for share in shares])
    assert used["text"] == pytest.approx([0.002 * share for share in shares])


def test_every_picture_is_seen_once_an_epoch_in_an_order_of_seed_and_epoch(start, monkeypatch):
    def seen(seed):
        method, fit, validation, settings = start(seed=seed)
        order, loss = [], method.loss

        def spy(images, labels, settings):
            order.append([image.numpy().tobytes() for image in images])
            return loss(images, labels, settings)

        monkeypatch.setattr(method, "loss", spy)
        list(train(method, fit, validation, settings))
        everything = sorted(image.tobytes() for image in fit.images_NHWC)
        first, second = [*chain(*order[:3])], [*chain(*order[3:])]
        assert sorted(first) == sorted(second) == everything
        return first, second

    one, again, other = seen(1), seen(1), seen(2)
    assert one == again
    assert one[0] != one[1]
    assert one[0] != other[0]


def test_the_same_seed_trains_the_same_program_and_another_seed_another(start):
    def program(seed):
        method, *rest = start(seed=seed)
        found = losses(train(method, *rest))
        return found, {k: v.clone() for k, v in method.program_state().items()}

    (one_losses, one), (again_losses, again), (other_losses, _) = program(1), program(1), program(2)
    assert one_losses == again_losses != other_losses
    assert all(torch.equal(one[k], again[k]) for k in one)


@pytest.mark.parametrize("recipe", ["corrected", "released"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_generator_left_after_an_epoch_goes_on_bit_for_bit(start, recipe, stop):
    given = {"epochs": 4, "recipe": recipe, "warmup_steps": 5}
    method, *rest = start(**given)
    unbroken = list(train(method, *rest))
    for epoch in train(*start(**given)):
        state = epoch.state
        if epoch.record["epoch"] == stop:
            break
    method, *rest = start(**given)
    resumed = list(train(method, *rest, state))
    assert [e.record["epoch"] for e in resumed] == list(range(stop + 1, 5))
    assert losses(resumed) == losses(unbroken)[stop:]
    assert unbroken[-1].state.keys() == resumed[-1].state.keys()
    for name, value in unbroken[-1].state.items():
        assert torch.equal(value, resumed[-1].state[name]), name


def test_a_state_holds_everything_and_does_not_follow_later_training(start):
    epochs = list(train(*start()))
    assert {key.split(".")[0] for key in epochs[0].state} == {"program", "optimizer", "epoch"}
    assert not torch.equal(
        epochs[0].state["program.image_program.values"], epochs[1].state["program.image_program.values"]
    )


@pytest.mark.parametrize("warmup", [6, 7, 500])
def test_a_warm_up_as_long_as_the_run_is_refused(start, warmup):
    with pytest.raises(InputError, match=rf"warmup_steps = {warmup} is refused: the run has 6 steps \(3 an epoch\)"):
        next(train(*start(warmup_steps=warmup)))


def test_nothing_to_train_is_refused(start):
    with pytest.raises(InputError, match="nothing to train"):
        next(train(*start(program="image", padding=0)))


def test_a_loss_that_is_no_number_stops_with_what_to_lower(start):
    method, fit, validation, settings = start()
    with torch.no_grad():
        method.image_program.values[0, 0] = math.nan
    with pytest.raises(InputError, match=r"the loss is nan in epoch 1: lower the learning rate"):
        next(train(method, fit, validation, settings))


def test_a_last_batch_of_one_picture_trains(start):
    method, fit, validation, settings = start(batch_size=23)
    assert len(fit) == 24
    assert np.isfinite(losses(train(method, fit, validation, settings))).all()


@pytest.mark.parametrize(("program", "still"), [("image", "text_program"), ("text", "image_program")])
def test_one_program_alone_trains(start, program, still):
    method, *rest = start(program=program)
    list(train(method, *rest))
    assert getattr(method, still) is None
    assert not any(key.startswith(still) for key in method.program_state())


def test_validation_is_scored_over_the_classes_it_covers(start):
    method, _, validation, settings = start()
    part = validation.take(np.flatnonzero(validation.labels_N == 1))
    assert validation_accuracy(method, replace(part, covered=(1,)), settings) == 1.0


def test_the_loss_of_what_takes_no_steps_is_scikit_learns_in_whatever_parts(tiny, colours, monkeypatch):
    from scipy.special import softmax
    from sklearn.metrics import log_loss

    from reprog_kit import train as module
    from reprog_kit.features import encode, head
    from reprog_kit.zero_shot import ZeroShot

    settings = colours(method="zero_shot")
    data = BenchmarkData(load_benchmark(settings.dataset), settings.data_root)
    method = ZeroShot(tiny, data.captions)
    logits = head(method).logits(encode(method, data.train.images_NHWC))
    expected = log_loss(data.train.labels_N, softmax(logits, axis=1), labels=[0, 1, 2])
    for at_once in (10_000, 7):
        monkeypatch.setattr(module, "_LOGITS_AT_ONCE", at_once)
        assert losses(train(method, data.train, data.validation, settings)) == [pytest.approx(expected, rel=1e-6)]
