"""Several processes that train one run, through Hugging Face's accelerate: how they meet, and how they end.

Started by `reprog_kit.launch`, by torchrun, or by whatever sets RANK, LOCAL_RANK, WORLD_SIZE and MASTER_ADDR. On CPUs
they talk through gloo, on GPUs through NCCL.

Shapes: N rows, D embedding, R ranks.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .parameters import InputError
from .ranks import ALONE, Ranks, ranks_here
from .settings import TrainSettings

_DEVICES = ("auto", "cuda", "cpu")
# The others wait while the main process decodes pictures, which takes hours for ImageNet; a lost process is noticed
# by `_leave_with_the_others`, not by the time it takes.
_PATIENCE = timedelta(days=14)


class _Together(Ranks):
    def __init__(self, device: str):
        from accelerate import PartialState
        from accelerate.utils import gather, reduce

        backend = {"cuda": "nccl", "cpu": "gloo"}[device]
        self._state = PartialState(cpu=device == "cpu", backend=backend, timeout=_PATIENCE)
        self._gather, self._reduce = gather, reduce
        self.count, self.number, self.device = started(), self._state.process_index, str(self._state.device)
        self.inside = self.stopped = False
        atexit.register(self._part)
        threading.Thread(target=_leave_with_the_others, args=(self,), daemon=True).start()

    def gather(self, features_ND: Tensor, total: int) -> Tensor:
        """Return the features of all rows; gradients flow into this process' own.

        Every process computes the same loss of all rows. Its gradient reaches a weight of one process through that
        process' rows alone, and is multiplied by R here, so that the mean over processes is the sum over all rows; of
        what every process computes in full, the mean is the gradient itself.
        """
        size = -(-total // self.count)
        padded = F.pad(features_ND, (0, 0, 0, size - len(features_ND)))
        every = self._gather(padded.detach())
        if padded.requires_grad:
            own, parts = padded.view_as(padded), list(every.split(size))
            own.register_hook(lambda gradient: gradient * self.count)
            parts[self.number] = own
            every = torch.cat(parts)
        return every[:total]

    def mean_gradients(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Put the mean over the processes in the place of each gradient, all of them in one message."""
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        means = self._reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(mean.view_as(gradient))

    def tell(self, number: int) -> list[int]:
        """Return what every process told, the main one first."""
        return self._gather(torch.tensor([int(number)], device=self.device)).tolist()

    def wait(self) -> None:
        """Wait until every process is here."""
        self._state.wait_for_everyone()

    def main_first(self) -> contextlib.AbstractContextManager:
        """Return a context that the main process goes through before the others."""
        return self._state.main_process_first()

    def stop(self) -> None:
        """Let the other processes end, silently."""
        self.stopped = True
        _store().set(_key("over"), "")

    def _part(self) -> None:
        if not self.stopped:  # else nobody is left to part from
            self._state.destroy_process_group()


def started() -> int:
    """Return how many processes were started together with this one, itself included, by torchrun or its like."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def device_for(asked: str, here: int) -> str:
    """Return the kind of device, cuda or cpu, on which so many processes of this machine train together.

    Raises
    ------
    InputError
        If a single device is asked for, or there are fewer GPUs than processes.
    """
    if asked not in _DEVICES:
        raise InputError(
            f"device = {asked!r} is refused with processes = {here}: each takes a device of its own. "
            f"Use one of {', '.join(_DEVICES)}."
        )
    gpus = torch.cuda.device_count()
    if asked == "cpu" or (asked == "auto" and not gpus):
        return "cpu"
    if here > gpus:
        raise InputError(
            f"processes = {here} is refused: each takes a GPU of its own, and this machine has {gpus}. "
            "Ask for as many or fewer, or for device = 'cpu', where processes share the cores."
        )
    return "cuda"


@contextlib.contextmanager
def joined(settings: TrainSettings) -> Iterator[Ranks]:
    """Be one of the processes that train together, if there are several, until the run is over; see `one_voice`.

    Raises
    ------
    InputError
        If the settings ask for another number of processes than were started, or a process was lost.
    """
    if started() == 1:
        yield ALONE
        return
    with one_voice(), contextlib.ExitStack() as others:
        ranks = _together(settings)
        if not ranks.main:  # Ctrl-C reaches every process, and the main one decides
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            others.callback(signal.signal, signal.SIGINT, before)
            others.enter_context(contextlib.redirect_stdout(others.enter_context(open(os.devnull, "w"))))
        token, ranks.inside = ranks_here.set(ranks), True
        try:
            yield ranks
        except BaseException:
            ranks.stopped = True
            raise
        finally:
            ranks.inside = False
            ranks_here.reset(token)


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let what goes wrong be raised in the process where it went wrong first alone; the others end silently."""
    try:
        yield
    except BaseException as error:
        if started() > 1:
            _first_or_silent()
        if isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL")):
            raise InputError(
                "a process of this run was lost: it was killed, perhaps for want of memory, or its machine is gone. "
                f"Train again; the run goes on from its last epoch.\n({str(error).splitlines()[0]:.200})"
            ) from error
        raise


def is_main() -> bool:
    """Say whether this process is the one to speak: alone, or the first of those that were started together."""
    return int(os.environ.get("RANK", 0)) == 0 or started() == 1


def _together(settings: TrainSettings) -> _Together:
    count = started()
    if settings.processes not in (1, "auto", count):
        raise InputError(
            f"processes = {settings.processes} is refused: {count} were started. Leave it out; under torchrun "
            "--nproc-per-node says how many."
        )
    ranks = _joined(device_for(settings.device, int(os.environ.get("LOCAL_WORLD_SIZE", count))))
    if ranks.stopped:  # in an earlier run of this process: the others are gone
        raise KeyboardInterrupt
    return ranks


@cache
def _joined(device: str) -> _Together:
    return _Together(device)


def _store() -> torch.distributed.TCPStore:
    """Return a connection of its own to what torchrun keeps for all processes; one that waits would block others."""
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return torch.distributed.TCPStore(*address, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=30))


def _key(name: str) -> str:
    return f"reprog_kit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{name}"


def _first_or_silent() -> None:
    """Return in the first process that fails, whose message people are to read; end any other."""
    try:
        store = _store()
        first = store.add(_key("failed"), 1) == 1
        store.set(_key("over"), "")
    except (RuntimeError, OSError):  # what was started with this process is gone already
        first = False
    if not first:
        os._exit(0)


def _leave_with_the_others(ranks: _Together) -> None:
    """End this process when another says that it is over: on a GPU it would wait for that one forever."""
    status = 0
    try:
        _store().wait([_key("over")], _PATIENCE)
    except (RuntimeError, OSError):  # torchrun itself is gone
        status = 1
    if ranks.inside and not ranks.stopped:
        os._exit(status)
