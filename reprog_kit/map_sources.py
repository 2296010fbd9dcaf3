"""Which runs and which pictures a map shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from .evaluation import Evaluation
from .explore_settings import UmapSettings
from .image_sets import ImageSet, limited
from .parameters import InputError, nearest
from .runs import Run, find_run
from .settings import in_project


def shown_runs(settings: UmapSettings) -> list[Run]:
    """Return the runs that the settings name, else the newest of each method, on the model of the newest of all.

    Raises
    ------
    InputError
        If there is none.
    """
    if settings.runs_shown:
        return [find_run(name, settings.runs) for name in settings.runs_shown]
    given, root = settings.dataset, in_project(settings.runs)
    name = Path(given).stem if given.endswith((".yaml", ".yml")) else given
    programs = sorted(root.glob(f"{name}-*/program.safetensors"), key=lambda path: path.stat().st_mtime)
    found = [find_run(str(path.parent), settings.runs) for path in reversed(programs)]
    found = [run for run in found if run.name.startswith(f"{name}-{run.settings.method}-")]
    if not found:
        raise InputError(
            f"no run of {given} in {root}: train one first (papermill notebooks/train.ipynb out.ipynb -p dataset "
            f"{given}), or say where they are (-p runs FOLDER)."
        )
    model = (found[0].settings.model, found[0].settings.pretrained)
    newest: dict[str, Run] = {}
    for run in found:
        if (run.settings.model, run.settings.pretrained) == model:
            newest.setdefault(run.settings.method, run)
    order = ("zero_shot", "coop", "linear_probe", "reprogrammer")  # the paper's panels come first
    return sorted(newest.values(), key=lambda run: (*order, run.settings.method).index(run.settings.method))


def chosen_sets(settings: UmapSettings, evaluation: Evaluation) -> tuple[str, ImageSet, dict[str, ImageSet]]:
    """Return name and pictures of the set, classes in turn, and the OOD sets, which share the count among them.

    Raises
    ------
    InputError
        If there is no such set.
    """
    roles: dict[str, list[str]] = {"ood": [], "id": []}
    for name, (role, _) in evaluation.sets.items():
        roles["ood" if role == "ood" else "id"].append(name)
    chosen = settings.set or next(iter(evaluation.data.shift), "test")
    for name, known, what in ((chosen, roles["id"], "set"), *((n, roles["ood"], "overlay") for n in settings.overlay)):
        if name not in known:
            raise InputError(
                f"{what} = {name!r} is refused.{nearest(name, known)} Known: {', '.join(known) or 'none'}."
            )
    share = max(1, settings.count // max(1, len(settings.overlay)))
    outside = {name: limited(evaluation.sets[name][1], share) for name in settings.overlay}
    # An OOD set whose pictures have labels of their own is still of no class here.
    outside = {name: replace(data, labels_N=np.full(len(data), -1)) for name, data in outside.items()}
    return chosen, limited(evaluation.sets[chosen][1], settings.count), outside
