"""One run on several processes: the numbers of one process, each picture once, one who writes and one who speaks.

The processes are real ones, on the CPU and through gloo. A start takes seconds, so each does as much as it can.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reprog_kit.__main__ import main
from reprog_kit.datasets import BenchmarkData
from reprog_kit.features import encode
from reprog_kit.launch import Told, _listen, processes_of
from reprog_kit.parameters import InputError
from reprog_kit.ranks import ALONE, Ranks, current, spread
from reprog_kit.run_folders import Run, find_run
from reprog_kit.runs import train_run, train_runs
from reprog_kit.settings import TrainSettings
from reprog_kit.together import device_for, is_main, joined, started
from reprog_kit.zero_shot import ZeroShot

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# 24 training pictures of the colours: in batches of 7 the last has 3, in batches of 23 it has 1, fewer than processes.
# SGD and larger rates in the place of tiny ones let a wrong factor on a gradient show, which Adam would hide; decay
# and weights that act on gradients do so too.
METHODS = {
    "both programs": {"batch_size": 7, "image_weight_decay": 0.1, "image_lr": 0.05, "text_lr": 0.005},
    "released": {"batch_size": 23, "recipe": "released", "warmup_steps": 1},
    "border alone": {"batch_size": 7, "program": "image", "loss": "captions", "image_weight_decay": 0.1},
    "fine_tune": {"batch_size": 7, "method": "fine_tune"},
    "l2_sp": {"batch_size": 23, "method": "l2_sp", "l2_sp": 1.0},
    "coop": {"batch_size": 7, "method": "coop", "lr": 0.5},
    "linear_probe": {"method": "linear_probe", "probe": "lbfgs"},
}
COUNTS = (1, 2, 3, 5, 24)
# What each process of `together` does; the settings and the folder come as arguments.
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from reprog_kit.backbone import load_backbone
from reprog_kit.datasets import BenchmarkData
from reprog_kit.features import encode
from reprog_kit.ranks import current
from reprog_kit.runs import train_run
from reprog_kit.settings import TrainSettings
from reprog_kit.together import joined
from reprog_kit.zero_shot import ZeroShot

every, folder = [TrainSettings(**given) for given in json.loads(sys.argv[1])], Path(sys.argv[2])
with joined(every[0]) as ranks:
    data = BenchmarkData.of(every[0])
    method = ZeroShot(load_backbone(every[0].model, device="cpu"), data.captions)
    for count in json.loads(sys.argv[3]):
        np.save(folder / f"{count}-{ranks.number}.npy", encode(method, data.train.images_NHWC[:count], 2, "fp32"))
    print("told", ranks.number, ranks.tell(7 + ranks.number))
for settings in every:
    train_run(settings)
print(f"alone again {current().count}")  # in one piece: two processes write
"""


def settled(run: Run) -> tuple[list[list[float]], dict[str, torch.Tensor]]:
    """Return of a run what does not depend on the clock: its history, and its program's tensors."""
    history = [[row[name] for name in ("epoch", "loss", "lr", "validation_accuracy")] for row in run.history]
    return history, load_file(run.folder / "program.safetensors")


def assert_close(one: Run, other: Run, most: float = 1e-5) -> None:
    """Check that two runs differ by no more than the order of summation in fp32.

    Adam divides by the gradient's size: where the gradient is rounding alone, so is a part of the step.
    """
    (history, tensors), (other_history, other_tensors) = settled(one), settled(other)
    np.testing.assert_allclose(history, other_history, rtol=1e-5, atol=1e-6)
    assert tensors.keys() == other_tensors.keys()
    for name, value in tensors.items():
        assert float((value - other_tensors[name]).abs().max()) <= most, name


def files(folder) -> list[str]:
    """Return the names of all files below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Bar:
    """A progress bar that counts, and presses Ctrl-C at a step."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.calls, self.steps, self.texts = stop_at, [], 0, []

    def __call__(self, total: int, done: int) -> "Bar":
        self.calls.append((total, done))
        return self

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_) -> None:
        self.calls.append("closed")

    def update(self) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            raise KeyboardInterrupt

    def set_postfix_str(self, text: str) -> None:
        self.texts.append(text)


class One(Ranks):
    """One of several, which never meet."""

    def __init__(self, count: int, number: int):
        self.count, self.number = count, number


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("total", [1, 2, 3, 5, 8, 9])
def test_shares_are_runs_of_equal_length_that_hold_every_row_once(count, total):
    size = int(np.ceil(total / count))
    laid_out = np.full(size * count, -1)
    for number in range(count):
        share = One(count, number).share(range(total))
        assert isinstance(share, range) and 1 <= len(share) <= size
        assert One(count, number).share(torch.arange(total)).tolist() == list(share)
        laid_out[number * size : number * size + len(share)] = share
    assert laid_out[:total].tolist() == list(range(total))


def test_one_process_alone_shares_nothing():
    rows = torch.arange(5.0)[:, None]
    assert current() is ALONE and ALONE.main and started() == 1 and is_main()
    assert torch.equal(ALONE.share(rows), rows) and ALONE.gather(rows, 5) is rows and ALONE.tell(3) == [3]
    assert torch.equal(spread(lambda given, factor: factor * given, rows, 2), 2 * rows)
    with joined(TrainSettings()) as ranks:
        assert ranks is ALONE


@pytest.mark.parametrize("value", [0, -1, 1.5, "all", True])
def test_a_number_of_processes_that_is_none_is_refused(value):
    with pytest.raises(InputError, match=f"processes = {value!r} is refused"):
        TrainSettings.build(processes=value)


def test_processes_are_a_number_or_all_gpus():
    cuda = torch.cuda.device_count()
    for given, expected in ((1, 1), (3, 3), ("2", 2), ("auto", 1)):
        assert processes_of(TrainSettings.build(processes=given, device="cpu")) == expected
    assert processes_of(TrainSettings.build(processes="auto")) == max(1, cuda)


def test_more_processes_than_gpus_and_one_device_for_all_are_refused():
    assert device_for("cpu", 1000) == "cpu"
    with pytest.raises(InputError, match=r"processes = 1000 is refused: each takes a GPU of its own, and this machine"):
        device_for("cuda", 1000)
    for one in ("cuda:1", "mps"):
        with pytest.raises(InputError, match=rf"device = '{one}' is refused with processes = 2.*auto, cuda, cpu"):
            processes_of(TrainSettings.build(device=one, processes=2))


@pytest.fixture(scope="module")
def together(pictures, tower, tmp_path_factory):
    """Runs of every method on one process and on two, and what the two did beside; the folder, and what they said."""
    folder = tmp_path_factory.mktemp("together")
    path = folder / "colours.yaml"
    path.write_text(
        "side: 16\nid: {train: {kind: folder, path: train}, validation: 0.2, test: {kind: folder, path: test}}\n"
    )
    where = {"dataset": str(path), "data_root": str(pictures), "model": tower("vit"), "device": "cpu"}
    quick = {"precision": "fp32", "keep": "last"}

    def settings(given: dict, runs: str) -> TrainSettings:
        border = {"padding": 4} if given.get("method", "reprogrammer") == "reprogrammer" else {}
        contexts = {"contexts": 5} if given.get("method") == "coop" else {}
        steps = {"epochs": 2, "warmup_steps": 1} if given.get("probe") != "lbfgs" else {}
        return TrainSettings.build(
            **where, **quick, **{**border, **contexts, **steps, **given}, runs=str(folder / runs)
        )

    alone = {name: train_run(settings(given, "one")) for name, given in METHODS.items()}
    # A run that was stopped on one process goes on on two.
    longer = {**METHODS["both programs"], "epochs": 3}
    alone["resumed"] = train_run(settings(longer, "one"))
    stopped = train_run(settings(longer, "two"), Bar(stop_at=6), lambda _: None)
    assert len(stopped.history) == 1
    every = [settings(given, "two").model_dump(mode="json") for given in (*METHODS.values(), longer)]
    (folder / "program.py").write_text(PROGRAM)
    arguments = [str(folder / "program.py"), json.dumps(every), str(folder), json.dumps(COUNTS)]
    done = subprocess.run([*TORCHRUN, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, alone, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [*METHODS, "resumed"])
def test_two_processes_train_what_one_trains(together, name):
    folder, alone, _ = together
    both = find_run(alone[name].name, str(folder / "two"))
    assert both.finished
    assert_close(both, alone[name])


@pytest.mark.slow
def test_the_runs_moved_far_enough_for_a_wrong_gradient_to_show(together):
    """Of half a gradient the tensors would be further off than the comparison lets pass."""
    _, alone, _ = together
    for name, run in alone.items():
        losses = [row["loss"] for row in run.history]
        assert len(losses) == 1 or abs(losses[-1] - losses[0]) > 1e-2, name


@pytest.mark.slow
def test_the_main_process_alone_writes_and_speaks(together):
    folder, alone, said = together
    assert {name for name in files(folder / "two") if "cache" not in name} == {
        f"{run.name}/{file}"
        for run in alone.values()
        for file in ("history.jsonl", "program.safetensors", "settings.yaml")
    }
    assert said.count("?step/s") == len(alone) - 1  # one bar a run, and none for the probe, which takes no steps
    assert said.count("alone again 1") == 2  # after the run everyone is free again
    assert "told 0 [7, 8]" in said and "told 1" not in said


@pytest.mark.slow
def test_features_are_gathered_in_order_and_each_once(together, tiny):
    folder, alone, _ = together
    data = BenchmarkData.of(next(iter(alone.values())).settings)
    method = ZeroShot(tiny, data.captions)
    for count in COUNTS:
        expected = encode(method, data.train.images_NHWC[:count], 256, "fp32")
        for number in (0, 1):
            found = np.load(folder / f"{count}-{number}.npy")
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-6)
    cached = [np.load(path) for path in (folder / "two" / "cache").glob("*.npy")]
    assert sorted(map(len, cached)) == sorted(len(np.load(p)) for p in (folder / "one" / "cache").glob("*.npy"))


@pytest.mark.slow
def test_torchrun_trains_the_demo_as_one_process_does(tmp_path, capfd):
    given = ["train", "demo"]
    for pair in ("limit 45", "epochs 2", "batch_size 16", "warmup_steps 1", "precision fp32", "device cpu"):
        given += ["-p", *pair.split()]
    assert main([*given, "-p", "runs", str(tmp_path / "one")]) == 0
    (alone,) = (tmp_path / "one").glob("demo-*")
    assert f"-p run {alone}" in capfd.readouterr().out
    program = ["-m", "reprog_kit", *given, "-p", "runs", str(tmp_path / "two")]
    done = subprocess.run([*TORCHRUN, *program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = find_run(alone.name, str(tmp_path / "two"))
    assert done.stdout.count(f"-p run {both.folder}") == 1
    assert both.settings.processes == 1  # torchrun said how many
    assert_close(both, find_run(str(alone)), most=1e-4)  # of steps of 0.02 and 0.002


@pytest.fixture
def heeds_sigint():
    """Heed an interrupt also where a shell in the background started the tests: what it starts ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_launched_run_is_interrupted_as_in_one_process_and_goes_on_there(colours, tmp_path, capfd, heeds_sigint):
    given = {"epochs": 2000, "batch_size": 7, "keep": "last"}  # a hundred are over before a signal has gone its way
    settings = colours(**given, processes=2)

    def press() -> None:
        while not list((tmp_path / "runs").glob("*/checkpoint.safetensors")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    (stopped,) = train_runs(settings)
    done, said = len(stopped.history), capfd.readouterr().out
    assert 1 <= done < 2000 and not stopped.finished and stopped.settings.processes == 2
    assert said.count(f"stopped after {done} of 2000 epochs; {stopped.name} is usable") == 1
    assert "0/8000" in said and "validation" in said  # the bar was seen here
    left = ["checkpoint.safetensors", "history.jsonl", "program.safetensors", "settings.yaml"]
    assert files(stopped.folder) == left  # whole files, and no part of one
    bar = Bar(stop_at=4)
    further = train_run(settings.model_copy(update={"processes": 1}), bar, lambda _: None)
    assert bar.calls[0] == (8000, 4 * done) and further.folder == stopped.folder


def test_what_is_told_on_one_side_is_heard_on_the_other(capfd):
    told, heard, bar, said = Told(), {}, Bar(), []
    print("\rdecoding", end="", flush=True)
    with told(12, 4) as shown:
        for _ in range(3):
            shown.update()
        shown.set_postfix_str("loss 1, näher")
    told.say("stopped")
    told.tell(run="a folder")
    lines = io.StringIO("a word\n" + capfd.readouterr().out, newline="")
    _listen(lines, heard, bar, said.append)
    assert bar.calls == [(12, 4), "closed"] and bar.steps == 3 and bar.texts == ["loss 1, näher"]
    assert said == ["stopped"] and heard == {"run": "a folder"}
    assert capfd.readouterr().out == "a word\n\rdecoding"


def test_the_first_failure_is_the_cause():
    heard = {}
    failures = [{"failed": "CUDA error"}, {"refused": "the disk is full"}, {"refused": "a process was lost"}]
    _listen([f"\x1e{json.dumps(failure)}\n" for failure in failures], heard, None, print)
    assert heard == {"failed": "CUDA error", "refused": "the disk is full"}


@pytest.mark.slow
def test_what_one_process_refuses_ends_all_of_them_with_one_message(colours, benchmark_file, pictures, tmp_path):
    """The pictures are decoded as they are needed, so that one process meets the damaged one in its share."""
    root = shutil.copytree(pictures, tmp_path / "own")
    (root / "train" / "red" / "00.png").write_bytes(b"no picture any more")
    settings = colours(data_root=str(root), stream=True, dataset=benchmark_file(), batch_size=23)
    given = {"model": settings.model, "data_root": root, "runs": settings.runs, "stream": True, "device": "cpu"}
    pairs = [part for name, value in given.items() for part in ("-p", name, str(value))]
    program = ["-m", "reprog_kit", "train", settings.dataset, *pairs, "-p", "warmup_steps", "1"]
    done = subprocess.run([*TORCHRUN, *program], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.count("00.png cannot be read as a picture") == 1, done.stderr
    assert "gloo" not in done.stderr
    assert not list((tmp_path / "runs").glob("*-*"))


def test_a_process_that_was_started_with_others_starts_none_itself(monkeypatch):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert started() == 2 and not is_main()
    assert processes_of(TrainSettings(processes=2)) == 1
    monkeypatch.setenv("RANK", "0")
    assert is_main()
    monkeypatch.delenv("LOCAL_RANK")  # WORLD_SIZE alone is also set by what starts single processes
    assert started() == 1
