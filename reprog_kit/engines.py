"""What computes the runs of a grid on this machine: processes side by side, one a GPU, or one a few cores."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from .grid_settings import GridSettings
from .machine import pick_device
from .picture_cache import cpu_count
from .worker import Job, Outcome, start


class Local:
    """Processes of this machine.

    Parameters
    ----------
    settings : GridSettings
        ``workers``, or by default one a GPU, without one as many as there are times ``cores`` cores.
    device : str
        Of the runs' settings.

    Attributes
    ----------
    environments : list of dict
        Variables of each worker: its share of the cores and, where there are several GPUs, its own.
    """

    def __init__(self, settings: GridSettings, device: str = "auto"):
        gpus = visible_gpus(device)
        accelerated = pick_device(device).type != "cpu"
        usual = max(1, len(gpus)) if accelerated else max(1, cpu_count() // settings.cores)
        workers = settings.workers or usual
        threads = max(1, cpu_count() // workers)
        if "OMP_NUM_THREADS" in os.environ:
            threads = min(threads, int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
        self.environments = [{"OMP_NUM_THREADS": str(threads)} for _ in range(workers)]
        for number, environment in enumerate(self.environments if gpus else ()):
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        self._lock, self._alive, self._stopped = threading.Lock(), set(), False

    def describe(self) -> str:
        """Return in a few words what it is."""
        threads, count = self.environments[0]["OMP_NUM_THREADS"], len(self.environments)
        gpus = len({each["CUDA_VISIBLE_DEVICES"] for each in self.environments if "CUDA_VISIBLE_DEVICES" in each})
        on = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else f"{threads} thread{'s' * (threads != '1')} each"
        return f"{count} run{'s' * (count > 1)} at a time on this machine, {on}"

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do the jobs and yield what became of each, as they end; closed early, it ends what is under way."""
        slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for environment in self.environments:
            slots.put(environment)

        def one(job: Job) -> Outcome:
            environment, begun = slots.get(), time.perf_counter()
            try:
                failure = start(job, environment, self._keep)
            finally:
                slots.put(environment)
            return Outcome(job, failure, time.perf_counter() - begun)

        with ThreadPoolExecutor(len(self.environments)) as pool:
            try:
                for future in as_completed([pool.submit(one, job) for job in jobs]):
                    yield future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()

    def _keep(self, process: subprocess.Popen) -> None:
        with self._lock:
            self._alive.add(process)
            if self._stopped:
                process.kill()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._alive:
                if process.poll() is None:
                    process.kill()


def visible_gpus(device: str = "auto") -> list[str]:
    """Return the CUDA devices that runs may be spread over, as CUDA_VISIBLE_DEVICES writes them; none, or several.

    A device with a number, as cuda:1, is the one that all runs share.
    """
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named or [str(number) for number in range(torch.cuda.device_count())]
