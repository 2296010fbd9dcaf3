"""``python -m reprog_kit reproduce <benchmark>``, ``… report <benchmark>``: for what is no notebook."""

from __future__ import annotations

import argparse
import sys
import time


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reprog_kit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, notebook, does in (
        ("reproduce", "train", "train and evaluate a benchmark, and write one HTML page"),
        ("report", "report", "write what all runs of a benchmark say as one HTML page, CSV and LaTeX"),
    ):
        meaning = f"a parameter of {notebook}.ipynb"
        command = commands.add_parser(name, help=does)
        command.add_argument("dataset", help="a benchmark's name in params/, or the path of a YAML")
        command.add_argument(
            "-p",
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "VALUE"),
            help=meaning,
        )
    given = parser.parse_args(arguments)

    from .parameters import InputError
    from .reproduce import report, reproduce

    started = time.perf_counter()
    try:
        page = {"reproduce": reproduce, "report": report}[given.command](given.dataset, **dict(given.p))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"done in {time.perf_counter() - started:.0f} s; open this page in a browser:\n{page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
