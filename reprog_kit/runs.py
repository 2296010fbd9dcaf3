"""Training a run: prepared, kept after every epoch, gone on with; and loaded again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .backbone import Backbone, load_backbone
from .datasets import BenchmarkData
from .files import write_rows, write_whole
from .launch import launch, processes_of
from .methods import build
from .parameters import InputError
from .programs import load_program, save_program
from .ranks import Ranks
from .recipes import not_of
from .reprogrammer import Reprogrammer
from .run_folders import Run
from .settings import TrainSettings, find_params, in_project
from .together import joined
from .train import Epoch, progress_bar, train
from .zero_shot import ZeroShot

# What a run is called does not depend on where and how fast it is computed; the benchmark's content and the backbone's
# fingerprint stand for what they are called.
# The seed stands at the name's end, so that the runs which differ in it alone stand side by side.
_NO_PART_OF_THE_NAME = {
    "device", "compile", "data_root", "runs", "resume", "dataset", "model", "pretrained", "seed", "seeds",
    "stream", "bad_pictures", "missing_sets", "processes",
}  # fmt: skip


def run_name(settings: TrainSettings, data: BenchmarkData, listed: str, backbone: Backbone) -> str:
    """Return a name that tells people the main choices and holds a hash of all that decides the result."""
    what = settings.model_dump(mode="json", exclude=_NO_PART_OF_THE_NAME | not_of(settings.method))
    decides = json.dumps([what, data.benchmark.data_key(), listed, backbone.fingerprint], sort_keys=True)
    model = settings.model.removeprefix("local-dir:").removeprefix("hf-hub:").rstrip("/").split("/")[-1]
    digest = hashlib.sha256(decides.encode()).hexdigest()[:8]
    return f"{data.benchmark.name}-{settings.method}-{model}-{digest}-s{settings.seed}"


def opened(settings: TrainSettings, backbone: Backbone | None = None) -> tuple[Backbone, BenchmarkData, str]:
    """Return the backbone and the data that settings name, and a hash of what the data list; many runs share them.

    The backbone is loaded here unless it is given.

    Raises
    ------
    InputError
        If either cannot be had.
    """
    backbone = backbone or load_backbone(settings.model, settings.pretrained, settings.device)
    data = BenchmarkData.of(settings)
    return backbone, data, data.check()


def prepare(
    settings: TrainSettings, held: tuple[Backbone, BenchmarkData, str] | None = None
) -> tuple[Run, ZeroShot, BenchmarkData]:
    """Return the run that the settings lead to, the untrained method and the data, with nothing written.

    What the settings name is opened, or taken from `held`, which `opened` returned.

    Raises
    ------
    InputError
        If anything asked for cannot be had.
    """
    backbone, data, listed = held or opened(settings)
    method = build(backbone, data.classes, data.captions, settings)
    found = {"image_size": method.image_size, "data_root": str(data.root.resolve())}
    if isinstance(method, Reprogrammer):
        found["padding"] = method.padding
    if not method.optimizers(settings):  # refuses a program with nothing to train
        found["epochs"] = 1
    if settings.dataset.endswith((".yaml", ".yml")):  # evaluation may start from another folder
        found["dataset"] = str(find_params(settings.dataset))
    settings = settings.model_copy(update=found)
    name = run_name(settings, data, listed, backbone)
    return Run(in_project(settings.runs) / name, settings), method, data


def train_run(
    settings: TrainSettings, progress: Callable = progress_bar, say: Callable[[str], object] = print,
    backbone: Backbone | None = None,
) -> Run:  # fmt: skip
    """Train what the settings ask for, and leave a run folder; an unfinished run goes on, a finished one is returned.

    A stop (Ctrl-C, a crash) costs at most the epoch that was under way; the run stays usable. Where the settings ask
    for several processes they are started, unless this is one of them already; see `reprog_kit.ranks`.

    Parameters
    ----------
    progress : callable
        See `reprog_kit.train.train`; what it returns may raise KeyboardInterrupt, to stop.
    say : callable
        Told in a sentence that the run was finished already, or that it was stopped.
    backbone : Backbone, optional
        The settings' own, where it is loaded already; no processes are started then.

    Raises
    ------
    InputError
        If anything asked for cannot be had; nothing is written then.
    """
    if backbone is None and processes_of(settings) > 1:
        return launch(settings, progress, say)
    with joined(settings) as ranks:
        if ranks.main:
            return _train_here(settings, progress, say, backbone, ranks)
        return _train_here(settings, partial(progress_bar, shown=False), lambda _: None, backbone, ranks)


def _train_here(settings: TrainSettings, progress, say, backbone: Backbone | None, ranks: Ranks) -> Run:
    own = backbone or load_backbone(settings.model, settings.pretrained, ranks.device or settings.device)
    run, method, data = prepare(settings, opened(settings, own))
    checkpoint = run.folder / "checkpoint.safetensors"
    if ranks.tell(run.finished and settings.resume)[0]:
        checkpoint.unlink(missing_ok=True)
        say(f"{run.name} is finished already; resume = False trains it anew.")
        return run
    with ranks.main_first():  # it decodes the pictures into the cache
        fit, validation = data.train, data.test if settings.select_on == "test" else data.validation
    state, done = _resumed(checkpoint, settings, ranks), 0
    try:
        for epoch in train(method, fit, validation, run.settings, state, progress):
            if ranks.main:
                _keep(run, method, data, epoch)
            ranks.wait()
            done = epoch.record["epoch"]
    except KeyboardInterrupt:
        if not done and state is None:
            raise
        ranks.stop()
        done = f"\nstopped after {len(run.history)} of {settings.epochs} epochs"
        say(f"{done}; {run.name} is usable, and goes on when it is trained again.")
    if run.finished:
        checkpoint.unlink(missing_ok=True)
    return run


def train_runs(settings: TrainSettings) -> list[Run]:
    """Train one run a seed; see `train_run`. A stop ends with the run that was under way."""
    done: list[Run] = []
    for each in settings.each_seed():
        done.append(train_run(each))
        if not done[-1].finished:
            break
    return done


def _keep(run: Run, method: ZeroShot, data: BenchmarkData, epoch: Epoch) -> None:
    """Write what the epoch left. The checkpoint comes last: a kill before it repeats the epoch, to the same result."""
    number, accuracy = epoch.record["epoch"], epoch.record["validation_accuracy"]
    before = run.history[: number - 1]
    try:
        if number == 1:  # only now is there something to put in the place of an earlier run
            shutil.rmtree(run.folder, ignore_errors=True)
            dump = run.settings.model_dump(mode="json", exclude=not_of(run.settings.method))
            write_whole(run.folder / "settings.yaml", yaml.safe_dump(dump, sort_keys=False))
        best = max((row["validation_accuracy"] for row in before), default=-1.0)
        if run.settings.keep == "last" or accuracy > best:
            file, side = run.folder / "program.safetensors", data.benchmark.side
            save_program(file, method, run.settings, data.classes, side, number)
        write_rows(run.folder / "history.jsonl", [*before, epoch.record])
        write_whole(run.folder / "checkpoint.safetensors", save(epoch.state))
    except InputError:
        if number == 1:  # a full disk leaves no half of a run
            shutil.rmtree(run.folder, ignore_errors=True)
        raise


def _resumed(path: Path, settings: TrainSettings, ranks: Ranks) -> dict[str, Tensor] | None:
    state = _checkpoint(path) if settings.resume else None
    if len(set(ranks.tell(state["epoch"] if state else 0))) > 1:
        raise InputError(f"{path.parent} is not the same for all processes: runs must be a folder that they share.")
    return state


def _checkpoint(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}). Start the run anew with resume = False.") from None


def load_run(
    run: Run, device: str = "auto", data_root: str | None = None, missing_sets: str | None = None,
    held: tuple[Backbone, BenchmarkData] | None = None,
) -> tuple[ZeroShot, BenchmarkData]:  # fmt: skip
    """Return the trained program of a run on its backbone, and the benchmark's data; as in training, unless given.

    Both are taken from `held`, if that is given: many runs share them.

    Raises
    ------
    InputError
        If the program does not fit the backbone, or the benchmark's captions are others than in training.
    """
    made = run.settings.model_copy(update={"missing_sets": missing_sets or run.settings.missing_sets})
    backbone, data = held or (load_backbone(made.model, made.pretrained, device), BenchmarkData.of(made, data_root))
    method = load_program(run.folder / "program.safetensors", backbone)
    if held is None:
        data.check()
    if data.captions != method.captions:
        differing = [f"{a!r} against {b!r}" for a, b in zip(method.captions, data.captions) if a != b]
        raise InputError(
            f"{run.name} was trained on other captions than the benchmark {data.benchmark.name!r} now has "
            f"({len(method.captions)} against {len(data.captions)}; {', '.join(differing[:3])}). Train it anew."
        )
    return method, data
