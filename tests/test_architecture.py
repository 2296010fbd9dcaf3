"""The design, held: imports point up the list, heavy libraries have one home, files and functions stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reprog_kit

FOLDER = Path(reprog_kit.__file__).parent
# A later file may import an earlier one, never the reverse.
ROAD = [
    "parameters",
    "recipes",
    "settings",
    "explore_settings",
    "grid_settings",
    "specs",
    "class_names",
    "benchmarks",
    "generated",
    "corruptions",
    "published_corruptions",
    "sources",
    "listings",
    "arrays",
    "downloads",
    "picture_cache",
    "image_sets",
    "pictures",
    "held",
    "set_labels",
    "made_sets",
    "datasets",
    "data_diagnosis",
    "data_doctor",
    "files",
    "towers",
    "machine",
    "ranks",
    "together",
    "backbone",
    "image_program",
    "text_program",
    "losses",
    "zero_shot",
    "features",
    "reprogrammer",
    "probe",
    "baselines",
    "coop",
    "methods",
    "programs",
    "detection",
    "residual",
    "feature_map",
    "export",
    "classifier",
    "metrics",
    "label_check",
    "train",
    "run_folders",
    "launch",
    "runs",
    "launched",
    "budget",
    "evaluation",
    "plain",
    "contestants",
    "fresh",
    "benchmark",
    "results",
    "program_doctor",
    "ledger",
    "grid_cost",
    "grid",
    "tables",
    "sentences",
    "ablation",
    "ablation_tables",
    "padding_view",
    "published",
    "report",
    "sweep_rows",
    "sweep",
    "tracks",
    "style",
    "radar",
    "workbench",
    "background",
    "live_figures",
    "seen",
    "inspection",
    "plots",
    "inspection_plots",
    "report_plots",
    "ablation_plots",
    "compare_plots",
    "compare_widgets",
    "sweep_plots",
    "sweep_view",
    "benchmark_plots",
    "map_sources",
    "map_panels",
    "map_plots",
    "map_widgets",
    "sweep_widgets",
    "padding_widgets",
    "train_widgets",
    "inspect_widgets",
    "reproduce",
    "worker",
    "engines",
    "ray_engine",
    "grid_run",
    "__main__",
]
# A side branch: how `mini` was made.
SIDE = {p.stem for p in FOLDER.glob("pretrain*.py")} | {"glyphs"}
HOMES = {
    "open_clip": {"backbone", "class_names"},
    "torchvision": {"sources", "listings", "arrays", "downloads", "plain"},
    "imagecorruptions": {"corruptions"},
    "plotly": {
        "style",
        "plots",
        "benchmark_plots",
        "report_plots",
        "sweep_plots",
        "sweep_view",
        "map_plots",
        "ablation_plots",
    }
    | {"sweep_widgets", "map_widgets", "radar", "live_figures", "compare_plots", "inspection_plots", "inspect_widgets"},
    "anywidget": {"live_figures"},
    "ipywidgets": {
        "compare_widgets",
        "sweep_widgets",
        "map_widgets",
        "padding_widgets",
        "train_widgets",
        "inspect_widgets",
    },
    "umap": {"feature_map"},
    "accelerate": {"together"},
    "papermill": {"reproduce"},
    "nbconvert": {"reproduce"},
    "ray": {"ray_engine"},
}
MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted(FOLDER.glob("*.py"))}


def imported(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Return the modules of ours, and the libraries, that a file imports anywhere."""
    ours, libraries = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            ours |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            continue
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        for name in names:
            head, *rest = name.split(".")
            if head == "reprog_kit":
                ours |= set(rest[:1])
            else:
                libraries.add(head)
    return ours, libraries


def test_every_file_has_its_place():
    assert set(MODULES) - SIDE - {"__init__"} <= set(ROAD)
    assert len(ROAD) == len(set(ROAD))


@pytest.mark.parametrize("name", [name for name in ROAD if name in MODULES])
def test_imports_point_only_up_the_list(name):
    ours, _ = imported(MODULES[name])
    assert ours <= set(ROAD[: ROAD.index(name)])


@pytest.mark.parametrize("name", sorted(SIDE & set(MODULES)))
def test_the_side_branch_stays_off_the_notebooks_and_nothing_needs_it(name):
    ours, _ = imported(MODULES[name])
    assert not ours & {"plots", "widgets", "map_widgets", "reproduce", "__main__"}
    for other in set(MODULES) - SIDE:
        assert name not in imported(MODULES[other])[0], other


@pytest.mark.parametrize("library", HOMES)
def test_each_heavy_library_is_imported_in_one_place(library):
    users = {name for name, tree in MODULES.items() if library in imported(tree)[1]}
    branch = {name for name in SIDE if name.startswith("pretrain")} if library == "open_clip" else set()
    assert users <= HOMES[library] | branch


def test_the_check_sees_what_it_should():
    source = (
        "import os, plotly.io as pio\nfrom . import plots\nfrom .runs import Run\nfrom reprog_kit.train import train\n"
    )
    inside = "def f():\n    from open_clip.model import CLIP\n    import reprog_kit.losses\n"
    assert imported(ast.parse(source)) == ({"plots", "runs", "train"}, {"os", "plotly"})
    assert imported(ast.parse(inside)) == ({"losses"}, {"open_clip"})


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_stay_short(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 250
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 45, node.name


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_says_what_it_is(name):
    assert ast.get_docstring(MODULES[name])
    for node in MODULES[name].body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        assert ast.get_docstring(node), node.name
        for inner in getattr(node, "body", []):
            # forward of a torch module included; names with an underscore are nobody's business
            if isinstance(node, ast.ClassDef) and isinstance(inner, ast.FunctionDef) and inner.name[0] != "_":
                assert ast.get_docstring(inner), f"{node.name}.{inner.name}"


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_unpickled(name):
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = f"{getattr(node.func.value, 'id', '')}.{node.func.attr}"
            assert called not in {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "yaml.load"}, name
            if called == "np.load":
                given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                assert given.get("allow_pickle") is False, name


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that are loaded after a statement in a fresh process."""
    program = f"{statement}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_package_costs_nothing():
    assert not loaded_by("import reprog_kit; dir(reprog_kit)") & {"torch", "numpy", "papermill", "pydantic", "plotly"}


@pytest.mark.slow
def test_the_core_needs_no_notebook_package():
    core = [name for name in ROAD[: ROAD.index("style")] if name in MODULES]
    found = loaded_by(f"from reprog_kit import {', '.join(core)}")
    assert "torch" in found
    assert not found & {"plotly", "ipywidgets", "papermill", "IPython", "nbconvert", "jupyterlab", "ipykernel", "umap"}
    assert "accelerate" not in found


def test_every_public_name_is_where_it_is_said_to_be():
    for name in reprog_kit.__all__:
        assert getattr(reprog_kit, name) is not None
    assert dir(reprog_kit) == sorted(reprog_kit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = reprog_kit.nonsense
