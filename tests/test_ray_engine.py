"""The grid over a Ray cluster of two nodes on this machine: with the runs folder shared, and with files as bytes."""

import os
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from reprog_kit import runs as runs_module
from reprog_kit.evaluation import Evaluation
from reprog_kit.grid import plan_grid
from reprog_kit.grid_run import engine_of
from reprog_kit.grid_settings import GridSettings
from reprog_kit.parameters import InputError
from reprog_kit.ray_engine import OnRay, _knock, pack, receive, unpack
from reprog_kit.run_folders import find_run
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, project_root, read_yaml
from reprog_kit.worker import Job

QUICK = {"limit": 20, "epochs": 2, "batch_size": 10, "warmup_steps": 1, "device": "cpu"}


def test_files_arrive_whole_in_the_place_of_what_was_there(tmp_path):
    folder = tmp_path / "runs" / "a"
    unpack({"one": b"1", "two": b"2"}, folder)
    assert pack(folder) == {"one": b"1", "two": b"2"}
    (folder / ".two.x.part").write_bytes(b"half")
    assert pack(folder) == {"one": b"1", "two": b"2"}  # what was never finished does not travel
    unpack({"two": b"3"}, folder)
    assert [path.name for path in folder.iterdir()] == ["two"] and (folder / "two").read_bytes() == b"3"
    unpack({}, folder)
    assert (folder / "two").exists()
    assert list((tmp_path / "runs" / "cache").iterdir()) == []
    with pytest.raises(InputError, match="could not be written"):
        unpack({"three": b"3", "x" * 300: b"no file can be called so"}, folder)
    assert pack(folder) == {"two": b"3"} and list((tmp_path / "runs" / "cache").iterdir()) == []


def test_a_run_that_arrives_names_the_places_of_this_machine(tmp_path):
    there = {
        "dataset": "/there/mine.yaml",
        "method": "coop",
        "data_root": "/there/data",
        "runs": "/there/runs",
        "seed": 3,
    }
    here = {"dataset": "/here/mine.yaml", "data_root": "/here/data", "runs": str(tmp_path)}
    job = Job("mine-coop-s3", {**here, "seed": 3})
    sent = {
        "mine-coop-s3/settings.yaml": yaml.safe_dump(there).encode(),
        "mine-coop-s3/program.safetensors": b"weights",
    }
    receive(job, {**sent, "notebooks/mine-coop-s3-train.ipynb": b"{}"})
    assert read_yaml(tmp_path / "mine-coop-s3" / "settings.yaml") == {**there, **here}
    assert (tmp_path / "mine-coop-s3" / "program.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "notebooks" / "mine-coop-s3-train.ipynb").read_bytes() == b"{}"


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # an import then fails as if it were not installed
    with pytest.raises(InputError, match=r"pip install -e '.\[ray\]'"):
        OnRay(GridSettings(engine="ray"))


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "[::1]:{}"])
def test_an_address_where_nobody_listens_is_refused_before_ray_begins_to_wait(monkeypatch, address):
    ray = pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = address.format(taken.getsockname()[1])
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would now wait for minutes"))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError) as caught:
        OnRay(GridSettings(engine="ray"))
    said = str(caught.value)
    assert said.startswith(f"the Ray cluster at {address} cannot be used: [Errno ")
    assert "ray start --head" in said


@pytest.mark.parametrize("address", [None, "auto", "local", "ray://127.0.0.1:1"])
def test_what_is_no_host_and_port_is_left_to_ray(address):
    _knock(address)


def test_a_number_of_workers_is_for_this_machine():
    with pytest.raises(InputError, match="workers = 2 is refused with engine = 'ray'"):
        OnRay(GridSettings(engine="ray", workers=2))


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each; this process is their driver."""
    ray = pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(project_root()), os.environ.get("PYTHONPATH", "")]))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A run of two epochs on a benchmark of one's own, stopped here after the first."""
    own = tmp_path / "mine.yaml"
    shutil.copy(project_root() / "params" / "demo.yaml", own)
    (cell,) = plan_grid(str(own), padding=4, engine="ray", runs=str(tmp_path / "here"), **QUICK).cells
    keep = runs_module._keep

    def stop_at_the_second(run, method, data, epoch):
        if epoch.record["epoch"] == 2:
            raise KeyboardInterrupt
        keep(run, method, data, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "_keep", stop_at_the_second)
        train_run(cell.run.settings)
    return cell


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.notebook
def test_one_node_writes_into_the_shared_runs_while_another_goes_on_with_a_run_and_sends_it_back(
    cluster, begun, tmp_path
):
    shared = plan_grid("demo", method="zero_shot", engine="ray", runs=str(tmp_path / "runs"), limit=20, device="cpu")
    here, there = begun.run.folder.parent, tmp_path / "there"
    (first,) = begun.run.history
    engines = [engine_of(shared), OnRay(shared.settings, "cpu", shared=False, scratch=str(there))]
    assert engines[0].describe() == "on a Ray cluster of 2 nodes, 1 core a run"
    cells = [*shared.cells, begun]
    with ThreadPoolExecutor(2) as pool:  # both at once, so each has a node of one core to itself
        pairs = pool.map(lambda engine, cell: list(engine.run([Job(cell.name, cell.given)])), engines, cells)
        (beside,), (apart,) = pairs
    assert beside.failure == apart.failure == "" and [cell.state for cell in cells] == ["done", "done"]
    assert apart.where == f"{apart.where.split(',')[0]}, its files are here now"
    assert beside.where.startswith("Ray node ") and beside.where != apart.where.split(",")[0]
    for cell in cells:
        names = {path.name for path in (cell.run.folder.parent / "notebooks").glob("*.ipynb")}
        assert names == {f"{cell.name}-{step}.ipynb" for step in ("train", "evaluate")}
    assert not list((shared.runs / "cache").glob(".seen-*"))

    assert begun.run.history[0] == first and len(begun.run.history) == 2
    assert not (begun.run.folder / "checkpoint.safetensors").exists()
    assert not (there / begun.name).exists() and (there / "cache" / "mine.yaml").is_file()
    run = find_run(begun.name, str(here))
    assert run.settings == begun.run.settings
    assert len(Evaluation(EvaluateSettings.build(run=run.name, runs=str(here)), run).data.test) == 20


@pytest.mark.ray
@pytest.mark.slow
def test_what_fails_on_a_node_comes_back_stops_nothing_and_leaves_nothing_here(cluster, tmp_path):
    (tmp_path / "file").write_text("")
    given = {"runs": str(tmp_path / "runs"), "data_root": str(tmp_path), "dataset": "demo", "seed": 1}
    engine = OnRay(GridSettings(engine="ray"), "cpu", shared=False, scratch=str(tmp_path / "file" / "scratch"))
    outcomes = list(engine.run([Job(name, given) for name in "ab"]))
    assert sorted(outcome.job.name for outcome in outcomes) == ["a", "b"]
    assert all("NotADirectoryError" in outcome.failure for outcome in outcomes)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]
