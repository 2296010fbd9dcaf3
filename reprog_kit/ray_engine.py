"""A grid of runs over a Ray cluster: a task a run; where a node does not share the runs folder, files travel as bytes.

Every node has the project installed, in the same Python, and the pictures at the same path or at its own $REPROG_DATA.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from .files import write_whole
from .grid_settings import GridSettings
from .parameters import InputError
from .worker import Job, Outcome, start

# Where a node that does not share the runs folder keeps unfinished runs and its caches.
SCRATCH = "~/.cache/reprog_kit/runs"
_PLACES = ("dataset", "data_root", "runs")
_KNOCK_S = 10


class OnRay:
    """The nodes of a Ray cluster: that of $RAY_ADDRESS, one that this process is connected to, or one made here.

    Parameters
    ----------
    settings : GridSettings
        ``cores`` of a node belong to each run, and where nodes have GPUs, one of these.
    device : str
        Of the runs' settings; cpu takes no GPU.
    shared : bool, optional
        Whether the nodes see the runs folder; by default each looks for itself.
    scratch : str
        Folder on the nodes that do not; ~ is the node's.

    Raises
    ------
    InputError
        If Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(
        self, settings: GridSettings, device: str = "auto", shared: bool | None = None, scratch: str = SCRATCH
    ):
        if settings.workers:
            raise InputError(
                f"workers = {settings.workers} is refused with engine = 'ray': the cluster takes as many runs at a "
                "time as it has room for; cores says what room one needs."
            )
        self.ray, self.shared, self.scratch = _connected(), shared, scratch
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        cores = min(settings.cores, max(node.get("CPU", 0) for node in nodes))
        gpu = int(device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes))
        self.needs, self.nodes = {"num_cpus": cores, "num_gpus": gpu}, len(nodes)

    def describe(self) -> str:
        """Return in a few words what it is."""
        cores, gpu = self.needs["num_cpus"], " and a GPU" if self.needs["num_gpus"] else ""
        nodes = f"{self.nodes} node{'s' * (self.nodes > 1)}"
        return f"on a Ray cluster of {nodes}, {cores:g} core{'s' * (cores > 1)}{gpu} a run"

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do the jobs and yield what became of each, as they end; closed early, it ends what is under way."""
        folder = jobs[0].runs / "cache"
        mark = write_whole(folder / f".seen-{uuid.uuid4().hex}", "")  # a node that sees it shares the folder
        how = (str(mark), self.shared, self.scratch)
        # A node that dies takes its runs along; elsewhere they go on, or start anew.
        task = self.ray.remote(max_retries=1, **self.needs)(on_node)
        parcels = [self.ray.put((pack(job.runs / job.name), _own_yaml(job))) for job in jobs]
        # A reference inside a list is fetched by a node only if it asks for it.
        under_way = {task.remote(job, [parcel], *how): job for job, parcel in zip(jobs, parcels)}
        try:
            while under_way:
                (ready, *_), _ = self.ray.wait(list(under_way), num_returns=1)
                yield self._outcome(ready, under_way.pop(ready))
        finally:
            for reference in under_way:
                self.ray.cancel(reference, force=True)
            mark.unlink(missing_ok=True)

    def _outcome(self, reference, job: Job) -> Outcome:
        try:
            failure, seconds, node, files = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return Outcome(job, f"Ray: {str(error).strip().splitlines()[-1]}", 0.0, "a Ray node")
        where = f"Ray node {node}"
        if files is not None:
            try:
                receive(job, files)
                where += ", its files are here now"
            except InputError as error:
                failure = str(error)
        return Outcome(job, failure, seconds, where)


def _connected():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for a report to its makers
    try:
        import ray
    except ImportError:
        raise InputError("engine = 'ray' needs Ray, on every node: pip install -e '.[ray]'") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, **({} if address else {"include_dashboard": False}))
        except Exception as error:  # Ray's own are many: no such address, another version, another Python
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"the Ray cluster at {address or 'this machine'} cannot be used: {reason}\n"
                "Start one with ray start --head and give host:port in $RAY_ADDRESS; without it, one is made here."
            ) from None
    return ray


def _knock(address: str | None) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if "://" not in host and port.isdecimal():  # else a Ray client's address, auto or local
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


def on_node(
    job: Job, parcel: list, mark: str, shared: bool | None, scratch: str
) -> tuple[str, float, str, dict[str, bytes] | None]:
    """Do a job on the node that this is called on.

    Parameters
    ----------
    parcel : list of one reference
        For a node that does not see them: the files of the run as far as it came, and the YAML of a benchmark of
        one's own.
    mark : str
        A file that is seen by whoever shares the runs folder; `shared` says so in its place.
    scratch : str
        Folder of the run folders on a node that does not.

    Returns
    -------
    str, float, str, dict
        "" or why it failed; seconds; the node; from a node that shares nothing, the files by their paths below runs.
    """
    import ray

    begun, node = time.perf_counter(), ray.get_runtime_context().get_node_id()[:8]
    if shared or (shared is None and Path(mark).is_file()):
        return start(job), time.perf_counter() - begun, node, None
    own = Path(scratch).expanduser()
    here = Job(job.name, {**job.parameters, "runs": str(own)})
    if not Path(here.parameters["data_root"]).is_dir():  # then this node's own
        del here.parameters["data_root"]
    so_far, benchmark = ray.get(parcel[0])
    if benchmark is not None:
        name = own / "cache" / Path(job.parameters["dataset"]).name
        here.parameters["dataset"] = str(write_whole(name, benchmark))
    if not (own / job.name).is_dir():
        unpack(so_far, own / job.name)
    if failure := start(here):
        return failure, time.perf_counter() - begun, node, None
    files = {f"{job.name}/{name}": content for name, content in pack(own / job.name).items()}
    if not files:
        failure = f"the node {node} made no {job.name}: its pictures, or its model, are others than here"
    for path in here.notebooks.glob(f"{job.name}-*.ipynb"):
        files[f"notebooks/{path.name}"] = path.read_bytes()
    shutil.rmtree(own / job.name, ignore_errors=True)
    return failure, time.perf_counter() - begun, node, files or None


def _own_yaml(job: Job) -> bytes | None:
    path = job.parameters["dataset"]
    return Path(path).read_bytes() if path.endswith((".yaml", ".yml")) else None


def pack(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name; what is hidden was never finished."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*")) if path.is_file()}


def unpack(files: dict[str, bytes], folder: Path) -> None:
    """Write files into a folder, whole or not at all: they arrive beside it, and take its place together."""
    if not files:
        return
    waiting = folder.parent / "cache"
    waiting.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=waiting, prefix=".arriving-") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        for name, content in files.items():
            write_whole(new / name, content)
        if folder.exists():
            folder.replace(old)
        new.replace(folder)


def receive(job: Job, files: dict[str, bytes]) -> None:
    """Write what a node sent where the job says: the run folder whole or not at all, then its notebooks.

    The run's settings name the places of this machine in the node's stead.
    """
    own = {
        name.removeprefix(f"{job.name}/"): content for name, content in files.items() if name.startswith(f"{job.name}/")
    }
    made = yaml.safe_load(own["settings.yaml"])
    made.update({name: job.parameters[name] for name in _PLACES})
    unpack({**own, "settings.yaml": yaml.safe_dump(made, sort_keys=False).encode()}, job.runs / job.name)
    for name, content in files.items():
        if name.startswith("notebooks/"):
            write_whole(job.runs / name, content)
