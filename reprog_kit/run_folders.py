"""A run is a folder: settings, program, history, results, and a checkpoint while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .files import read_rows, write_rows
from .parameters import InputError, nearest
from .settings import TrainSettings, in_project, read_yaml


@dataclass(frozen=True)
class Run:
    """A run's folder and what it was made with."""

    folder: Path
    settings: TrainSettings

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether every epoch is done and the program is written."""
        return (self.folder / "program.safetensors").is_file() and len(self.history) >= self.settings.epochs

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record an epoch."""
        return read_rows(self.folder / "history.jsonl")

    @property
    def results(self) -> list[dict[str, Any]]:
        """One row an evaluation of a set with a metric."""
        return read_rows(self.folder / "results.jsonl")

    def add_results(self, rows: list[dict[str, Any]]) -> None:
        """Add rows to the end of the ledger, in the place of all that it had of the same methods.

        So a set that the benchmark no longer has leaves the ledger too.
        """

        def about(row: dict[str, Any]) -> tuple:
            return tuple(row.get(k) for k in ("method", "variant"))

        new = {about(row) for row in rows}
        write_rows(self.folder / "results.jsonl", [row for row in self.results if about(row) not in new] + rows)


def siblings(run: Run) -> list[Run]:
    """Return the runs that differ from this one in the seed alone, itself included, in the order of their seeds."""
    stem = run.name.rpartition("-s")[0]
    folders = [f for f in run.folder.parent.glob(f"{stem}-s*") if (f / "program.safetensors").is_file()]
    return sorted((_open(folder) for folder in folders), key=lambda found: found.settings.seed)


def find_run(name: str, runs: str = "runs") -> Run:
    """Return a run by folder, by name, or the ``newest`` that has a program.

    Raises
    ------
    InputError
        If there is none; the message lists those there are.
    """
    root = in_project(runs)
    programs = sorted(root.glob("*/program.safetensors"), key=lambda path: path.stat().st_mtime)
    known = [path.parent for path in programs]
    if name == "newest":
        if not known:
            raise InputError(
                f"no run in {root}: train one first (papermill notebooks/train.ipynb out.ipynb -p dataset demo)."
            )
        folder = known[-1]
    else:
        folder = next((f for f in (Path(name), in_project(name), root / name) if (f / "settings.yaml").is_file()), None)
        if folder is None:
            names = [p.name for p in known]
            raise InputError(
                f"no run {name!r} in {root}.{nearest(name, names)} There are: {', '.join(names) or 'none'}."
            )
    return _open(folder)


def runs_of(dataset: str, runs: str = "runs") -> list[Run]:
    """Return the runs of a benchmark, a name or the path of its YAML, that have a program; the newest first."""
    name = Path(dataset).stem if dataset.endswith((".yaml", ".yml")) else dataset
    programs = sorted(in_project(runs).glob(f"{name}-*/program.safetensors"), key=lambda path: -path.stat().st_mtime)
    found = [_open(path.parent) for path in programs]
    return [run for run in found if run.name.startswith(f"{name}-{run.settings.method}-")]


def newest_of_each(found: list[Run]) -> list[Run]:
    """Return the newest run of each method, on the model of the newest of all; the paper's methods come first."""
    newest: dict[str, Run] = {}
    for run in found:
        if (run.settings.model, run.settings.pretrained) == (found[0].settings.model, found[0].settings.pretrained):
            newest.setdefault(run.settings.method, run)
    order = ("zero_shot", "coop", "linear_probe", "reprogrammer")
    return sorted(newest.values(), key=lambda run: (*order, run.settings.method).index(run.settings.method))


def _open(folder: Path) -> Run:
    made = read_yaml(folder / "settings.yaml")
    try:
        return Run(folder.resolve(), TrainSettings(**made))
    except ValidationError as error:
        raise InputError(f"{folder / 'settings.yaml'} does not fit this version: {error}\nTrain it anew.") from None
