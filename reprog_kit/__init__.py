"""Model reprogramming of text-image encoders: the thin library behind the notebooks.

Names are imported when first used, so that `import reprog_kit` costs nothing and the core needs no notebook package.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.4.0"

_HOME = {
    "InputError": "parameters",
    "TrainSettings": "settings",
    "EvaluateSettings": "settings",
    "load_benchmark": "benchmarks",
    "BenchmarkData": "datasets",
    "doctor": "data_doctor",
    "load_backbone": "backbone",
    "ZeroShot": "zero_shot",
    "Reprogrammer": "reprogrammer",
    "train_run": "runs",
    "train_runs": "runs",
    "find_run": "run_folders",
    "load_run": "runs",
    "load_program": "programs",
    "load": "classifier",
    "Classifier": "classifier",
    "Evaluation": "evaluation",
    "score": "results",
    "evaluate_runs": "results",
    "examine": "program_doctor",
    "read_ledger": "ledger",
    "summary": "tables",
    "per_set": "tables",
    "Report": "report",
    "ReportSettings": "settings",
    "SweepSettings": "explore_settings",
    "sweep_runs": "sweep",
    "norm_rows": "sweep",
    "sweep_table": "sweep_rows",
    "plan_grid": "grid",
    "run_grid": "grid_run",
    "alpha_slider": "sweep_widgets",
    "UmapSettings": "explore_settings",
    "FeatureMaps": "map_panels",
    "map_explorer": "map_widgets",
    "plots": None,
    "report_plots": None,
    "ExploreSettings": "explore_settings",
    "Workbench": "workbench",
    "comparison": "compare_widgets",
    "AblationSettings": "explore_settings",
    "ablate": "ablation",
    "padding_table": "ablation_tables",
    "padding_slider": "padding_widgets",
    "BenchmarkSettings": "explore_settings",
    "measure": "benchmark",
    "utilisation": "benchmark",
    "cost_growth": "benchmark",
    "benchmark_plots": None,
    "training_panel": "train_widgets",
    "Seen": "seen",
    "inspect": "inspection",
    "inspector": "inspect_widgets",
    "sweep_plots": None,
    "map_plots": None,
    "ablation_plots": None,
    "inspection_plots": None,
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reprog_kit' has no attribute {name!r}")
    home = _HOME[name]
    return import_module(f".{name}", __name__) if home is None else getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
