"""The notebooks: their form, and that papermill runs them end to end on a reduced demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from reprog_kit.explore_settings import (
    AblationSettings,
    BenchmarkSettings,
    ExploreSettings,
    SweepSettings,
    UmapSettings,
)
from reprog_kit.settings import EvaluateSettings, ReportSettings, TrainSettings, project_root

NOTEBOOKS = sorted((project_root() / "notebooks").glob("*.ipynb"))
QUICK = {"limit": 60, "epochs": 2, "batch_size": 20, "warmup_steps": 1}


def _cells(path: Path):
    return nbformat.read(path, as_version=4).cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_has_title_then_parameters_then_settings_and_no_outputs(path):
    cells = _cells(path)
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert cells[1].metadata["tags"] == ["parameters"] and cells[1].source.startswith("# parameters")
    code = [c for c in cells if c.cell_type == "code"]
    assert "from_notebook(globals())" in code[1].source
    assert not any(c.outputs or c.execution_count for c in code)
    assert all(sum(bool(line.strip()) for line in c.source.split("\n")) <= 8 for c in code[1:])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("train", TrainSettings),
        ("evaluate", EvaluateSettings),
        ("report", ReportSettings),
        ("residual_sweep", SweepSettings),
        ("umap", UmapSettings),
        ("padding_ablation", AblationSettings),
        ("explore", ExploreSettings),
        ("benchmark", BenchmarkSettings),
    ],
)
def test_parameters_cell_lists_exactly_the_settings_in_a_form_papermill_reads(name, settings):
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node

    found = _infer_parameters(load_notebook_node(str(project_root() / "notebooks" / f"{name}.ipynb")))
    assert {p.name for p in found} == set(settings.model_fields)
    assert all(p.help for p in found)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    from reprog_kit.reproduce import reproduce

    runs = tmp_path_factory.mktemp("runs")
    page = reproduce("demo", runs=str(runs), **QUICK)
    return runs, page


@pytest.mark.notebook
def test_reproduce_leaves_run_results_and_one_page_with_figures(executed):
    _, page = executed
    run = page.parent
    assert {p.name for p in run.iterdir()} == {
        "settings.yaml",
        "program.safetensors",
        "history.jsonl",
        "results.jsonl",
        "report.html",
    }
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert {r["method"] for r in rows} == {"zero_shot", "reprogrammer", "residual"}
    shares = [r for r in rows if r["role"] != "cost"]
    assert all(0 <= r["value"] <= 1 for r in shares) and all(r["low"] <= r["high"] for r in shares)
    html = page.read_text()
    assert html.count('<div class="plotly-graph-div"') == 7
    assert len(html) < 9_000_000  # plotly's library once
    assert "step/s" not in html


@pytest.mark.notebook
def test_the_notebooks_run_for_a_method_without_a_program_and_for_several_seeds(tmp_path):
    from reprog_kit.reproduce import reproduce

    page = reproduce("demo", method="linear_probe", probe="adam", seeds="1,2", runs=str(tmp_path), **QUICK)
    assert {p.name[-3:] for p in tmp_path.glob("demo-linear_probe-*")} == {"-s1", "-s2"}
    html = page.read_text()
    for text in ("There is no program to examine", "no residual", "seed 2", "No set's labels look permuted", " ± "):
        assert text in html


@pytest.mark.notebook
def test_headless_notebooks_hold_no_widget_state_and_show_the_progress(executed):
    runs, _ = executed
    texts = [p.read_text() for p in sorted((runs / "notebooks").glob("*.ipynb"))]
    assert len(texts) == 2 and not any("application/vnd.jupyter.widget" in t for t in texts)
    assert any("images/s" in t for t in texts)


@pytest.mark.notebook
def test_the_workbench_stands_still_headless_and_trains_nothing(executed, tmp_path):
    from reprog_kit.reproduce import run_notebook

    runs, _ = executed
    before = {path.name for path in runs.iterdir()}
    given = {"runs": str(runs), "limit": 60, "alpha": 0.25, "score": "energy", "steps": 5, "padding": 3}
    out = run_notebook("explore", tmp_path / "explore.ipynb", **given)
    outputs = [output for cell in _cells(out) if cell.cell_type == "code" for output in cell.outputs]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert not any("widget" in kind for kind in kinds)
    assert kinds.count("application/vnd.plotly.v1+json") == 5  # the border; three of all methods; one picture
    text = "".join(output.get("text", "") for output in outputs)
    assert "-p padding 3" in text and "-p alpha 0.25 -p score energy" in text
    assert {path.name for path in runs.iterdir()} == before


@pytest.mark.slow
@pytest.mark.notebook
def test_the_maps_are_drawn_headless_without_a_widget(executed, tmp_path):
    from reprog_kit.reproduce import run_notebook

    runs, _ = executed
    given = {"runs": str(runs), "count": 30, "neighbours": 5, "overlay": ["letters"], "seed": 3}
    out = run_notebook("umap", tmp_path / "umap.ipynb", **given)
    outputs = [output for cell in _cells(out) if cell.cell_type == "code" for output in cell.outputs]
    assert not any("widget" in kind for output in outputs for kind in output.get("data", {}))
    text = "".join(output.get("text", "") for output in outputs)
    assert "30 pictures of printed, 10 of 10 classes, and OOD 30 of letters" in text and "map: seed 3" in text
    tables = [output.data["text/html"] for output in outputs if "<th>residual</th>" in str(output.get("data"))]
    assert len(tables) == 1 and "5-NN purity" in tables[0]
    kind = "application/vnd.plotly.v1+json"
    figure = next(output.data[kind] for output in outputs if kind in output.get("data", {}))
    panels = [note["text"].split("<")[1] for note in figure["layout"]["annotations"]]
    assert panels == ["b>zero-shot", "b>reprogrammer", "b>residual"]


@pytest.mark.notebook
def test_the_report_is_one_page_with_tables_figures_and_files(tmp_path):
    from ledgers import ledger, write

    from reprog_kit.reproduce import report

    page = report("demo", runs=str(write(ledger(seeds=(1, 2)), tmp_path)), score="energy", variants="false")
    assert page == tmp_path / "report-demo" / "report.html"
    html = page.read_text()
    assert html.count('<div class="plotly-graph-div"') == 3 and html.count("</table>") == 1 + 7
    assert len(html) < 9_000_000  # plotly's library once
    assert "Nothing was published for demo." in html and "score energy" in html
    assert {"results.csv", "ood.csv", "ood.tex", "report.ipynb"} <= {p.name for p in page.parent.iterdir()}


def sweep_outputs(run: Path, out: Path) -> str:
    """Execute the sweep's notebook headless on a run; return it as text."""
    from reprog_kit.reproduce import run_notebook

    run_notebook("residual_sweep", out, run=str(run), runs=str(run.parent), steps=6, wise_weights=2)
    return out.read_text()


@pytest.mark.notebook
def test_the_sweep_runs_headless_with_the_figure_in_the_slider_s_place(executed, tmp_path):
    _, page = executed
    text = sweep_outputs(page.parent, tmp_path / "sweep.ipynb")
    assert text.count('"application/vnd.plotly.v1+json"') == 5
    assert "application/vnd.jupyter.widget" not in text
    for said in ("validation's choice", "the released", "in hindsight", "Normalising again changes"):
        assert said in text


@pytest.mark.notebook
def test_the_sweep_of_a_fine_tuned_run_is_over_its_weights(tmp_path):
    from reprog_kit.runs import train_run

    run = train_run(TrainSettings.build(method="fine_tune", runs=str(tmp_path), **{**QUICK, "limit": 40, "epochs": 1}))
    text = sweep_outputs(run.folder, tmp_path / "sweep.ipynb")
    for said in ("At wise_weight", "the usual 0.5", "there is nothing to normalise again"):
        assert said in text


@pytest.mark.notebook
def test_the_padding_ablation_runs_headless_without_a_widget(tmp_path):
    from reprog_kit.reproduce import page, run_notebook

    given = {**QUICK, "epochs": 1, "paddings": [0, 8, 32], "resamples": 20}
    made = run_notebook("padding_ablation", tmp_path / "out.ipynb", runs=str(tmp_path / "runs"), **given)
    assert len(list((tmp_path / "runs").glob("*/program.safetensors"))) == 3
    text = made.read_text()
    assert "application/vnd.jupyter.widget" not in text
    assert "3 of 3: padding 32, seed 1: trained for 1 epochs" in text
    html = page([made], tmp_path / "page.html", "padding").read_text()
    assert html.count('<div class="plotly-graph-div"') == 2
    for said in ("Reprogrammer, 1 seed: ID accuracy", "4 px: the nearest run has 8 px, shown are its outer 4"):
        assert said in html


def test_the_benchmark_runs_headless(tmp_path):
    from reprog_kit.reproduce import page, run_notebook

    given = {"models": ["mini"], "precisions": ["fp32"], "batch_size": 8, "rounds": 1, "many_classes": 20, "growth": 8}
    given["many_batches"] = 2
    made = run_notebook("benchmark", tmp_path / "out.ipynb", **given)
    html = page([made], tmp_path / "page.html", "benchmark").read_text()
    assert html.count('<div class="plotly-graph-div"') == 2
    for said in ("mini, fp32, evaluation, 20 captions: ", "times as fast as the plain way", "share, %", "epochs x 4: "):
        assert said in html


def test_reproduce_hands_relative_paths_to_the_kernels_as_they_are_from_here(tmp_path, monkeypatch):
    from reprog_kit import reproduce as module

    handed = []
    monkeypatch.setattr(module, "run_notebook", lambda name, out, **given: handed.append(given) or out)
    monkeypatch.setattr(module, "page", lambda notebooks, out, title: out)
    (tmp_path / "mine.yaml").write_text((project_root() / "params" / "demo.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    module.reproduce("mine.yaml", data_root="pictures", runs=str(tmp_path / "runs"))
    assert handed[0]["dataset"] == str(tmp_path / "mine.yaml")
    assert handed[0]["data_root"] == str(tmp_path / "pictures")
    assert Path(handed[1]["run"]).parent == tmp_path / "runs"


@pytest.mark.notebook
def test_papermill_from_notebooks_folder_refuses_an_unknown_parameter_and_writes_no_run(tmp_path):
    command = [sys.executable, "-m", "papermill", "train.ipynb", str(tmp_path / "out.ipynb"), "--kernel", "python3"]
    given = ["-p", "pading", "8", "-p", "runs", str(tmp_path / "runs")]
    done = subprocess.run(command + given, cwd=project_root() / "notebooks", capture_output=True, text=True)
    assert done.returncode == 1
    assert "unknown parameter 'pading'. Did you mean 'padding'?" in done.stderr
    assert not (tmp_path / "runs").exists()
