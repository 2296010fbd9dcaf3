"""The panel: traits and buttons, a training, a second panel, errors; headless a figure; a kernel that ends."""

import asyncio
import json
import math
import os
import threading
import time

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from jupyter_client.manager import KernelManager
from test_background import ENDLESS, YAML
from traitlets import TraitError

from reprog_kit import background, train_widgets
from reprog_kit.background import latest
from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.image_program import border_mask
from reprog_kit.padding_view import border_of, untrained_border
from reprog_kit.programs import load_program
from reprog_kit.run_folders import runs_of
from reprog_kit.runs import train_run
from reprog_kit.train_widgets import TrainPanel, training_panel
from reprog_kit.workbench import Workbench


@pytest.fixture(autouse=True)
def nothing_under_way(monkeypatch):
    """Tell every step, forget what other tests trained, and end what a test leaves under way."""
    monkeypatch.setattr(background, "_TELL_EVERY_S", 0.0)
    monkeypatch.setattr(background, "_latest", None)
    monkeypatch.setattr(train_widgets, "_panel", None)
    yield
    if latest():
        latest().leave(30)


@pytest.fixture
def where(benchmark_file, pictures, tower, tmp_path):
    """Return a function from the benchmark's settings to where the colours, the tiny model and the runs are."""

    def build(**changed) -> dict:
        dataset = benchmark_file(**{**YAML, "settings": {**YAML["settings"], **changed}})
        runs = str(tmp_path / "runs")
        return {"dataset": dataset, "model": tower("vit"), "data_root": str(pictures), "runs": runs, "device": "cpu"}

    return build


@pytest.fixture
def workbench(where):
    """Return a function that builds a workbench of the colours."""

    def build(budget=math.inf, **changed) -> Workbench:
        settings = ExploreSettings(**where(**changed), steps=11).model_copy(update={"budget": budget})
        return Workbench(settings)

    return build


async def until(holds) -> None:
    """Let the loop turn until something holds."""
    while not holds():
        await asyncio.sleep(0.005)


def test_the_panel_holds_typed_state_and_follows_the_workbench(workbench):
    bench = workbench(budget=45.0)
    panel = TrainPanel(bench)
    assert (panel.padding, panel.method, panel.seconds, panel.running) == (4, "reprogrammer", 45.0, False)
    bench.padding = 9
    assert panel.padding == panel.preview.padding == panel.preview.slider.value == 9
    panel.preview.slider.value = 3
    assert bench.padding == panel.padding == 3
    panel._method.value = "coop"
    assert panel.method == "coop" and panel.preview.slider.disabled
    panel.method = "reprogrammer"
    assert panel._method.value == "reprogrammer" and not panel.preview.slider.disabled
    assert [seconds for _, seconds in panel._seconds.options] == [20.0, 45.0, 60.0, 180.0, 600.0, math.inf]
    assert "24 pictures into 45 s" in panel.said
    panel.seconds = math.inf
    assert panel._seconds.label == "the benchmark's epochs" and "all epochs of the benchmark" in panel.said
    for name, wrong in (
        ("padding", 17),
        ("padding", 1.5),
        ("method", "zero_shot"),
        ("seconds", 7.0),
        ("seconds", -1.0),
    ):
        with pytest.raises(TraitError):
            setattr(panel, name, wrong)
    for name, wrong in (("running", True), ("said", "x")):
        with pytest.raises(TraitError):
            setattr(panel, name, wrong)
    assert (panel._train.disabled, panel._stop.disabled) == (False, True)


def test_without_a_reprogrammer_the_preview_is_what_a_training_starts_from(workbench):
    bench = workbench(init_std=0.5)
    shown = TrainPanel(bench).preview.view()
    assert shown.caption == "4 px, not trained yet: what a training starts from"
    expected = untrained_border(32, bench.training(padding=4))
    expected[~border_mask(32, 4).numpy()] = 0
    assert np.abs(expected).max() > 0.5
    seen = np.clip(shown.picture_SSC + 255 * expected, 0, 255)
    assert np.abs(shown.reprogrammed_SSC - seen).max() <= 1
    assert sorted(TrainPanel(bench).preview._pictures) == ["blue", "dim (shift)", "green", "red"]


def test_the_picture_s_size_is_the_benchmark_s(workbench):
    shown = TrainPanel(workbench(image_size=24, init_std=0.0)).preview.view()
    assert shown.reprogrammed_SSC[~border_mask(32, 4).numpy()].any()
    assert not shown.reprogrammed_SSC[border_mask(32, 4).numpy()].any()


def test_a_training_joins_and_its_border_is_shown_and_only_the_loop_touches_widgets(workbench):
    bench, threads, told = workbench(), set(), []

    async def use() -> TrainPanel:
        panel = TrainPanel(bench)
        panel.observe(lambda _: threads.add(threading.get_ident()), ["said", "running"])
        bench.observe(lambda change: told.append(change["new"]), "names")
        panel.padding = 6
        panel._train.click()
        assert panel.running and (panel._train.disabled, panel._stop.disabled) == (True, False)
        await until(lambda: not panel.running)
        return panel

    panel = asyncio.run(use())
    assert threads == {threading.get_ident()}
    assert told == [bench.names] and bench.names[-2:] == ["reprogrammer (padding 6)", "residual (padding 6)"]
    assert panel.said.endswith("In the comparison: reprogrammer (padding 6), residual (padding 6).")
    assert (panel._bar.value, panel._bar.bar_style) == (panel._bar.max, "success")
    assert (panel._train.disabled, panel._stop.disabled) == (False, True)
    assert (panel.preview.nearest, panel.preview.caption) == (6, "6 px, as trained")
    run = latest().state.run
    border = border_of(load_program(run.folder / "program.safetensors", bench.backbone))
    np.testing.assert_array_equal(panel.preview._programs[6], border)


def test_of_two_borders_of_a_width_the_one_just_trained_is_shown(workbench):
    bench = workbench()
    train_run(bench.training(init_std=0.9), backbone=bench.backbone)
    other = bench.evaluate(bench.known_runs()[0])

    async def use() -> TrainPanel:
        panel = TrainPanel(bench)
        for _ in range(2):  # the second time the run is there already, and joins in its old place
            panel.train()
            await until(lambda: not panel.running)
            bench.join(other)
        return panel

    panel = asyncio.run(use())
    borders = {
        line.evaluation.run.name: border_of(line.evaluation.method) for line in bench.lines.values() if line.moves
    }
    assert len(borders) == 2
    np.testing.assert_array_equal(panel.preview._programs[4], borders[latest().state.run.name])


def test_a_second_click_and_a_second_panel_follow_the_one_training(workbench):
    bench = workbench(epochs=ENDLESS)

    async def use() -> None:
        first = TrainPanel(bench)
        first.train()
        job = latest()
        first.train()
        first._train.click()
        second = TrainPanel(bench)  # the cell again, after the tab was loaded anew
        assert latest() is job and first.running and second.running and second._train.disabled
        await until(lambda: job.state.step > 4 and "Epoch" in second.said and "Epoch" in first.said)
        second._stop.click()
        await until(lambda: not first.running and not second.running)
        assert first.said == second.said and "stopped after" in first.said
        assert first._bar.bar_style == "warning"
        third = TrainPanel(bench)
        assert third.said == first.said and not third.running
        lines = [line for line in bench.lines.values() if line.evaluation is job.state.evaluation]
        assert [line.method for line in lines] == ["reprogrammer", "residual"]
        assert len(set(bench.names)) == len(bench.names) == len(bench.lines)

    asyncio.run(use())


def test_a_training_joins_a_workbench_that_was_built_anew_meanwhile_as_it_is_in_the_end(workbench):
    bench = workbench(epochs=ENDLESS)

    async def use() -> TrainPanel:
        TrainPanel(bench).train()
        await until(lambda: bench.known_runs() and len(bench.known_runs()[0].history) > 1)
        anew = workbench(epochs=ENDLESS)  # Run All, after the tab was loaded anew: it finds the run half trained
        half = anew.lines["reprogrammer"].evaluation
        panel = TrainPanel(anew)
        assert panel.running
        at = latest().state.step
        await until(lambda: latest().state.step > at + 6)
        panel.stop()
        await until(lambda: not panel.running)
        assert anew.lines["reprogrammer"].evaluation is not half
        return panel

    panel = asyncio.run(use())
    assert panel.said.endswith("In the comparison: reprogrammer, residual.")
    evaluation = panel.bench.lines["reprogrammer"].evaluation
    assert evaluation is not latest().state.evaluation and evaluation._plain is panel.bench.zero_shot
    ended, found = latest().state.evaluation.method.program_state(), evaluation.method.program_state()
    assert all(torch.equal(value, found[name]) for name, value in ended.items())
    assert TrainPanel(workbench(epochs=3)).said.startswith("Train takes all epochs")  # what is over is no news to it


def test_what_is_refused_is_said_and_the_panel_goes_on(workbench):
    panel = TrainPanel(workbench(budget=1e-6))
    panel.train()
    latest().wait(60)
    assert "a budget of 1e-06 s is too short here" in panel.said and not panel.running
    assert panel._bar.bar_style == "danger" and "&lt;" not in panel._text.value
    panel.seconds, panel.method = math.inf, "linear_probe"
    panel.train()
    latest().wait(60)
    assert panel.said.endswith("In the comparison: linear probe.")


def test_settings_that_are_refused_are_said_without_a_training(workbench):
    bench = workbench()
    panel = TrainPanel(bench)
    bench.settings = bench.settings.model_copy(update={"dataset": "demmo"})
    panel.train()
    assert "unknown dataset 'demmo'" in panel.said and latest() is None and not panel.running


def test_there_is_one_panel_a_workbench_and_headless_none(workbench, monkeypatch):
    bench = workbench()
    monkeypatch.setenv("JPY_SESSION_NAME", "somewhere")
    panel = training_panel(bench)
    assert isinstance(panel, TrainPanel) and training_panel(bench) is panel
    assert training_panel(workbench()) is not panel
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setattr(train_widgets, "TrainPanel", None)
    threads = threading.active_count()
    figure = training_panel(bench)
    assert type(figure) is go.Figure and len(figure.data) == 3
    assert figure.layout.title.text == "4 px, not trained yet: what a training starts from"
    assert threading.active_count() == threads and latest() is None


CELL = """
import json
from reprog_kit import background
from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.train_widgets import training_panel
from reprog_kit.workbench import Workbench
panel = training_panel(Workbench(ExploreSettings(**json.loads({where!r}), steps=11)))
panel.seconds = float("inf")
panel.train()
panel
"""


def test_a_kernel_shows_progress_and_ends_with_its_training_and_whole_files(where, tmp_path):
    places = where(epochs=ENDLESS)
    manager = KernelManager()
    manager.start_kernel(env={**os.environ, "JPY_SESSION_NAME": "somewhere"}, cwd=str(tmp_path))
    pid, client = manager.provisioner.pid, manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=120)

        def run(code: str) -> dict:
            answer = client.execute_interactive(code, timeout=120, output_hook=lambda _: None, user_expressions=ASK)
            assert answer["content"]["status"] == "ok", answer["content"]
            found = answer["content"]["user_expressions"]
            return {name: found[name]["data"]["text/plain"] for name in found}

        assert run(CELL.format(where=json.dumps(places)))["loop"] == "True"
        while not (found := runs_of(places["dataset"], places["runs"])):
            time.sleep(0.05)
        while "Epoch" not in (told := run(""))["said"]:
            time.sleep(0.05)
        assert told["running"] == "True" and told["threads"] == "1"
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    assert not manager.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    files = {path.name for path in found[0].folder.iterdir()}
    assert {"settings.yaml", "history.jsonl", "program.safetensors"} <= files
    assert not list((tmp_path / "runs").rglob("*.part"))
    rows = found[0].history
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    bench = Workbench(ExploreSettings(**places, steps=11))
    assert "reprogrammer" in bench.names


ASK = {
    "said": "panel.said", "running": "panel.running", "loop": "panel._loop is not None",
    "threads": "sum(t.name == 'reprog_kit training' for t in __import__('threading').enumerate())",
}  # fmt: skip
