"""The ledger: every figure of an evaluation as a row, for a run and for its other seeds."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from .backbone import Backbone
from .detection import FEATURE_SCORES, SCORES
from .evaluation import Evaluation
from .image_program import default_padding
from .metrics import Estimate, accuracy, calibration_error, detection
from .parameters import InputError
from .recipes import OWN
from .run_folders import Run, find_run, siblings
from .settings import EvaluateSettings, TrainSettings

# Settings that change a figure without any training.
SCORING = {"score_precision", "scored_over", "limit", "precision"}


def evaluate_runs(settings: EvaluateSettings) -> tuple[list[Evaluation], list[dict]]:
    """Evaluate a run and those that differ from it in the seed alone.

    Returns
    -------
    list of Evaluation
        One a seed.
    list of dict
        The rows of all of them, which are in the runs' ledgers now.
    """
    evaluations = evaluations_of(settings)
    return evaluations, [row for evaluation in evaluations for row in score(evaluation)]


def evaluations_of(settings: EvaluateSettings) -> list[Evaluation]:
    """Return an evaluation of a run, and of each that differs from it in the seed alone; nothing is computed yet.

    Raises
    ------
    InputError
        If a seed that the settings name was not trained.
    """
    first = find_run(settings.run, settings.runs)
    found = siblings(first)
    if settings.seeds is not None:
        there = {run.settings.seed: run for run in found}
        absent = sorted(set(settings.seeds) - set(there))
        if absent:
            raise InputError(
                f"seeds = {list(settings.seeds)} is refused: {first.name} was trained with seeds {sorted(there)}; "
                f"train {absent} first (papermill notebooks/train.ipynb out.ipynb -p seeds {list(settings.seeds)})."
            )
        found = [there[seed] for seed in settings.seeds]
    return [Evaluation(settings, run) for run in found]


def score(evaluation: Evaluation) -> list[dict]:
    """Compute every figure of every method and add them to the run, a row a (method, set, score, metric)."""
    found = [row for method in evaluation.methods for row in _rows_of(evaluation, method)]
    evaluation.run.add_results(found)
    return found


def variant(run: Run, backbone: Backbone, method: str) -> str:
    """Return in what a method's figures rest on other settings than the benchmark's and the recipe's defaults.

    Such as "padding 8, limit 200", in the words of the settings; "" for nothing. What needs no training differs only
    in how it was scored.
    """
    made, trained = run.settings, method != "zero_shot"
    recipe = made.recipe if trained else TrainSettings.model_fields["recipe"].default
    usual = TrainSettings.build(dataset=made.dataset, method=made.method, recipe=recipe).model_dump()
    usual["padding"] = default_padding(backbone.side) if usual["padding"] is None else usual["padding"]
    usual["image_size"] = usual["image_size"] or backbone.side
    usual["recipe"] = TrainSettings.model_fields["recipe"].default
    compared = SCORING | (OWN[made.method] | {"recipe", "image_size", "select_on"} if trained else set())
    if made.precision == "fp32" and backbone.device.type != "cuda":
        compared = compared - {"precision"}  # what auto comes to
    if made.method == "linear_probe" and made.probe == "lbfgs":
        compared -= {"epochs"}  # it takes none
    changed = [name for name in TrainSettings.model_fields if name in compared and getattr(made, name) != usual[name]]
    return ", ".join(f"{name} {getattr(made, name)}" for name in changed)


def _spelled(evaluation: Evaluation, method: str) -> tuple[str, str]:
    """Return method and variant as the ledger has them."""
    settings, ensemble = evaluation.settings, method == "prompt_ensemble"
    method = "zero_shot" if ensemble else method
    parts = [variant(evaluation.run, evaluation.method.backbone, method)]
    if ensemble:
        parts.append("prompt ensemble")
    if absent := sorted(evaluation.data.absent):  # a mean over fewer sets is another figure
        parts.append(f"without {', '.join(absent)}")
    if method == "residual" and settings.alpha is not None:
        parts.append(f"alpha {settings.alpha:g}")
    if method == "wise_ft" and settings.wise_weight != 0.5:
        parts.append(f"wise_weight {settings.wise_weight:g}")
    return method, ", ".join(part for part in parts if part)


def _figures(evaluation: Evaluation, method: str) -> Iterator[dict]:
    """Yield set, role, score, metric, estimate and number of pictures of every figure of a method."""
    resamples, inside = evaluation.settings.resamples, _id_scores(evaluation, method)
    for name, (role, data) in evaluation.sets.items():
        about = {"role": role, "set": name, "n": len(data)}
        if role == "ood":
            for detector, scores in inside.items():
                for metric, estimate in detection(scores, evaluation.scores(method, data, detector), resamples).items():
                    yield {**about, "score": detector, "metric": metric, "estimate": estimate}
            continue
        logits = evaluation.logits(method, data)
        for metric, function in (("accuracy", accuracy), ("calibration_error", calibration_error)):
            estimate = function(logits, data.labels_N, resamples=resamples)
            yield {**about, "score": None, "metric": metric, "estimate": estimate}
    if method == evaluation.run.settings.method:
        about = {"role": "cost", "set": "train", "n": len(evaluation.data.train), "score": None}
        for metric, value in costs(evaluation).items():
            yield {**about, "metric": metric, "estimate": Estimate(value)}


def _id_scores(evaluation: Evaluation, method: str) -> dict[str, np.ndarray]:
    """Return the ID scores of the test set by detector; one on features that cannot be fitted is left out, and said."""
    found = {}
    for detector in (*SCORES, *FEATURE_SCORES) if evaluation.data.ood else ():
        try:
            found[detector] = evaluation.scores(method, evaluation.data.test, detector)
        except InputError as error:  # too few training pictures, in a quick look
            if detector in SCORES:
                raise
            print(f"{method}: no {detector} score ({error})")
    return found


def costs(evaluation: Evaluation) -> dict[str, float]:
    """Return what the training took: numbers, seconds, memory (on a CPU the process' high-water mark), file size."""
    history = evaluation.run.history
    return {
        "trainable_numbers": float(evaluation.method.trainable_numbers()),
        "train_seconds": sum(row["seconds"] for row in history),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in history),
        "program_bytes": float((evaluation.run.folder / "program.safetensors").stat().st_size),
    }


def _rows_of(evaluation: Evaluation, method: str) -> list[dict]:
    made, (spelled, different) = evaluation.run.settings, _spelled(evaluation, method)
    alpha = {"zero_shot": lambda: 1.0, "reprogrammer": lambda: 0.0, "residual": lambda: evaluation.alpha}
    about = {
        "run": evaluation.run.name,
        "dataset": evaluation.data.benchmark.name,
        "method": spelled,
        "variant": different,
        "alpha": alpha.get(spelled, lambda: None)(),
        "wise_weight": evaluation.settings.wise_weight if method == "wise_ft" else None,
        "model": f"{made.model} {made.pretrained}" if made.pretrained else made.model,
        "seed": made.seed,
        "padding": made.padding if made.method == "reprogrammer" else None,
        "recipe": made.recipe,
        "n_id": len(evaluation.data.test),
        "device": evaluation.device_name,
        "torch": torch.__version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    rows = []
    for figure in _figures(evaluation, method):
        found: Estimate = figure.pop("estimate")
        # JSON has no NaN.
        low, high = (value if np.isfinite(value) else None for value in (found.low, found.high))
        rows.append({**about, **figure, "value": found.value, "low": low, "high": high})
    return rows
