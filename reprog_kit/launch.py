"""A run on several processes, started from a notebook or a script: fresh ones, as a kernel cannot be forked safely.

torchrun starts them; each runs `reprog_kit.launched`. The main one tells what happens on its standard output, as JSON
behind the record separator of RFC 7464; anything else on a line is passed on as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, TextIO

import torch

from .parameters import InputError
from .picture_cache import cpu_count
from .run_folders import Run, find_run
from .settings import TrainSettings
from .together import device_for, started

_SEPARATOR = "\x1e"
_TAIL = 2000  # characters of standard error that are shown after a crash


def processes_of(settings: TrainSettings) -> int:
    """Return how many processes are to be started; 1 inside one that was started with others.

    Raises
    ------
    InputError
        If this machine has fewer GPUs.
    """
    if settings.processes == 1 or started() > 1:
        return 1
    if settings.processes == "auto":
        return max(1, torch.cuda.device_count()) if settings.device in ("auto", "cuda") else 1
    device_for(settings.device, settings.processes)
    return settings.processes


def launch(settings: TrainSettings, progress: Callable, say: Callable[[str], object]) -> Run:
    """Train on several fresh processes and return the run; see `reprog_kit.runs.train_run`.

    Raises
    ------
    InputError
        What the processes refused.
    RuntimeError
        If one of them crashed, with what it said.
    KeyboardInterrupt
        If training was stopped before an epoch was done.
    """
    count = processes_of(settings)
    command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "reprog_kit.launched"]
    usual = {"OMP_NUM_THREADS": str(max(1, cpu_count() // count))}
    given = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}  # nor is it a kernel
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, settings.model_dump_json()],
            stdout=subprocess.PIPE, stderr=errors, text=True, env={**usual, **given},
            start_new_session=True,  # an interrupt reaches it once, from here
        )  # fmt: skip
        process.stdout.reconfigure(newline="")  # a bar that decodes pictures stays one line
        heard = _hear(process, progress, say)
        if "run" in heard:
            return find_run(heard["run"])
        if "refused" in heard:
            raise InputError(heard["refused"])
        if heard.get("stopped"):
            raise KeyboardInterrupt
        raise RuntimeError(_crash(heard, process.returncode, errors))


def _hear(process: subprocess.Popen, progress: Callable, say: Callable[[str], object]) -> dict[str, Any]:
    """Return what was told until the processes ended; whatever ends the listening ends them too."""
    heard: dict[str, Any] = {}
    with process:
        try:
            _listen(process.stdout, heard, progress, say)
        except BaseException as error:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(KeyboardInterrupt):  # a second one does not wait for what they still say
                _listen(process.stdout, heard, None, say)
            if not isinstance(error, KeyboardInterrupt):
                raise
            heard["stopped"] = True
    return heard


def _listen(lines: Iterable[str], heard: dict[str, Any], progress: Callable | None, say: Callable[[str], object]):
    with contextlib.ExitStack() as shown:
        bar = None
        for line in lines:
            plain, _, word = line.partition(_SEPARATOR)
            print(plain, end="", flush=True)
            told = json.loads(word) if word else {}
            if "total" in told and progress:
                bar = shown.enter_context(progress(told["total"], told["done"]))
            if "step" in told and bar:
                bar.update()
            if "text" in told and bar:
                bar.set_postfix_str(told["text"])
            if "closed" in told:
                bar = shown.close()
            if "say" in told:
                say(told["say"])
            for end in ("run", "refused", "failed"):
                if end in told:
                    heard.setdefault(end, told[end])


def _crash(heard: dict[str, Any], status: int, errors: TextIO) -> str:
    errors.seek(0)
    said = heard.get("failed", f"the processes ended with status {status}, killed perhaps for want of memory.")
    return f"training on several processes failed: {said}\n{errors.read()[-_TAIL:]}"


class Told:
    """The other end of `launch`: a progress bar and a voice that tell it on standard output."""

    def __call__(self, total: int, done: int) -> Told:
        self.tell(total=total, done=done)
        return self

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_) -> None:
        self.tell(closed=True)

    def update(self) -> None:
        """Count a step."""
        self.tell(step=1)

    def set_postfix_str(self, text: str) -> None:
        """Take what is said of the last epoch."""
        self.tell(text=text)

    def say(self, text: str) -> None:
        """Pass on a sentence."""
        self.tell(say=text)

    def tell(self, **what: Any) -> None:
        """Write what happened as a line."""
        print(_SEPARATOR + json.dumps(what), file=sys.__stdout__, flush=True)
