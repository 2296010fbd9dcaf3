"""A grid, run: all methods in this process; through real kernels killed, gone on with, and with runs that fail."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from reprog_kit.engines import Outcome
from reprog_kit.evaluation import Evaluation
from reprog_kit.files import read_rows
from reprog_kit.grid import plan_grid
from reprog_kit.grid_run import run_grid
from reprog_kit.results import score
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings

SMALL = {"limit": 40, "batch_size": 20, "warmup_steps": 1}


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
    """Let kernels share compiled files, also where none are to be written beside the code: starting takes a third."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        yield


class InThisProcess:
    """An engine that trains and evaluates without a kernel; after `most` runs somebody presses Ctrl-C."""

    def __init__(self, most: int = 99):
        self.most, self.names = most, []

    def describe(self) -> str:
        return "here"

    def run(self, jobs):
        for job in jobs:
            if len(self.names) == self.most:
                raise KeyboardInterrupt
            self.names.append(job.name)
            run = train_run(TrainSettings.build(**job.parameters))
            settings = EvaluateSettings.build(run=run.name, runs=str(job.runs), resamples=10, device="cpu")
            score(Evaluation(settings, run))
            yield Outcome(job, "", 1.0)


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.xdist_group("notebooks")
def test_the_whole_demo_grid_in_small_with_a_stop_ends_with_a_report_of_every_method(tmp_path, capsys):
    def plan():
        return plan_grid("demo", True, seeds="1,2", runs=str(tmp_path), epochs=2, **SMALL)

    first = InThisProcess(most=4)
    found = run_grid(plan(), first)
    assert found.stopped and found.done == 4 and found.page is None and not found.failures
    second = InThisProcess()
    found = run_grid(plan(), second)
    assert found.done == 13 and not found.stopped and not found.failures
    assert len(first.names + second.names) == len(set(first.names + second.names)) == 13
    assert "9 of 13 runs to go: here" in capsys.readouterr().out
    html = found.page.read_text()
    for name in ("zero-shot", "residual", "linear probe", "LP-FT", "L2-SP", "WiSE-FT", "CoOp", "fine-tuning"):
        assert f"{name} (" in html  # in brackets what was made small
    assert "seeds 1, 2" in html
    third = InThisProcess()
    assert run_grid(plan(), third).page == found.page and third.names == []  # all is skipped, the report made anew


def command(runs: Path, *given: str) -> list[str]:
    parameters = {"methods": "fine_tune,reprogrammer", "paddings": "2,4", "lr": "1e30", "epochs": "12", "runs": runs}
    words = [str(word) for name, value in {**parameters, **SMALL}.items() for word in ("-p", name, value)]
    return [sys.executable, "-m", "reprog_kit", "reproduce", "demo", *words, *given]


def of_these_runs(runs: Path) -> list[int]:
    """Return the processes, workers and kernels, whose environment or command names this folder's mark."""
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
    for _ in range(3000):
        if holds():
            return
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("it never came to that")


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.xdist_group("notebooks")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes as Linux shows them")
def test_killed_in_a_training_it_goes_on_and_what_fails_is_told_at_the_end(tmp_path):
    environment = {**os.environ, "REPROG_TEST": str(tmp_path)}
    how = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = subprocess.Popen(command(tmp_path), **how)
    until(lambda: list(tmp_path.glob("demo-reprogrammer-*/checkpoint.safetensors")), first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    until(lambda: not of_these_runs(tmp_path))  # no worker and no kernel goes on writing
    (run,) = tmp_path.glob("demo-reprogrammer-*")
    begun = read_rows(run / "history.jsonl")
    assert 1 <= len(begun) < 12 and not (run / "results.jsonl").exists()

    second = subprocess.run(command(tmp_path, "-p", "workers", "2"), **how)
    said = second.stdout
    assert second.returncode == 1
    assert "3 of 3 runs to go: 2 runs at a time on this machine" in said and "2 of 3 runs are done" in said
    assert read_rows(run / "history.jsonl")[: len(begun)] == begun  # these epochs were not trained again
    folders = list(tmp_path.glob("demo-reprogrammer-*"))
    assert {row["padding"] for folder in folders for row in read_rows(folder / "results.jsonl")} == {2, 4}
    assert [len(read_rows(folder / "history.jsonl")) for folder in folders] == [12, 12]
    failed = "fine_tune-mini-[0-9a-f]{8}-s1\ntrain.ipynb stopped: InputError: the loss is nan in epoch 1: lower the"
    assert len(re.findall(failed, said)) == 1
    assert "python -m reprog_kit reproduce demo -p methods fine_tune,reprogrammer" in said
    assert (tmp_path / "report-demo" / "report.html").is_file() and "report-demo/report.html" in said
    with FileLock(tmp_path / "notebooks" / f".{run.name}.lock", timeout=0):
        pass
