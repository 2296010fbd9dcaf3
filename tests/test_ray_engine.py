"""The grid over a Ray cluster of two nodes on this machine: with the runs folder shared, and with files as bytes."""

import os
import shutil
import sys

import pytest
import yaml

from reprog_kit import runs as runs_module
from reprog_kit.engines import Outcome
from reprog_kit.evaluation import Evaluation
from reprog_kit.grid import plan_grid
from reprog_kit.grid_run import run_grid
from reprog_kit.grid_settings import GridSettings
from reprog_kit.parameters import InputError
from reprog_kit.ray_engine import OnRay, pack, receive, unpack
from reprog_kit.run_folders import find_run
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, project_root, read_yaml
from reprog_kit.worker import Job

QUICK = {"limit": 40, "epochs": 3, "batch_size": 20, "warmup_steps": 1, "device": "cpu"}


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


def test_a_number_of_workers_is_for_this_machine():
    with pytest.raises(InputError, match="workers = 2 is refused with engine = 'ray'"):
        OnRay(GridSettings(engine="ray", workers=2))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one core each; this process is their driver."""
    ray = pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(project_root()), os.environ.get("PYTHONPATH", "")]))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


class Noted:
    """An engine that keeps what the one inside says."""

    def __init__(self, inside: OnRay):
        self.inside, self.outcomes = inside, []

    def describe(self) -> str:
        return self.inside.describe()

    def run(self, jobs):
        for outcome in self.inside.run(jobs):
            self.outcomes.append(outcome)
            yield outcome


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.xdist_group("notebooks")
def test_two_nodes_share_the_runs_of_a_grid(cluster, tmp_path):
    grid = plan_grid("demo", methods="zero_shot,linear_probe", engine="ray", runs=str(tmp_path), limit=40, device="cpu")
    engine = Noted(OnRay(grid.settings, "cpu"))
    assert engine.describe() == "on a Ray cluster of 2 nodes, 1 core a run"
    found = run_grid(grid, engine)
    assert found.failures == {} and found.done == 2 and found.page.is_file()
    assert len({outcome.where for outcome in engine.outcomes}) == 2  # a run on each node
    assert not any("its files are here" in outcome.where for outcome in engine.outcomes)
    assert not list((tmp_path / "cache").glob(".seen-*"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.xdist_group("notebooks")
def test_a_node_that_shares_nothing_goes_on_with_a_run_and_sends_it_back(cluster, tmp_path, monkeypatch):
    own = tmp_path / "mine.yaml"  # a benchmark of one's own, which the node gets with the run
    shutil.copy(project_root() / "params" / "demo.yaml", own)
    here, there = tmp_path / "here", tmp_path / "there"
    grid = plan_grid(str(own), padding=4, engine="ray", runs=str(here), **QUICK)
    (cell,) = grid.cells
    keep = runs_module._keep

    def stop_at_the_second(run, method, data, epoch):
        if epoch.record["epoch"] == 2:
            raise KeyboardInterrupt
        keep(run, method, data, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "_keep", stop_at_the_second)
        train_run(cell.run.settings)
    (begun,) = cell.run.history
    engine = OnRay(grid.settings, "cpu", shared=False, scratch=str(there))
    (outcome,) = engine.run([Job(cell.name, cell.given)])
    assert isinstance(outcome, Outcome) and outcome.failure == ""
    assert outcome.where.endswith("its files are here now")
    assert cell.state == "done" and cell.run.history[0] == begun and len(cell.run.history) == 3
    assert not (cell.run.folder / "checkpoint.safetensors").exists()
    assert sorted(path.name for path in (here / "notebooks").glob("*.ipynb")) == [
        f"{cell.name}-evaluate.ipynb",
        f"{cell.name}-train.ipynb",
    ]
    assert not (there / cell.name).exists() and (there / "cache" / "mine.yaml").is_file()
    run = find_run(cell.name, str(here))
    assert run.settings == cell.run.settings
    assert len(Evaluation(EvaluateSettings.build(run=run.name, runs=str(here)), run).data.test) == 40


@pytest.mark.ray
@pytest.mark.slow
def test_what_fails_on_a_node_comes_back_and_leaves_nothing_here(cluster, tmp_path):
    (tmp_path / "file").write_text("")
    job = Job("a", {"runs": str(tmp_path / "runs"), "data_root": str(tmp_path), "dataset": "demo", "seed": 1})
    engine = OnRay(GridSettings(engine="ray"), "cpu", shared=False, scratch=str(tmp_path / "file" / "scratch"))
    (outcome,) = engine.run([job])
    assert "NotADirectoryError" in outcome.failure
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]
