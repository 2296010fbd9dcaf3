"""A run is a folder: what it holds, what a kill costs, what is reused, and which program files are refused."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save, save_file

from reprog_kit import files, programs
from reprog_kit import runs as module
from reprog_kit.files import read_rows, write_rows
from reprog_kit.parameters import InputError
from reprog_kit.programs import FORMAT, load_program, save_program
from reprog_kit.reprogrammer import Reprogrammer
from reprog_kit.run_folders import Run, find_run
from reprog_kit.runs import train_run
from reprog_kit.settings import TrainSettings

EXACT = ("epoch", "loss", "validation_accuracy", "lr")


class Killed(BaseException):
    """Stands for a kill: nothing in the library catches it."""


def exact(run: Run) -> list[list]:
    """Return of the history what does not depend on the clock."""
    return [[record[name] for name in EXACT] for record in run.history]


def read(path) -> tuple[dict, dict]:
    """Return what a program file says about itself, and its tensors."""
    with safe_open(path, "pt") as file:
        said = {k: json.loads(v) for k, v in file.metadata().items()}
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    return said if "format" in said else next(iter(said.values())), tensors


def assert_same(one: Run, other: Run) -> None:
    """Check that programs and histories are equal to the last bit."""
    (about, tensors), (other_about, other_tensors) = (read(run.folder / "program.safetensors") for run in (one, other))
    assert exact(one) == exact(other)
    assert about == other_about
    assert tensors.keys() == other_tensors.keys()
    assert all(torch.equal(tensors[k], other_tensors[k]) for k in tensors)


@pytest.fixture
def kill_at(monkeypatch):
    """Return a function after which the n-th writing of a file of that name kills, before anything is written."""
    real = module.write_whole

    def arm(name: str, n: int) -> None:
        left = [n]

        def write(path, content):
            if path.name == name:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
            return real(path, content)

        for writer in (module, programs, files):
            monkeypatch.setattr(writer, "write_whole", write)

    def disarm() -> None:
        for writer in (module, programs, files):
            monkeypatch.setattr(writer, "write_whole", real)

    arm.disarm = disarm
    return arm


@pytest.fixture
def count_passes(monkeypatch):
    """Count the epochs that are really trained."""
    passes, real = [], module.train

    def train(*given):
        for epoch in real(*given):
            passes.append(epoch.record["epoch"])
            yield epoch

    monkeypatch.setattr(module, "train", train)
    return passes


def test_a_finished_run_leaves_its_files_and_no_other(colours, tmp_path):
    run = train_run(colours())
    assert sorted(p.name for p in run.folder.iterdir()) == ["history.jsonl", "program.safetensors", "settings.yaml"]
    assert run.folder.parent == tmp_path / "runs"
    assert run.finished
    assert [record["epoch"] for record in run.history] == [1, 2]
    assert run.results == []
    assert run.name.startswith("colours-reprogrammer-vit")
    assert run.name.endswith("-s1")


def test_the_settings_in_the_folder_are_those_used_and_build_the_same_run_again(colours):
    run = train_run(colours(padding=None))
    kept = yaml.safe_load((run.folder / "settings.yaml").read_text())
    assert (kept["padding"], kept["image_size"]) == (2, 32)  # 32 // 14, and the whole canvas
    assert TrainSettings.build(**kept) == run.settings
    assert train_run(TrainSettings.build(**kept)).folder == run.folder


def test_what_does_not_decide_the_result_does_not_decide_the_name(colours, pictures, tmp_path):
    same = train_run(colours(epochs=1)).name
    shutil.rmtree(tmp_path / "runs")
    assert train_run(colours(epochs=1, runs=str(tmp_path / "elsewhere"), resume=False)).name == same
    others = [{"seed": 2}, {"padding": 5}, {"image_lr": 0.1}, {"recipe": "released", "warmup_steps": 1}, {"limit": 12}]
    names = {train_run(colours(epochs=1, **other)).name for other in others}
    assert len(names | {same}) == 1 + len(others)


def test_a_changed_caption_is_another_run(colours, benchmark_file):
    first = train_run(colours(epochs=1)).name
    assert train_run(colours(epochs=1, dataset=benchmark_file(caption="{}"))).name != first
    assert train_run(colours(epochs=1, dataset=benchmark_file(title="T"))).name == first


def test_the_program_file_says_what_it_belongs_to(colours, tiny):
    run = train_run(colours())
    about, tensors = read(run.folder / "program.safetensors")
    assert tensors.keys() == {"image_program.values", "text_program.rows", "text_program.bias"}
    expected = {
        "format": FORMAT,
        "backbone": tiny.fingerprint,
        "classes": ["blue", "green", "red"],
        "captions": ["a photo of a blue", "a photo of a green", "a photo of a red"],
        "canvas": 32,
        "picture_side": 16,
    }
    assert {k: about[k] for k in expected} == expected
    made = about["settings"]
    assert (made["method"], made["recipe"], made["padding"], made["image_size"]) == ("reprogrammer", "corrected", 4, 32)
    assert "lr" not in made  # what the method has no use for


def test_a_loaded_program_gives_the_features_that_were_trained(colours, tiny):
    run = train_run(colours(keep="last", image_size=30))
    loaded = load_program(run.folder / "program.safetensors", tiny)
    assert (loaded.padding, loaded.image_size) == (4, 30)
    fresh = Reprogrammer.from_settings(tiny, (), loaded.captions, run.settings)
    for name, value in loaded.program_state().items():
        assert not torch.equal(value, fresh.program_state()[name]), name
    _, tensors = read(run.folder / "program.safetensors")
    assert all(torch.equal(tensors[k], v) for k, v in loaded.program_state().items())


@pytest.mark.parametrize(
    ("accuracies", "kept"), [([0.2, 0.9, 0.5], 2), ([0.5, 0.5, 0.5], 1), ([0.1, 0.2, 0.3], 3), ([0.0, 0.0, 0.0], 1)]
)
def test_the_best_epoch_on_validation_is_kept_and_the_first_of_equals(colours, monkeypatch, accuracies, kept):
    left = iter(accuracies)
    monkeypatch.setattr("reprog_kit.train.validation_accuracy", lambda *given: next(left))
    run = train_run(colours(epochs=3))
    assert read(run.folder / "program.safetensors")[0]["epoch"] == kept


def test_keep_last_keeps_the_last(colours, monkeypatch):
    left = iter([0.9, 0.2])
    monkeypatch.setattr("reprog_kit.train.validation_accuracy", lambda *given: next(left))
    run = train_run(colours(keep="last"))
    assert read(run.folder / "program.safetensors")[0]["epoch"] == 2


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize(
    ("file", "n"),
    [("settings.yaml", 1), ("program.safetensors", 1), ("history.jsonl", 1), ("checkpoint.safetensors", 1)]
    + [("history.jsonl", 3), ("checkpoint.safetensors", 2), ("checkpoint.safetensors", 3)],
)
def test_a_run_killed_between_its_writes_ends_as_an_unbroken_one(colours, tmp_path, kill_at, keep, file, n):
    given = {"epochs": 4, "keep": keep, "image_lr": 0.05}
    unbroken = train_run(colours(**given, runs=str(tmp_path / "unbroken")))
    kill_at(file, n)
    with pytest.raises(Killed):
        train_run(colours(**given))
    kill_at.disarm()
    assert_same(train_run(colours(**given)), unbroken)


def test_a_kill_before_the_last_checkpoint_still_ends_without_a_checkpoint(colours, kill_at):
    kill_at("checkpoint.safetensors", 2)
    with pytest.raises(Killed):
        train_run(colours())
    kill_at.disarm()
    run = train_run(colours())
    assert run.finished
    assert not (run.folder / "checkpoint.safetensors").exists()


def test_a_killed_run_repeats_no_epoch_that_has_a_checkpoint(colours, kill_at, count_passes):
    kill_at("checkpoint.safetensors", 3)
    with pytest.raises(Killed):
        train_run(colours(epochs=4))
    kill_at.disarm()
    train_run(colours(epochs=4))
    assert count_passes == [1, 2, 3, 3, 4]


@pytest.mark.slow
def test_a_run_killed_by_the_system_in_the_middle_of_an_epoch_ends_as_an_unbroken_one(colours, tmp_path, tiny):
    """SIGKILL in another process, in the second step of the third epoch."""
    settings = colours(epochs=4, keep="last")
    unbroken = train_run(colours(epochs=4, keep="last", runs=str(tmp_path / "unbroken")))
    program = (
        "import json, os, signal, sys\n"
        "from reprog_kit import runs, reprogrammer\n"
        "from reprog_kit.settings import TrainSettings\n"
        "loss, steps = reprogrammer.Reprogrammer.loss, []\n"
        "def counted(self, *given):\n"
        "    steps.append(1)\n"
        "    if len(steps) == 8:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return loss(self, *given)\n"
        "reprogrammer.Reprogrammer.loss = counted\n"
        "runs.train_run(TrainSettings(**json.loads(sys.argv[1])))\n"
    )
    asked = json.dumps(settings.model_dump(mode="json"))
    done = subprocess.run([sys.executable, "-c", program, asked], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder,) = (tmp_path / "runs").glob("*-*")
    assert len(read_rows(folder / "history.jsonl")) == 2
    assert (folder / "checkpoint.safetensors").is_file()
    assert read(folder / "program.safetensors")[0]["backbone"] == tiny.fingerprint  # the same in both processes
    assert_same(train_run(settings), unbroken)


def test_a_finished_run_is_returned_as_it_is(colours, count_passes, capsys):
    run = train_run(colours())
    before = {p.name: p.read_bytes() for p in run.folder.iterdir()}
    assert train_run(colours()).folder == run.folder
    assert count_passes == [1, 2]
    assert {p.name: p.read_bytes() for p in run.folder.iterdir()} == before
    assert "is finished already; resume = False trains it anew" in capsys.readouterr().out


def test_without_resume_it_is_trained_anew_to_the_same_end(colours, count_passes, tmp_path):
    run = train_run(colours())
    run.add_results([{"method": "x"}])
    shutil.copytree(run.folder, tmp_path / "kept")
    again = train_run(colours(resume=False))
    assert count_passes == [1, 2, 1, 2]
    assert_same(again, Run(tmp_path / "kept", run.settings))
    assert run.results == []  # what was said about the old one is gone


def test_the_same_program_is_the_same_file_to_the_last_byte(program_file, tiny, tmp_path):
    method, (about, _) = load_program(program_file, tiny), read(program_file)
    for i in range(4):
        save_program(tmp_path / f"{i}", method, TrainSettings(model=about["model"], padding=3), ("cat", "dog"), 20, 1)
        assert (tmp_path / f"{i}").read_bytes() == program_file.read_bytes()


def test_without_resume_a_run_that_cannot_be_trained_anew_is_not_lost(colours, pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "own")
    run = train_run(colours(data_root=str(root)))
    (root / "train" / "red" / "00.png").write_bytes(b"no picture any more")
    with pytest.raises(InputError, match=r"00\.png"):
        train_run(colours(data_root=str(root), resume=False))
    assert run.finished


def interrupt(monkeypatch, after: int) -> None:
    """Press Ctrl-C in the step that follows so many epochs of three steps."""
    steps, loss = [], Reprogrammer.loss

    def pressed(self, *given):
        steps.append(1)
        if len(steps) == 3 * after + 2:
            raise KeyboardInterrupt
        return loss(self, *given)

    monkeypatch.setattr(Reprogrammer, "loss", pressed)


def test_ctrl_c_after_an_epoch_leaves_a_usable_run_that_goes_on(colours, tmp_path, tiny, monkeypatch, capsys):
    unbroken = train_run(colours(epochs=3, runs=str(tmp_path / "unbroken")))
    with monkeypatch.context() as patch:
        interrupt(patch, after=1)
        run = train_run(colours(epochs=3))
    assert "stopped after 1 of 3 epochs" in capsys.readouterr().out
    assert not run.finished
    assert load_program(run.folder / "program.safetensors", tiny).padding == 4
    assert find_run("newest", str(tmp_path / "runs")).folder == run.folder
    assert_same(train_run(colours(epochs=3)), unbroken)


class Steps:
    """A progress bar that counts, and presses Ctrl-C at a step."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.calls, self.at, self.texts = stop_at, [], 0, []

    def __call__(self, total: int, done: int) -> "Steps":
        self.calls.append((total, done))
        self.at = done
        return self

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_) -> None:
        self.calls.append("closed")

    def update(self) -> None:
        self.at += 1
        if self.at == self.stop_at:
            raise KeyboardInterrupt

    def set_postfix_str(self, text: str) -> None:
        self.texts.append(text)


def test_progress_is_told_every_step_and_may_stop_and_the_run_goes_on(colours, tmp_path, capsys):
    unbroken = train_run(colours(epochs=3, runs=str(tmp_path / "unbroken")))
    capsys.readouterr()
    steps, said = Steps(stop_at=5), []  # three steps an epoch
    run = train_run(colours(epochs=3), steps, said.append)
    assert steps.calls == [(9, 0), "closed"] and len(steps.texts) == 1
    assert steps.texts[0].startswith("loss ") and "images/s, validation " in steps.texts[0]
    assert len(run.history) == 1 and "stopped after 1 of 3 epochs" in said[0]
    steps = Steps()
    assert_same(train_run(colours(epochs=3), steps, said.append), unbroken)
    assert steps.calls == [(9, 3), "closed"] and steps.at == 9 and len(steps.texts) == 2
    train_run(colours(epochs=3), Steps(stop_at=1), said.append)
    assert len(said) == 2 and "is finished already" in said[1]
    with pytest.raises(KeyboardInterrupt):
        train_run(colours(epochs=3, seed=2), Steps(stop_at=2), said.append)
    assert not list((tmp_path / "runs").glob("*-s2"))
    assert capsys.readouterr().out == ""


def test_a_loaded_backbone_is_used_and_stays_as_it_was(colours, tmp_path, tower):
    backbone = module.load_backbone(tower("vit"), device="cpu")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    for method in ("reprogrammer", "fine_tune", "coop"):
        own = train_run(colours(method=method, runs=str(tmp_path / "own")))
        assert_same(train_run(colours(method=method), backbone=backbone), own)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_ctrl_c_in_the_first_epoch_leaves_nothing(colours, tmp_path, monkeypatch):
    interrupt(monkeypatch, after=0)
    with pytest.raises(KeyboardInterrupt):
        train_run(colours())
    assert not list((tmp_path / "runs").glob("*-*"))


def test_ctrl_c_while_training_anew_does_not_pass_the_old_run_off_as_the_new(colours, monkeypatch):
    run = train_run(colours())
    with monkeypatch.context() as patch:
        interrupt(patch, after=0)
        with pytest.raises(KeyboardInterrupt):
            train_run(colours(resume=False))
    assert run.finished


def test_a_damaged_checkpoint_is_refused_with_the_way_out(colours, kill_at):
    kill_at("history.jsonl", 2)
    with pytest.raises(Killed):
        train_run(colours())
    kill_at.disarm()
    (path,) = module.in_project(colours().runs).glob("*/checkpoint.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged .*resume = False"):
        train_run(colours())
    assert train_run(colours(resume=False)).finished


def test_an_evaluation_takes_the_place_of_all_rows_of_its_methods(tmp_path):
    """A set that the benchmark no longer has leaves the ledger with the rows of its method."""
    run = Run(tmp_path, None)
    row = {"method": "residual", "variant": "", "set": "test", "metric": "accuracy", "value": 0.5}
    changes = [{"set": "dim"}, {"metric": "auroc"}, {"variant": "alpha 0.5"}, {"method": "zero_shot"}]
    run.add_results([row, *({**row, **change} for change in changes)])
    run.add_results([{**row, "value": 0.75}])
    said = [(r["method"], r["variant"], r["set"], r["value"]) for r in run.results]
    others = [("residual", "alpha 0.5", "test", 0.5), ("zero_shot", "", "test", 0.5)]
    assert said == [*others, ("residual", "", "test", 0.75)]  # the newest stand last
    run.add_results([])
    assert len(run.results) == 3


def test_rows_survive_the_file_to_the_last_bit(tmp_path):
    rows = [{"loss": 0.1 + 0.2, "name": "näht"}, {"loss": 1e-300}]
    write_rows(tmp_path / "a.jsonl", rows)
    assert read_rows(tmp_path / "a.jsonl") == rows
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.fixture(scope="module")
def program_file(tiny, tower, tmp_path_factory):
    """A program file of an untrained program, and what it says about itself."""
    path = tmp_path_factory.mktemp("program") / "program.safetensors"
    method = Reprogrammer(tiny, ["a cat", "a dog"], padding=3)
    settings = TrainSettings(model=tower("vit"), padding=3)
    save_program(path, method, settings, ("cat", "dog"), 20, 1)
    return path


def changed(path, tmp_path, said=("", ""), tensors=lambda kept: kept):
    """Write the program again with other tensors, or one word of its metadata replaced."""
    with safe_open(path, "pt") as file:
        metadata = {k: v.replace(*said) if said[0] else v for k, v in file.metadata().items()}
    save_file(tensors(read(path)[1]), tmp_path / "changed.safetensors", metadata)
    return tmp_path / "changed.safetensors"


def test_a_program_of_another_backbone_is_refused_with_both_names(program_file, backbones):
    with pytest.raises(InputError) as caught:
        load_program(program_file, backbones("quick"))
    for word in ("belongs to another backbone", backbones("vit").fingerprint[:12], backbones("quick").fingerprint[:12]):
        assert word in str(caught.value)


@pytest.mark.parametrize("keep", [0, 7, 8, 300, 0.5, 0.999])
def test_a_cut_program_is_refused(program_file, tiny, tmp_path, keep):
    whole = program_file.read_bytes()
    cut = tmp_path / "program.safetensors"
    cut.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"program\.safetensors is no whole program file"):
        load_program(cut, tiny)


def test_a_missing_program_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="is no whole program file"):
        load_program(tmp_path / "program.safetensors", tiny)


def test_another_format_is_refused(program_file, tiny, tmp_path):
    with pytest.raises(InputError, match=r"is no 'reprog_kit program 2' file \(format: 'reprog_kit program 1'\)"):
        load_program(changed(program_file, tmp_path, said=(FORMAT, "reprog_kit program 1")), tiny)
    (tmp_path / "bare.safetensors").write_bytes(save({"a": torch.zeros(2)}))
    with pytest.raises(InputError, match=r"\(format: None\)"):
        load_program(tmp_path / "bare.safetensors", tiny)


@pytest.mark.parametrize(
    "tensors",
    [
        lambda kept: {k: v for k, v in kept.items() if k != "text_program.bias"},
        lambda kept: {**kept, "extra": torch.zeros(2)},
        lambda kept: {**kept, "image_program.values": torch.zeros(3, 5)},
    ],
)
def test_wrong_tensors_are_refused(program_file, tiny, tmp_path, tensors):
    with pytest.raises(InputError, match="is damaged: tensors that do not fit this program"):
        load_program(changed(program_file, tmp_path, tensors=tensors), tiny)


@pytest.fixture
def two_runs(colours, tmp_path):
    first, second = train_run(colours(epochs=1)), train_run(colours(epochs=1, seed=2))
    os.utime(first.folder, (1, 1))
    os.utime(first.folder / "program.safetensors", (1, 1))
    return first, second


def test_a_run_is_found_by_name_by_folder_and_as_the_newest(two_runs, tmp_path):
    first, second = two_runs
    runs = str(tmp_path / "runs")
    assert find_run("newest", runs).folder == second.folder
    assert find_run(first.name, runs).folder == first.folder
    assert find_run(str(first.folder), "nowhere").settings == first.settings


def test_evaluating_an_older_run_does_not_make_it_the_newest(two_runs, tmp_path):
    first, second = two_runs
    first.add_results([{"method": "x"}])
    assert find_run("newest", str(tmp_path / "runs")).folder == second.folder


def test_a_run_that_is_not_there_is_refused_with_those_that_are(two_runs, tmp_path):
    with pytest.raises(InputError) as caught:
        find_run(two_runs[0].name[:-1], str(tmp_path / "runs"))
    for word in ("no run", "Did you mean", *(run.name for run in two_runs)):
        assert word in str(caught.value)
    with pytest.raises(InputError, match=r"no run in .*: train one first \(papermill notebooks/train\.ipynb"):
        find_run("newest", str(tmp_path / "none"))


def test_the_same_yaml_over_other_pictures_is_not_taken_for_a_finished_run(colours, pictures, tmp_path, count_passes):
    """Another data root holds fewer pictures: it must not be answered with the first one's program."""
    train_run(colours(epochs=1))
    other = shutil.copytree(pictures, tmp_path / "other")
    for i in range(5):
        (other / "train" / "red" / f"0{i}.png").unlink()
    train_run(colours(epochs=1, data_root=str(other)))
    assert count_passes == [1, 1]


def test_a_disk_that_fills_up_in_the_first_epoch_leaves_no_run(colours):
    """The settings are written, a larger file no longer: a real short write, by RLIMIT_FSIZE."""
    settings = colours()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(InputError, match="could not be written"):
            train_run(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(Path(settings.runs).glob("*-*/*")) == []
