"""For what is no notebook: ``python -m reprog_kit doctor | download | train | reproduce | report <benchmark>``."""

from __future__ import annotations

import argparse
import shlex
import sys
import time

_DATA = "the parameters data_root and runs"
_MANY = """\
One run, and a page about it, unless a list or an option asks for a grid of runs, method x seed x padding:

  reproduce demo -p methods reprogrammer,fine_tune -p seeds 1,2,3
  reproduce demo -p paddings 0,4,16
  reproduce demo --grid                    all methods, seeds 1, 2, 3
  reproduce demo --grid --dry-run          what that is, what of it is done, what the rest will cost

A grid skips what is done, goes on after a failure, and ends with the report of the benchmark. It can be killed at any
moment: the same command goes on. Where it runs: -p workers N (runs at a time on this machine; by default one a GPU, or
one every two cores), -p engine ray (a Ray cluster: $RAY_ADDRESS, or one of this machine), -p cores N (a run's).
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = _parser().parse_args(arguments)

    from .parameters import InputError

    try:
        return {"doctor": _doctor, "download": _download, "train": _train}.get(given.command, _page)(given)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reprog_kit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, parameters, does in (
        ("doctor", _DATA, "say of every set of a benchmark whether it is there and right, and what to do"),
        ("download", _DATA, "fetch what is missing of a benchmark and can be fetched"),
        ("train", "a parameter of train.ipynb", "train, without a notebook; also under torchrun, on many GPUs"),
        ("reproduce", "a parameter of train.ipynb", "train and evaluate a benchmark, and write one HTML page"),
        ("report", "a parameter of report.ipynb", "write what all runs of a benchmark say as one page, CSV and LaTeX"),
    ):
        how = {"epilog": _MANY, "formatter_class": argparse.RawDescriptionHelpFormatter} if name == "reproduce" else {}
        command = commands.add_parser(name, help=does, **how)
        command.add_argument("dataset", help="a benchmark's name in params/, or the path of a YAML")
        command.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=parameters)
        if name == "reproduce":
            command.add_argument("--grid", action="store_true", help="all methods, seeds 1, 2, 3, unless -p says so")
            command.add_argument("--dry-run", action="store_true", help="print the runs and their cost, start nothing")
        if name == "doctor":
            meaning = "decode every picture into the cache that training reads, and compare all of it"
            command.add_argument("--decode", action="store_true", help=meaning)
    return parser


def _page(given: argparse.Namespace) -> int:
    from .grid_settings import asks_for_a_grid
    from .reproduce import report, reproduce

    if given.command == "reproduce" and (given.grid or given.dry_run or asks_for_a_grid(dict(given.p))):
        return _grid(given)
    started = time.perf_counter()
    page = {"reproduce": reproduce, "report": report}[given.command](given.dataset, **dict(given.p))
    print(f"done in {time.perf_counter() - started:.0f} s; open this page in a browser:\n{page}")
    return 0


def _grid(given: argparse.Namespace) -> int:
    """Run a grid; the status is 0 if all of it is done, 1 if something failed, 130 if it was stopped."""
    from .grid import plan_grid

    grid = plan_grid(given.dataset, given.grid, **dict(given.p))
    if given.dry_run:
        print(grid.describe())
        return 0
    from .grid_run import run_grid

    started = time.perf_counter()
    found = run_grid(grid)
    print(f"\n{found.done} of {len(grid.cells)} runs are done, after {time.perf_counter() - started:.0f} s.")
    for name, why in found.failures.items():
        print(f"\nfailed: {name}\n{why}")
    if found.failures or found.stopped:
        print(f"\nThe same command goes on where this one stopped, and skips what is done:\n{_again(given)}")
    if found.page:
        print(f"\nopen this page in a browser:\n{found.page}")
    return 130 if found.stopped else int(bool(found.failures))


def _again(given: argparse.Namespace) -> str:
    parameters = [word for name, value in given.p for word in ("-p", name, value)]
    options = ["--grid"] if given.grid else []
    return shlex.join(["python", "-m", "reprog_kit", "reproduce", given.dataset, *options, *parameters])


def _doctor(given: argparse.Namespace) -> int:
    from .data_doctor import doctor
    from .files import write_whole
    from .settings import in_project

    found = doctor(given.dataset, decode=given.decode, **dict(given.p))
    page = in_project(dict(given.p).get("runs", "runs")) / f"doctor-{found.benchmark}.html"
    style = "<style>body {font: 14px sans-serif; margin: 2em} td, th {padding: 4px 8px}</style>"
    head = f"<!doctype html><meta charset='utf-8'><title>{found.benchmark}</title>{style}"
    write_whole(page, head + found._repr_html_())
    print(f"{found}\n\nThe same with sample pictures: {page}")
    return 0 if found.healthy else 1


def _download(given: argparse.Namespace) -> int:
    from .data_doctor import doctor, fetch_missing

    failed = fetch_missing(given.dataset, **dict(given.p))
    print("\n".join(["", *failed, "", str(doctor(given.dataset, **dict(given.p)))]))
    return 1 if failed else 0


def _train(given: argparse.Namespace) -> int:
    from .runs import train_runs
    from .settings import TrainSettings
    from .together import is_main, one_voice

    with one_voice():
        settings = TrainSettings.build(dataset=given.dataset, **dict(given.p))
    runs = train_runs(settings)
    if is_main():
        print()
        for run in runs:
            print(f"papermill notebooks/evaluate.ipynb evaluated.ipynb -p run {run.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
