"""A run in a process of its own, and processes side by side: what goes wrong in one is said, and the others go on."""

import os
import signal
import subprocess

import pytest
import torch
from filelock import FileLock

from reprog_kit import worker
from reprog_kit.engines import Local, visible_gpus
from reprog_kit.grid_settings import GridSettings
from reprog_kit.parameters import InputError
from reprog_kit.picture_cache import cpu_count
from reprog_kit.worker import Job, perform, start


@pytest.fixture
def jobs(tmp_path):
    """Return a function to a job whose notebooks are never reached: a file stands where its runs folder should be."""
    (tmp_path / "file").write_text("")

    def make(name: str) -> Job:
        return Job(name, {"runs": str(tmp_path / "file" / name), "seed": 1})

    return make


@pytest.fixture
def waiting(tmp_path):
    """A job that waits, since another is at its run."""
    job = Job("taken", {"runs": str(tmp_path), "seed": "1"})
    job.notebooks.mkdir()
    with FileLock(job.notebooks / ".taken.lock"):
        yield job


def test_a_run_that_another_process_is_at_is_left_alone(waiting, monkeypatch):
    monkeypatch.setattr(worker, "_PATIENCE", 0.01)
    with pytest.raises(InputError, match="another process is at this run"):
        perform(waiting)


def test_what_went_wrong_comes_back(jobs):
    assert start(jobs("a")).startswith("NotADirectoryError: ")
    assert start(jobs("a"), {"PYTHONHOME": "/nowhere"}).startswith("its process ended with status 1: ")


def test_a_killed_process_is_a_failure_and_no_crash(waiting):
    assert "ended by signal 9" in start(waiting, started=subprocess.Popen.kill)


def test_a_worker_ends_with_its_input(waiting):
    seen = []

    def close_its_input(process: subprocess.Popen) -> None:
        seen.append(process)
        process.stdin.write(
            b'{"name": "taken", "parameters": {"runs": "%s", "seed": 1}}\n' % str(waiting.runs).encode()
        )
        process.stdin.close()
        process.stdin = open(os.devnull, "wb")  # noqa: SIM115

    assert "status 1" in start(waiting, started=close_its_input)  # not that it waited: that would be said
    assert seen[0].returncode == 1


def test_processes_side_by_side_go_on_after_a_failure(jobs):
    engine = Local(GridSettings(workers=2), "cpu")
    outcomes = list(engine.run([jobs(name) for name in "abc"]))
    assert sorted(outcome.job.name for outcome in outcomes) == ["a", "b", "c"]
    assert all(outcome.failure.startswith("NotADirectoryError") and outcome.seconds > 0 for outcome in outcomes)


def test_closed_early_it_ends_what_is_under_way_and_starts_nothing_more(jobs, waiting):
    engine = Local(GridSettings(workers=2), "cpu")
    outcomes = engine.run([jobs("a"), waiting, waiting, waiting])
    assert next(outcomes).job.name == "a"
    outcomes.close()
    assert len(engine._alive) <= 3
    assert {process.wait() for process in engine._alive} <= {1, -signal.SIGKILL}
    assert -signal.SIGKILL in {process.returncode for process in engine._alive}


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("reprog_kit.engines.cpu_count", lambda: 8)
    assert Local(GridSettings(), "cpu").environments == [{"OMP_NUM_THREADS": "2"}] * 4
    assert Local(GridSettings(cores=3), "cpu").environments == [{"OMP_NUM_THREADS": "4"}] * 2
    assert Local(GridSettings(workers=5), "cpu").environments == [{"OMP_NUM_THREADS": "1"}] * 5
    assert Local(GridSettings(), "cpu").describe() == "4 runs at a time on this machine, 2 threads each"
    assert Local(GridSettings(cores=9), "cpu").describe() == "1 run at a time on this machine, 8 threads each"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Local(GridSettings(), "cpu").environments == [{"OMP_NUM_THREADS": "1"}] * 4


def test_each_worker_has_a_gpu_of_those_there_are(monkeypatch):
    """Only the count of GPUs is made up: what runs are told does not need one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == visible_gpus("cuda") == ["0", "1", "2"]
    assert visible_gpus("cpu") == visible_gpus("cuda:1") == []
    monkeypatch.setattr("reprog_kit.engines.pick_device", lambda _: torch.device("cuda"))
    assert [each["CUDA_VISIBLE_DEVICES"] for each in Local(GridSettings()).environments] == ["0", "1", "2"]
    assert Local(GridSettings()).describe() == "3 runs at a time on this machine, 3 GPUs"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    found = [each["CUDA_VISIBLE_DEVICES"] for each in Local(GridSettings(workers=3)).environments]
    assert found == ["5", "GPU-7", "5"]
    assert len(Local(GridSettings(), "cuda:1").environments) == 1 <= cpu_count()
