"""One run of a grid in a process of its own: ``python -m reprog_kit.worker``, which reads a `Job` from its input.

The input stays open while whoever started it lives. When it ends, by whatever death, the worker ends too, and with it
its kernel, which looks for its parent once a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .parameters import InputError

# Longer than a kernel outlives a worker that was killed.
_PATIENCE = 10


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes
    ----------
    name : str
        Of the run.
    parameters : dict
        Of `train.ipynb`; ``runs`` and ``seed`` are among them.
    """

    name: str
    parameters: dict[str, Any]

    @property
    def runs(self) -> Path:
        """The folder of the run folders."""
        return Path(self.parameters["runs"])

    @property
    def notebooks(self) -> Path:
        """Where the executed notebooks go."""
        return self.runs / "notebooks"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "" or why it failed, after how many seconds, and where it ran."""

    job: Job
    failure: str
    seconds: float
    where: str = "this machine"


def start(
    job: Job, environment: Mapping[str, str] | None = None, started: Callable[[subprocess.Popen], Any] = lambda _: None
) -> str:
    """Do a job in a process of its own and return "", or why it failed.

    Parameters
    ----------
    environment : mapping, optional
        Variables on top of this process' own.
    started : callable, optional
        Is handed the process, so that another thread can kill it.
    """
    package = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as noise:
        # In a session of its own: Ctrl-C in a terminal is for who started it, who then ends it.
        with subprocess.Popen(
            [sys.executable, "-m", "reprog_kit.worker"], stdin=subprocess.PIPE, stdout=said, stderr=noise, bufsize=0,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})}, start_new_session=True,
        ) as process:  # fmt: skip
            started(process)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            status = process.wait()
        return "" if status == 0 else _why(status, said, noise)


def _why(status: int, said, noise) -> str:
    for file in (said, noise):
        file.seek(0)
    if message := said.read().decode(errors="replace").strip():
        return message
    if status < 0:
        return f"its process was ended by signal {-status}; 9 is a kill, by hand or for want of memory."
    return f"its process ended with status {status}: {noise.read().decode(errors='replace').strip()[-500:]}"


def perform(job: Job) -> None:
    """Train and evaluate; only one process at a time has a run.

    Raises
    ------
    InputError
        What a notebook refused, or that another process is at this run.
    """
    from .reproduce import train_and_evaluate

    job.notebooks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.notebooks / f".{job.name}.lock", timeout=_PATIENCE):
            train_and_evaluate(job.name, job.parameters, [int(job.parameters["seed"])])
    except Timeout:
        raise InputError("another process is at this run; start the command again when it has ended.") from None


def main() -> int:
    """Do the job on standard input; what a person has to know goes to standard output."""
    job = Job(**json.loads(_first_line()))
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    out = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the kernels' progress
            perform(job)
    except InputError as error:
        print(error, file=out)
        return 1
    except Exception as error:  # whatever it was, the other runs go on, and it is told at the end
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=out)
        return 1
    return 0


def _first_line() -> bytes:
    with open(0, "rb", buffering=0, closefd=False) as stream:
        return stream.readline()


def _end_with_the_input() -> None:
    # Not through sys.stdin, whose lock the interpreter would wait for at its end.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
