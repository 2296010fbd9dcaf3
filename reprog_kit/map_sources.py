"""Which runs and which pictures a map shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .evaluation import Evaluation
from .explore_settings import UmapSettings
from .image_sets import ImageSet, limited
from .parameters import InputError, nearest
from .run_folders import Run, find_run, newest_of_each, runs_of
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
    found = runs_of(settings.dataset, settings.runs)
    if not found:
        raise InputError(
            f"no run of {settings.dataset} in {in_project(settings.runs)}: train one first (papermill "
            f"notebooks/train.ipynb out.ipynb -p dataset {settings.dataset}), or say where they are (-p runs FOLDER)."
        )
    return newest_of_each(found)


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
