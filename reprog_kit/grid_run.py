"""A grid of runs, run: what is missing goes to an engine, a failure waits until the end, and a report closes it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .budget import spoken
from .engines import Local
from .grid import Cell, Grid
from .parameters import InputError
from .reproduce import report
from .worker import Job, Outcome


class Engine(Protocol):
    """What computes jobs: `reprog_kit.engines.Local`, or a cluster."""

    def describe(self) -> str:
        """Return in a few words what it is."""

    def run(self, jobs: list[Job]):
        """Yield an `Outcome` a job, as they end."""


@dataclass
class Finished:
    """What a grid came to.

    Attributes
    ----------
    page : Path or None
        The report; None if there is nothing to report.
    failures : dict of str
        Why, by the run's name.
    done : int
        Runs that are done now.
    stopped : bool
        Whether it was stopped before all had their turn.
    """

    page: Path | None = None
    failures: dict[str, str] = field(default_factory=dict)
    done: int = 0
    stopped: bool = False


def engine_of(grid: Grid) -> Engine:
    """Return the engine that a grid asks for.

    Raises
    ------
    InputError
        If Ray is asked for and not installed, or its cluster cannot be reached.
    """
    device = grid.cells[0].run.settings.device
    if grid.settings.engine == "local":
        return Local(grid.settings, device)
    from .ray_engine import OnRay

    return OnRay(grid.settings, device)


def run_grid(grid: Grid, engine: Engine | None = None) -> Finished:
    """Run what is missing of a grid, then the report of the benchmark.

    What is done is skipped, what was started goes on, and what fails does not stop the others. A stop (Ctrl-C), or a
    kill, costs at most the epoch that was under way in each run.
    """
    todo = {cell.name: cell for cell in grid.todo()}
    found = Finished()
    if todo:
        engine = engine or engine_of(grid)
        print(f"{len(todo)} of {len(grid.cells)} runs to go: {engine.describe()}", flush=True)
        _run(todo, engine, len(grid.cells), found)
    found.done = sum(cell.state == "done" for cell in grid.cells)
    if found.done and not found.stopped:
        try:
            found.page = report(grid.dataset, runs=str(grid.runs))
        except InputError as error:
            found.failures["report"] = str(error)
    return found


def _run(todo: dict[str, Cell], engine: Engine, total: int, found: Finished) -> None:
    """Show one bar over all runs; what was done before does not count for the time left."""
    from tqdm import tqdm

    outcomes = engine.run([Job(cell.name, cell.given) for cell in todo.values()])
    with tqdm(total=total, initial=total - len(todo), desc="runs", unit="run", file=sys.stdout, ncols=100) as bar:
        try:
            for outcome in outcomes:
                failure = _failure(todo[outcome.job.name], outcome)
                if failure:
                    found.failures[outcome.job.name] = failure
                what = f"failed: {failure.splitlines()[0]}" if failure else f"done in {spoken(outcome.seconds)}"
                bar.write(f"{todo[outcome.job.name]} on {outcome.where}: {what}", file=sys.stdout)
                bar.set_postfix_str(f"{len(found.failures)} failed" if found.failures else "")
                bar.update()
        except KeyboardInterrupt:
            found.stopped = True
        finally:
            outcomes.close()


def _failure(cell: Cell, outcome: Outcome) -> str:
    if outcome.failure or cell.state == "done":
        return outcome.failure
    return f"its notebooks ran through, and {cell.run.folder} has not all of its rows"
