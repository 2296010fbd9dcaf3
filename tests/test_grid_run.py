"""A grid, run: all methods in this process, with a failure and a stop; then by its command, killed and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from reprog_kit.__main__ import main
from reprog_kit.evaluation import Evaluation
from reprog_kit.files import read_rows
from reprog_kit.grid import Grid, plan_grid
from reprog_kit.grid_run import run_grid
from reprog_kit.grid_settings import METHODS
from reprog_kit.parameters import InputError
from reprog_kit.results import score
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings
from reprog_kit.worker import Outcome

SMALL = {"limit": 20, "batch_size": 10, "warmup_steps": 1}
# So long that it can be killed in between, and still takes seconds.
LONG = {**SMALL, "methods": "zero_shot,reprogrammer", "paddings": "4", "epochs": 15}


class InThisProcess:
    """An engine that trains and evaluates without a kernel; after `most` runs somebody presses Ctrl-C."""

    def __init__(self, most: int):
        self.most, self.names, self.first = most, [], None

    def describe(self) -> str:
        return "here"

    def run(self, jobs):
        for job in jobs:
            self.names.append(job.name)
            yield Outcome(job, self._failure(job), 1.0)
            if len(self.names) == self.most:
                raise KeyboardInterrupt

    def _failure(self, job) -> str:
        held = self.first and self.first.method.backbone
        try:
            run = train_run(TrainSettings.build(**job.parameters), backbone=held)
        except InputError as error:
            return str(error)
        settings = EvaluateSettings.build(run=run.name, runs=str(job.runs), resamples=2, device="cpu")
        found = Evaluation(settings, run, self.first)
        self.first = self.first or found
        score(found)
        return ""


def plan(runs: Path) -> Grid:
    return plan_grid("demo", True, seeds="1", runs=str(runs), epochs=1, **SMALL)


@pytest.fixture(scope="module")
def all_methods(tmp_path_factory):
    """The folder of a grid of every method, whose fifth run fails at first, and what its two stopped passes found."""
    runs = tmp_path_factory.mktemp("runs")
    damaged = plan(runs).cells[4].run.folder / "checkpoint.safetensors"
    damaged.parent.mkdir()
    damaged.write_bytes(b"half")
    engines, found = [InThisProcess(most=6), InThisProcess(most=2)], []
    for engine in engines:
        found.append(run_grid(plan(runs), engine))
        damaged.unlink(missing_ok=True)
    return runs, engines, found


@pytest.mark.slow
def test_a_failure_is_kept_for_the_end_and_stops_no_other_run(all_methods):
    _, (first, _), (found, _) = all_methods
    assert [name.split("-")[1] for name in first.names] == list(METHODS[:6])
    ((failed, why),) = found.failures.items()
    assert failed == first.names[4] and "checkpoint.safetensors is damaged" in why
    assert found.done == 5


@pytest.mark.slow
def test_what_is_done_is_skipped(all_methods):
    runs, (first, second), (stopped, whole) = all_methods
    assert [name.split("-")[1] for name in second.names] == [METHODS[4], METHODS[6]]
    assert {*first.names, *second.names} == {cell.name for cell in plan(runs).cells}
    assert whole.done == 7 and not whole.failures
    assert stopped.stopped and whole.stopped and stopped.page is whole.page is None  # no report after a Ctrl-C
    assert plan(runs).todo() == []


def of_these_runs(runs: Path) -> list[int]:
    """Return the processes, workers and kernels, whose environment names this folder's mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"REPROG_TEST={runs}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def until(holds, process=None) -> None:
    """Wait until something holds; five minutes are a failure, as is a process that ended before."""
    for _ in range(15_000):
        if holds():
            return
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it never came to that")


def learnt(folder: Path) -> list[dict]:
    """Return a run's history without what a clock says."""
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "peak_memory_mb", "images_per_s")}
        for record in read_rows(folder / "history.jsonl")
    ]


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes as Linux shows them")
def test_killed_in_a_training_the_same_command_goes_on_to_the_same_result_and_a_report(all_methods, tmp_path):
    runs, *_ = all_methods
    words = [str(word) for name, value in {**LONG, "runs": runs}.items() for word in ("-p", name, value)]
    command = [sys.executable, "-m", "reprog_kit", "reproduce", "demo", *words]
    how = {"env": {**os.environ, "REPROG_TEST": str(runs)}, "stderr": subprocess.STDOUT, "text": True}
    *_, cell = plan_grid("demo", runs=str(runs), **LONG).cells

    first = subprocess.Popen(command, stdout=subprocess.PIPE, **how)
    until((cell.run.folder / "checkpoint.safetensors").exists, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    until(lambda: not of_these_runs(runs))  # no worker and no kernel goes on writing
    begun = read_rows(cell.run.folder / "history.jsonl")
    assert cell.state == "started" and 1 <= len(begun) < LONG["epochs"]

    second = subprocess.run(command, stdout=subprocess.PIPE, **how)
    assert second.returncode == 0, second.stdout
    assert "1 of 2 runs to go: 1 run at a time on this machine" in second.stdout
    assert "2 of 2 runs are done" in second.stdout
    assert read_rows(cell.run.folder / "history.jsonl")[: len(begun)] == begun  # these epochs were not trained again
    # In a process as fresh as a worker's: after other tests the last digit of a float32 may be another.
    given = {**cell.given, "runs": tmp_path}
    words = [str(word) for name, value in given.items() if name != "dataset" for word in ("-p", name, value)]
    subprocess.run([sys.executable, "-m", "reprog_kit", "train", cell.given["dataset"], *words], check=True)
    unbroken = tmp_path / cell.name
    assert learnt(cell.run.folder) == learnt(unbroken)
    programs = [(folder / "program.safetensors").read_bytes() for folder in (cell.run.folder, unbroken)]
    assert programs[0] == programs[1]
    with FileLock(runs / "notebooks" / f".{cell.name}.lock", timeout=0):
        pass

    page = runs / "report-demo" / "report.html"
    assert second.stdout.rstrip().endswith(str(page))
    html = page.read_text()
    for name in ("zero-shot", "residual", "linear probe", "LP-FT", "L2-SP", "WiSE-FT", "CoOp", "fine-tuning"):
        assert f"{name} (" in html  # in brackets what was made small


@pytest.mark.slow
def test_the_command_tells_a_failure_and_how_to_go_on(tmp_path, capsys):
    (tmp_path / "notebooks").write_text("a file where the notebooks should go")
    given = ["-p", "methods", "zero_shot", "-p", "runs", str(tmp_path)]
    assert main(["reproduce", "demo", *given]) == 1
    said = capsys.readouterr().out
    assert "0 of 1 runs are done" in said
    assert "\nfailed: demo-zero_shot-mini-" in said and "\nFileExistsError: " in said
    assert f"skips what is done:\npython -m reprog_kit reproduce demo {' '.join(given)}\n" in said
    assert "open this page" not in said
