"""One reprogrammer a width of its border and a seed: the missing ones are trained, the others are read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .backbone import Backbone, load_backbone
from .datasets import BenchmarkData
from .evaluation import Evaluation
from .explore_settings import AblationSettings
from .image_program import default_padding
from .parameters import InputError
from .results import score, variant
from .run_folders import Run
from .runs import prepare, train_run
from .settings import EvaluateSettings, TrainSettings

COLUMNS = (
    "padding", "image_size", "seed", "set", "role", "method", "metric", "score", "value", "low", "high", "n",
    "run", "canvas", "benchmark_padding",
)  # fmt: skip
METHODS = ("zero_shot", "reprogrammer", "residual")
_WIDTHS = 7
_PASSED_ON = (
    "dataset", "model", "pretrained", "program", "epochs", "batch_size",
    "warmup_steps", "limit", "device", "data_root",
    "bad_pictures", "missing_sets", "runs",
)  # fmt: skip


def spread_widths(side: int, own: int) -> list[int]:
    """Return about seven widths from 0 to half the canvas; the benchmark's own stands for its nearest neighbour."""
    widths = [int(width) for width in np.linspace(0, side // 2, _WIDTHS).round()]
    nearest = min(widths, key=lambda width: abs(width - own))
    if nearest not in (0, side // 2):
        widths.remove(nearest)
    return sorted({*widths, own})


def grid(settings: AblationSettings, side: int) -> list[TrainSettings]:
    """Return the settings of every run: all widths with the first seed, then with the next.

    With ``image_size = "shrink"`` the picture has `side` - 2 padding px, so that the border lies beside it.

    Raises
    ------
    InputError
        For a width that does not fit the canvas of `side` px, or if no width is left to train.
    """
    usual, shrink = _usual(settings), settings.image_size == "shrink"
    last = (side - 1) // 2 if shrink else side // 2  # where there is still a picture
    chosen = settings.paddings
    if chosen is None:
        chosen = [width for width in spread_widths(side, own_padding(usual, side)) if width <= last]
    if wrong := [width for width in chosen if width > last]:
        why = " leave nothing of a picture that shrinks" if shrink and wrong == [side // 2] else " do not fit"
        raise InputError(
            f"paddings = {list(chosen)} is refused: {', '.join(map(str, wrong))} px{why}. On the canvas of {side} px "
            f"0 to {last} px can be had; without paddings about {_WIDTHS} widths are taken."
        )
    if usual.program == "image":  # at 0 there is nothing to train
        chosen = [width for width in chosen if width]
    if not chosen:
        raise InputError(
            "paddings = [0] is refused: with program = 'image' it is zero-shot, and nothing is left to train. "
            "Give wider ones, or program = 'both'."
        )
    sizes = {width: side - 2 * width if shrink else None for width in chosen}
    return [
        _usual(settings, padding=width, image_size=sizes[width], seed=seed)
        for seed in settings.seeds
        for width in sorted(chosen)
    ]


def own_padding(settings: TrainSettings, side: int) -> int:
    """Return the width that a benchmark's settings have on a canvas."""
    return default_padding(side) if settings.padding is None else settings.padding


def ablate(settings: AblationSettings) -> pd.DataFrame:
    """Train and evaluate what is missing, and return what the runs' ledgers say.

    A finished run is reused, an unfinished one goes on, and one that has its rows already is not evaluated again. A
    stop (Ctrl-C) ends with the runs that are done.

    Returns
    -------
    DataFrame
        One row a (padding, seed, method, set, score, metric) with the columns `COLUMNS`: ``value`` with its bootstrap
        interval ``low`` to ``high`` as shares, widths in px, the ``canvas``' side and the ``benchmark_padding``.

    Raises
    ------
    InputError
        If anything asked for cannot be had; nothing is trained then.
    """
    usual = _usual(settings)
    side = load_backbone(usual.model, usual.pretrained, settings.device).side
    about = {"canvas": side, "benchmark_padding": own_padding(usual, side)}
    runs = grid(settings, side)
    if usual.program == "image" and 0 in (settings.paddings or [0]):
        print("padding 0 is left out: with program = 'image' there is nothing to train at it, it is zero-shot.")
    found: list[dict] = []
    try:
        for number, each in enumerate(runs, start=1):
            rows, what = _rows_of(each, settings)
            if not rows:
                break  # stopped; train_run said so
            found += [{**row, **about} for row in rows]
            print(f"{number} of {len(runs)}: padding {each.padding}, seed {each.seed}: {what}; {_brief(rows)}")
    except KeyboardInterrupt:
        if not found:
            raise
    done = len({row["run"] for row in found})
    if done < len(runs):
        print(f"Stopped: {done} of {len(runs)} runs are done. Run this again to go on.")
    return pd.DataFrame(found, columns=list(COLUMNS))


def _usual(settings: AblationSettings, **more) -> TrainSettings:
    """Return the settings of a run as the benchmark has them, and with what the ablation changes."""
    given = {name: getattr(settings, name) for name in _PASSED_ON}
    return TrainSettings.build(**given, method="reprogrammer", resume=True, **more)


def _rows_of(each: TrainSettings, settings: AblationSettings) -> tuple[list[dict], str]:
    """Return a run's rows, trained and evaluated if need be, and what was done; no rows if it was stopped."""
    run, method, data = prepare(each)
    there = run.finished
    if not there:
        run = train_run(each)
        if not run.finished:
            return [], ""
    epochs = f"trained for {run.settings.epochs} epochs in {sum(row['seconds'] for row in run.history):.0f} s"
    rows = _kept(run, method.backbone, data)
    complete = _complete(rows, data, settings.score)
    if not complete:
        about = {name: getattr(settings, name) for name in ("score", "resamples", "device", "missing_sets", "runs")}
        how = EvaluateSettings.build(run=str(run.folder), data_root=run.settings.data_root, **about)
        evaluation = Evaluation(how, run)
        score(evaluation)
        rows = _kept(run, method.backbone, evaluation.data)
    return rows, ("reused" if there else epochs) + (", evaluated" if there and not complete else "")


def _kept(run: Run, backbone: Backbone, data: BenchmarkData) -> list[dict]:
    """Return what of a run's ledger belongs here: not the residual at another alpha, nor the prompt ensemble."""
    absent = f"without {', '.join(sorted(data.absent))}" if data.absent else ""
    usual = {m: ", ".join(filter(None, (variant(run, backbone, m), absent))) for m in METHODS}
    made = {name: getattr(run.settings, name) for name in ("padding", "image_size", "seed")} | {"run": run.name}
    kept = (row for row in run.results if row["role"] != "cost" and row["variant"] == usual.get(row["method"]))
    return [{name: ({**row, **made}).get(name) for name in COLUMNS} for row in kept]


def _complete(rows: list[dict], data: BenchmarkData, score: str) -> bool:
    """Say whether every method was scored on every set that the benchmark has now."""
    sets = {"test", *data.benchmark.shift, *data.benchmark.ood} - set(data.absent)
    scored = {(row["method"], row["set"]) for row in rows if row["role"] != "ood" or row["score"] == score}
    return scored >= {(method, name) for method in METHODS for name in sets}


def _brief(rows: list[dict]) -> str:
    accuracies = {(row["method"], row["role"]): row["value"] for row in rows if row["metric"] == "accuracy"}
    return f"ID accuracy {100 * accuracies['reprogrammer', 'id']:.1f}%"
