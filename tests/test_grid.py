"""The plan of a grid: states as they are on the disk, costs from the ledger alone, all that is wrong in one message."""

import json

import pytest

from reprog_kit import results as results_module
from reprog_kit import runs as runs_module
from reprog_kit.__main__ import main
from reprog_kit.datasets import BenchmarkData
from reprog_kit.evaluation import Evaluation
from reprog_kit.files import write_rows
from reprog_kit.grid import Grid, evaluated, plan_grid
from reprog_kit.grid_cost import training_pictures
from reprog_kit.parameters import InputError
from reprog_kit.results import score
from reprog_kit.run_folders import Run
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings

TWO = {"methods": "zero_shot,reprogrammer", "paddings": "0,4"}


@pytest.fixture
def small(benchmark_file, pictures, tower, tmp_path):
    """Return a function that plans a grid of two-second runs: three colours, the tiny ViT, runs/ in tmp_path."""
    quick = {"epochs": 2, "batch_size": 8, "warmup_steps": 1}
    where = {"device": "cpu", "model": tower("vit"), "data_root": str(pictures), "runs": str(tmp_path / "runs")}
    path = benchmark_file()

    def plan(whole: bool = False, **given) -> Grid:
        steps = {} if given.get("methods") == "zero_shot" else quick  # it has no use for them
        return plan_grid(given.pop("dataset", path), whole, **{**steps, **where, **given})

    return plan


def evaluate(cell, **given) -> None:
    """Evaluate a cell's run in this process."""
    settings = EvaluateSettings.build(run=cell.name, runs=str(cell.run.folder.parent), device="cpu", **given)
    score(Evaluation(settings, Run(cell.run.folder, cell.run.settings)))


def states(grid: Grid) -> list[str]:
    return [cell.state for cell in grid.cells]


def test_states_are_read_from_the_disk(small, monkeypatch):
    grid = small(**TWO)
    assert states(grid) == ["missing"] * 3 and grid.todo() == list(grid.cells)
    assert not grid.runs.exists()  # a plan writes nothing
    plain, at_0, at_4 = grid.cells
    train_run(plain.run.settings)
    assert plain.state == "started"  # trained, and not evaluated
    evaluate(plain)
    train_run(at_0.run.settings)
    evaluate(at_0)
    keep = runs_module._keep

    def stop_at_the_second(run, method, data, epoch):
        if epoch.record["epoch"] == 2:
            raise KeyboardInterrupt
        keep(run, method, data, epoch)

    monkeypatch.setattr(runs_module, "_keep", stop_at_the_second)
    train_run(at_4.run.settings)
    assert states(grid) == states(small(**TWO)) == ["done", "done", "started"]
    assert [cell.epochs for cell in grid.cells] == [1, 2, 1] and grid.todo() == [at_4]
    assert states(small(**TWO, seeds="2")) == ["missing"] * 3
    assert len(small(**TWO, resume="False").todo()) == 3  # all are trained anew


def test_a_kill_in_an_evaluation_leaves_no_rows_and_a_run_to_go_on_with(small, monkeypatch):
    (cell,) = small(methods="reprogrammer").cells
    train_run(cell.run.settings)
    rows_of = results_module._rows_of

    def killed_at_the_last(evaluation, method):
        if method == "residual":
            raise KeyboardInterrupt
        return rows_of(evaluation, method)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(results_module, "_rows_of", killed_at_the_last)
        evaluate(cell)
    assert cell.run.results == [] and cell.state == "started"
    evaluate(cell)
    assert cell.state == "done"


def test_the_names_are_those_that_training_gives(small):
    for cell in small(methods="all", contexts=5).cells:
        found = train_run(TrainSettings.build(**cell.given))
        assert found.folder == cell.run.folder and found.settings == cell.run.settings


def rows(*lines: tuple[str, str], sets=("test", "dim", "other")) -> list[dict]:
    return [{"method": method, "variant": variant, "set": name} for method, variant in lines for name in sets]


@pytest.mark.parametrize(
    ("method", "lines", "ensemble", "done"),
    [
        ("reprogrammer", [("zero_shot", ""), ("reprogrammer", "x"), ("residual", "x")], False, True),
        ("reprogrammer", [("zero_shot", ""), ("reprogrammer", "x"), ("residual", "x, alpha 0.3")], False, False),
        ("reprogrammer", [("zero_shot", ""), ("reprogrammer", "")], False, False),
        ("reprogrammer", [("reprogrammer", ""), ("residual", "")], False, False),
        ("fine_tune", [("zero_shot", ""), ("fine_tune", ""), ("wise_ft", "")], False, True),
        ("fine_tune", [("zero_shot", ""), ("fine_tune", ""), ("wise_ft", "wise_weight 0.9")], False, False),
        ("coop", [("zero_shot", ""), ("coop", "")], True, False),
        ("coop", [("zero_shot", ""), ("zero_shot", "prompt ensemble"), ("coop", "")], True, True),
        ("zero_shot", [("zero_shot", "limit 60, prompt ensemble")], False, False),
        ("zero_shot", [("zero_shot", "limit 60")], False, True),
        ("zero_shot", [], False, False),
    ],
)
def test_evaluated_is_what_has_every_method_as_the_run_has_it(tmp_path, method, lines, ensemble, done):
    run = Run(tmp_path, TrainSettings(method=method))
    write_rows(tmp_path / "results.jsonl", rows(*lines))
    assert evaluated(run, {"test", "dim", "other"}, ensemble) is done
    assert evaluated(run, {"test", "dim"}, ensemble) is done  # a set that the benchmark no longer has
    assert not evaluated(run, {"test", "dim", "other", "new"}, ensemble)


def test_corrupted_pictures_made_here_count_under_their_name(tmp_path):
    write_rows(tmp_path / "results.jsonl", rows(("zero_shot", ""), sets=("test", "cifar10_c_made")))
    assert evaluated(Run(tmp_path, TrainSettings(method="zero_shot")), {"test", "cifar10_c"})


def test_costs_come_from_the_ledger_scaled_by_epochs_and_pictures(small):
    (cell,) = small(methods="coop", contexts=5).cells
    assert cell.left is None
    train_run(cell.run.settings)
    assert small(methods="coop", contexts=5, seeds="2").cells[0].left is None  # its device is not known yet
    evaluate(cell)
    took = sum(record["seconds"] for record in cell.run.history)
    twice = small(methods="coop", contexts=5, seeds="2", epochs=4).cells[0]
    assert twice.left == pytest.approx(2 * took)
    half = small(methods="coop", contexts=5, seeds="2", limit=12).cells[0]
    assert half.left == pytest.approx(took * 12 / 24)
    assert small(methods="coop", contexts=5).cells[0].left == 0
    assert small(methods="lp_ft").cells[0].left is None  # another method's pace says nothing
    results = [{**row, "device": "another"} for row in cell.run.results]
    write_rows(cell.run.folder / "results.jsonl", results)
    assert small(methods="coop", contexts=5, seeds="2").cells[0].left is None


@pytest.mark.parametrize("share", [0.1, 0.2, 0.31, 0.5])
@pytest.mark.parametrize("limit", [None, 7, 1000])
def test_the_number_of_training_pictures_is_known_without_decoding_one(small, benchmark_file, pictures, share, limit):
    content = {
        "train": {"kind": "folder", "path": "train"},
        "validation": share,
        "test": {"kind": "folder", "path": "test"},
    }
    cell = small(dataset=benchmark_file(id=content), methods="zero_shot", limit=limit).cells[0]
    data = BenchmarkData.of(cell.run.settings)
    assert training_pictures(data) == len(data.train)


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_written(small, tmp_path):
    with pytest.raises(InputError) as caught:
        small(methods="reprogrammer,linear_probe,coop", paddings="4,40", seeds="1,2", probe="adam", contexts=90)
    said = str(caught.value)
    assert said.startswith("4 of 8 runs are refused, and none is started:")
    assert "  reprogrammer, seed 1, padding 40; reprogrammer, seed 2, padding 40:\n    padding = 40 px" in said
    assert "  CoOp, seed 1; CoOp, seed 2:\n" in said and "linear probe" not in said
    with pytest.raises(InputError, match=r"fine-tuning, seed 1:\n    warmup_steps = 99 is refused"):
        small(methods="zero_shot,fine_tune", warmup_steps=99)
    with pytest.raises(InputError, match=r"^unknown dataset 'dmo'. Did you mean 'demo'"):
        small(dataset="dmo", methods="all", contexts=5)
    with pytest.raises(InputError, match=r"^2 of 2 runs are refused.*\n  every run:\n    4 of the sets"):
        small(data_root="/nowhere", methods="coop,lp_ft", contexts=5)
    with pytest.raises(InputError, match=r"none of the grid's methods .* has a use for: program."):
        small(methods="coop,lp_ft", program="image")
    assert not (tmp_path / "runs").exists()


def test_the_plan_is_a_run_a_line(small):
    grid = small(methods="zero_shot,coop", contexts=5, seeds="1,2")
    train_run(grid.cells[0].run.settings)
    evaluate(grid.cells[0])
    lines = grid.describe().splitlines()
    assert lines[0] == f"colours: 3 runs, of which 1 done, 0 started, 2 missing; in {grid.runs}"
    assert [line.split() for line in lines[2:6]] == [
        ["state", "method", "seed", "padding", "epochs", "training"],
        ["done", "zero-shot", "1", "1/1"],
        ["missing", "CoOp", "1", "0/2", "unknown"],
        ["missing", "CoOp", "2", "0/2", "unknown"],
    ]
    assert lines[-2].startswith("2 runs to go; what they cost is unknown")
    assert lines[-1] == "One run tells what its kind takes: -p methods coop -p seeds 1, without --dry-run."
    train_run(grid.cells[1].run.settings)
    evaluate(grid.cells[1])
    known = small(methods="zero_shot,coop,lp_ft", contexts=5, seeds="1,2").describe().splitlines()
    assert known[-1].startswith("3 runs to go: about ") and "and 2 runs of which that is unknown" in known[-1]
    assert small(methods="zero_shot").describe().endswith("Nothing is left to run but the report.")
    again = small(methods="zero_shot", resume=False).describe()
    assert "again" in again and "0/1" in again


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REPROG_CACHE", str(tmp_path / "cache"))
    given = ["-p", "runs", str(tmp_path / "runs"), "-p", "seeds", "1,2"]
    assert main(["reproduce", "demo", "--grid", "--dry-run", *given]) == 0
    said = capsys.readouterr().out
    assert said.startswith("demo: 13 runs, of which 0 done, 0 started, 13 missing")
    assert len(said.splitlines()) == 3 + 13 + 3 and said.count("  CoOp ") == 2
    assert "-p methods reprogrammer -p seeds 1, without --dry-run" in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_refuses_before_anything_starts(tmp_path, capsys):
    given = ["-p", "methods", "coop,fine_tune", "-p", "contexts", "16", "-p", "runs", str(tmp_path / "runs")]
    assert main(["reproduce", "demo", *given]) == 2
    assert "1 of 2 runs are refused, and none is started:\n  CoOp, seed 1:" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_a_worker_is_told_is_json(small):
    for cell in small(methods="all", contexts=5, paddings=[0, 4]).cells:
        assert TrainSettings.build(**json.loads(json.dumps(cell.given))).seed == cell.run.settings.seed
