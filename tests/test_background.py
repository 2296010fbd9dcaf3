"""One training in the background: its phases, a stop in each, a second start, errors, and what the disk holds."""

import threading
import time

import pandas as pd
import pytest
from test_runs import assert_same

from reprog_kit import background
from reprog_kit.background import latest, outcome, start
from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.programs import load_program
from reprog_kit.run_folders import Run, runs_of
from reprog_kit.runs import train_run
from reprog_kit.workbench import Workbench

ENDLESS = 100_000
YAML = {"settings": {"epochs": 2, "batch_size": 8, "warmup_steps": 1, "padding": 4, "precision": "fp32"}}


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch):
    """Tell every step, and end what a test leaves under way."""
    monkeypatch.setattr(background, "_TELL_EVERY_S", 0.0)
    yield
    if latest():
        latest().leave(30)
        assert latest().state.over


@pytest.fixture
def where(benchmark_file, pictures, tower, tmp_path) -> dict:
    """Where the colours, the tiny model and the run folders are."""
    return {
        "dataset": benchmark_file(**YAML), "model": tower("vit"), "data_root": str(pictures),
        "runs": str(tmp_path / "runs"), "device": "cpu",
    }  # fmt: skip


@pytest.fixture
def bench(where) -> Workbench:
    return Workbench(ExploreSettings(**where, steps=11))


def reach(holds, job=None) -> None:
    """Wait until something holds, and no longer than the job lives."""
    while not holds():
        assert job is None or not job.state.over, job.state
        time.sleep(0.005)


def test_a_training_is_what_it_would_be_in_front_and_its_figures_are_ready(bench, tmp_path):
    asked = bench.training(padding=8)
    job, fresh = start(bench, asked)
    phases = []
    job.listen(lambda told: phases.append(told.state.phase))
    state = job.wait(60)
    assert fresh and latest() is job and state.phase == "done" and state.over
    in_front = train_run(asked.model_copy(update={"runs": str(tmp_path / "front")}))
    assert_same(state.run, in_front)
    order = [phase for phase, before in zip(phases, [None, *phases]) if phase != before]
    assert order in (["training", "evaluating", "done"], ["evaluating", "done"])
    assert state.text.startswith("Reprogrammer, 8 px of border: all the epochs of the benchmark; trained in ")
    names = bench.join(state.evaluation, state.tracks)
    assert names == ["reprogrammer (padding 8)", "residual (padding 8)"]
    for name in names:
        method = bench.lines[name].method
        assert bench.track(name, bench.score) is state.tracks[method, bench.score]
        again = bench._computed(bench.lines[name], bench.score)
        pd.testing.assert_frame_equal(again.percent, state.tracks[method, bench.score].percent)


@pytest.mark.parametrize("method", ["linear_probe", "coop", "lp_ft"])
def test_other_methods_within_a_budget(bench, method):
    given = {"contexts": 5} if method == "coop" else {}
    job, _ = start(bench, bench.training(method=method, **given), 600)
    state = job.wait(60)
    assert state.phase == "done" and "24 pictures, about" in state.text and state.run.finished
    assert {m for m, _ in state.tracks} == {method}
    assert bench.join(state.evaluation, state.tracks)[0] in bench.names


def test_a_budget_cuts_the_epochs_and_the_second_run_is_the_first(bench):
    asked = bench.training(padding=2).model_copy(update={"epochs": ENDLESS})
    first = start(bench, asked, 0.5)[0].wait(60)
    assert first.phase == "done" and first.run.settings.epochs < ENDLESS
    assert f"{first.run.settings.epochs} of {ENDLESS} epochs of 24 pictures" in first.text
    second = start(bench, asked, 0.5)[0].wait(60)
    assert second.run.folder == first.run.folder and "trained before" in second.text
    assert bench.join(first.evaluation) == bench.join(second.evaluation)


def test_a_second_start_returns_the_one_under_way(bench):
    job, fresh = start(bench, bench.training(padding=8).model_copy(update={"epochs": ENDLESS}))
    assert fresh
    assert start(bench, bench.training(padding=2)) == (job, False)
    reach(lambda: job.state.step > 3, job)
    assert start(bench, bench.training(padding=2)) == (job, False)
    assert sum(thread.name == "reprog_kit training" for thread in threading.enumerate()) == 1
    job.stop()
    assert job.wait(60).over
    assert start(bench, bench.training(padding=2))[1]


def test_a_stop_after_an_epoch_leaves_a_run_that_is_evaluated_and_goes_on(bench):
    asked = bench.training().model_copy(update={"epochs": ENDLESS})
    job, _ = start(bench, asked)
    reach(lambda: job.state.run is None and job.state.step > 8, job)
    seen = []
    job.listen(lambda told: seen.append((told.state.phase, told.state.step)))
    job.stop()
    at = job.state.step
    state = job.wait(60)
    assert max([step for phase, step in seen if phase == "training"], default=at) <= at + 1
    done = len(state.run.history)
    assert state.phase == "stopped" and state.evaluation is not None and 2 <= done < ENDLESS
    assert f"stopped after {done} of {ENDLESS} epochs" in state.text and "Train goes on from there" in state.text
    assert bench.join(state.evaluation, state.tracks)[0].startswith("reprogrammer (")

    again, _ = start(bench, asked)
    reach(lambda: again.state.step > 3 * done + 3, again)
    again.stop()
    assert len(again.wait(60).run.history) > done


def test_a_stop_before_an_epoch_leaves_nothing(bench, where):
    job, _ = start(bench, bench.training().model_copy(update={"epochs": ENDLESS}))
    job.stop()
    state = job.wait(60)
    assert state.phase == "stopped" and state.run is None and "nothing is kept" in state.text
    assert runs_of(where["dataset"], where["runs"]) == []


def test_a_stop_while_measuring(bench, where):
    job, _ = start(bench, bench.training(padding=3, batch_size=4), 600)
    job.stop()
    state = job.wait(60)
    assert state.phase == "stopped" and "nothing is kept" in state.text
    assert runs_of(where["dataset"], where["runs"]) == []


def test_a_stop_while_evaluating_keeps_the_run_and_the_next_start_evaluates_it(bench):
    asked = bench.training(padding=8).model_copy(update={"epochs": ENDLESS})
    job, _ = start(bench, asked)
    reach(lambda: job.state.step > 3, job)
    job.listen(lambda told: told.stop() if told.state.phase == "evaluating" else None)
    job.stop()
    state = job.wait(60)
    assert state.phase == "stopped" and state.evaluation is None and "Train takes it up again" in state.text
    whole = [state.run.folder / name for name in ("settings.yaml", "history.jsonl", "program.safetensors")]
    assert all(path.is_file() for path in whole)
    load_program(whole[-1], bench.backbone)


def test_what_cannot_be_trained_is_said_and_the_next_start_works(bench):
    asked = bench.training()
    state = start(bench, asked.model_copy(update={"image_lr": 1e30, "init_std": 1e30, "text_lr": 1e30}))[0].wait(60)
    assert state.phase == "failed" and state.text.startswith("the loss is nan in epoch")
    state = start(bench, asked, 1e-9)[0].wait(60)
    assert state.phase == "failed" and state.text.startswith("a budget of 1e-09 s is too short here")
    state = start(bench, asked.model_copy(update={"batch_size": 0}))[0].wait(60)
    assert state.phase == "failed" and state.text.startswith("ZeroDivisionError: ")
    state = start(bench, asked.model_copy(update={"warmup_steps": 500}))[0].wait(60)
    assert state.phase == "done" and state.run.settings.warmup_steps == 2  # of 6 steps: the panel has no way to say so
    assert start(bench, asked)[0].wait(60).phase == "done"


def test_progress_says_epoch_figures_and_what_is_left(bench):
    job, _ = start(bench, bench.training().model_copy(update={"epochs": ENDLESS}))
    texts = []
    job.listen(lambda told: texts.append((told.state.step, told.state.text)))
    reach(lambda: job.state.step > 10, job)
    job.stop()
    assert job.state.total == 3 * ENDLESS
    job.wait(60)
    step, text = next((step, text) for step, text in texts if step > 6)
    assert f"Epoch {step // 3 + 1} of {ENDLESS}; loss " in text
    assert "images/s, validation " in text and text.endswith(" left.")


def test_the_outcome_counts_the_epoch_that_is_kept(colours, tmp_path):
    made, rows = colours(epochs=3, keep="best"), [(0.5, 61.0), (0.75, 60.0)]
    run = Run(tmp_path, made)
    lines = [f'{{"epoch": {i}, "validation_accuracy": {a}, "seconds": {s}}}\n' for i, (a, s) in enumerate(rows, 1)]
    (tmp_path / "history.jsonl").write_text("".join(lines))
    assert outcome(run, "plan") == "stopped after 2 of 3 epochs, validation 75.0%. Train goes on from there."
    (tmp_path / "program.safetensors").touch()
    (tmp_path / "history.jsonl").write_text("".join([*lines, lines[0]]))
    assert outcome(run, "3 epochs") == "3 epochs; trained in 3 min 2 s, validation 75.0%."
    assert outcome(Run(tmp_path, colours(epochs=3, keep="last")), "p", True) == "p; trained before, validation 50.0%."
