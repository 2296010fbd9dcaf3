"""The ledger read: one line a (method, variant), mean and standard deviation over its seeds. No model is needed.

A *line* is what must not be averaged with anything else: a method in a variant, on one model, over the same pictures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .files import read_rows
from .parameters import InputError, nearest
from .settings import in_project

# How people write them, in the order in which tables and figures show them.
NAMES = {
    "zero_shot": "zero-shot",
    "reprogrammer": "reprogrammer",
    "residual": "residual",
    "linear_probe": "linear probe",
    "fine_tune": "fine-tuning",
    "lp_ft": "LP-FT",
    "l2_sp": "L2-SP",
    "wise_ft": "WiSE-FT",
    "coop": "CoOp",
}
DETECTORS = {
    "msp": "MSP",
    "mcm": "MCM",
    "max_logit": "max logit",
    "energy": "energy",
    "knn": "kNN",
    "mahalanobis": "Mahalanobis",
}
ROLES = ("id", "shift", "ood", "cost")
MEAN = "mean"  # stands in the place of a set's name


@dataclass(frozen=True)
class Metric:
    """How a metric is written: its name, what the ledger's number is multiplied with, decimals, which way is better."""

    name: str
    factor: float = 100
    digits: int = 1
    lower: bool = False

    @property
    def header(self) -> str:
        """The name with an arrow that points to the better end."""
        return f"{self.name} {'↓' if self.lower else '↑'}"


METRICS = {
    "accuracy": Metric("accuracy"),
    "calibration_error": Metric("calibration error", lower=True),
    "fpr_at_95_id_recall": Metric("FPR95", lower=True),
    "auroc": Metric("AUROC"),
    "aupr_in": Metric("AUPR-in"),
    "aupr_out": Metric("AUPR-out"),
    "detection_error": Metric("detection error", lower=True),
    "trainable_numbers": Metric("trained numbers", 1, 0, lower=True),
    "train_seconds": Metric("training, s", 1, 1, lower=True),
    "peak_memory_mb": Metric("peak memory, MB", 1, 0, lower=True),
    "program_bytes": Metric("program file, kB", 1e-3, 1, lower=True),
}
# The paper's three axes; detection has two figures.
AXES = {
    "ID accuracy": ("id", "accuracy"),
    "shift accuracy": ("shift", "accuracy"),
    "FPR95": ("ood", "fpr_at_95_id_recall"),
    "AUROC": ("ood", "auroc"),
}
_DEFAULTS = dict.fromkeys(("run", "dataset", "variant", "model", "score", "device", "time"), "") | {"seed": 0, "n": 0}
_ORDERED = {"method": NAMES, "role": ROLES, "score": ("", *DETECTORS), "metric": METRICS}
_KEYS = ["line", "method", "variant", "model", "role", "set", "score", "metric", "device"]


def read_ledger(runs: str | os.PathLike = "runs", dataset: str | None = None) -> pd.DataFrame:
    """Return the rows of every run's ``results.jsonl``.

    Parameters
    ----------
    runs : path
        The folder of the run folders.
    dataset : str, optional
        Only the rows of this benchmark.

    Raises
    ------
    InputError
        If there are none; the message names the benchmarks that there are.
    """
    root = in_project(runs)
    rows = [row for path in sorted(root.glob("*/results.jsonl")) for row in read_rows(path)]
    if not rows:
        raise InputError(
            f"no results in {root}: train and evaluate first (python -m reprog_kit reproduce {dataset or 'demo'})."
        )
    known = sorted({row["dataset"] for row in rows})
    if dataset is not None and dataset not in known:
        raise InputError(
            f"no results of the dataset {dataset!r} in {root}.{nearest(dataset, known)} There are: {', '.join(known)}. "
            f"Train and evaluate it first (python -m reprog_kit reproduce {dataset})."
        )
    return pd.DataFrame([row for row in rows if dataset in (None, row["dataset"])])


def label(method: str, variant: str = "", *more: str) -> str:
    """Return a method's name as people write it, with what differs from the defaults in brackets."""
    differs = ", ".join(part for part in (variant, *more) if part)
    return NAMES.get(method, method) + (f" ({differs})" if differs else "")


def _tidied(rows: pd.DataFrame | Sequence[Mapping]) -> pd.DataFrame:
    """Return one row a (line, seed, set, score, metric): the newest; zero-shot, which has no seed, once."""
    table = pd.DataFrame(rows).copy()
    for name, value in _DEFAULTS.items():
        table[name] = table[name].where(table[name].notna(), value) if name in table else value
    for name in ("low", "high"):
        table[name] = pd.to_numeric(table[name]) if name in table else np.nan
    table["seed"] = table["seed"].where(table["method"] != "zero_shot", 0)
    table["set"] = table["set"].replace(MEAN, f"{MEAN} (a set)")
    cost = table["role"] == "cost"
    table["device"] = table["device"].where(cost, "")  # seconds on two devices are two things, accuracies are not
    table["line"] = _lines(table, cost)
    table = table.sort_values("time", kind="stable")
    return table.drop_duplicates([*_KEYS, "seed"], keep="last")


def _lines(table: pd.DataFrame, cost: pd.Series) -> list[str]:
    """Return each row's line; model, benchmark, device and number of pictures are named where they tell lines apart."""
    who = ["run", "method", "variant"]
    sizes = table[~cost].drop_duplicates([*who, "role", "set"]).groupby(who)["n"].sum().rename("pictures")
    more = table[[*who, "dataset", "model", "device"]].join(sizes, on=who)
    same = ["dataset", "method", "variant", "model"]
    sized = more.groupby(same)["pictures"].transform("nunique") > 1
    short = more["model"].astype(str).str.rstrip("/").str.split("/").str[-1].str.split(":").str[-1]
    models = more["model"].nunique()
    extra = [
        more["dataset"] if more["dataset"].nunique() > 1 else "",
        (short if short.nunique() == models else more["model"]) if models > 1 else "",
        more["pictures"].map("{:,.0f} pictures".format).where(sized & more["pictures"].notna(), ""),
        more["device"] if more["device"][cost].nunique() > 1 else "",
    ]
    columns = [pd.Series(part, index=table.index) for part in extra]
    return [label(*row) for row in zip(table["method"], table["variant"], *columns)]


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)  # an interval that is missing somewhere is missing


def estimates(rows: pd.DataFrame | Sequence[Mapping]) -> pd.DataFrame:
    """Return what the ledger says, one row a (line, role, set, score, metric), in its own units and in table order.

    Parameters
    ----------
    rows : DataFrame or sequence of mappings
        Rows of the ledger.

    Returns
    -------
    DataFrame
        ``value`` and ``std``: mean and sample standard deviation (NaN for one seed) over ``seeds`` seeds; ``low`` and
        ``high``: means of the seeds' bootstrap intervals over ``n`` pictures. The set ``mean`` is taken over a role's
        sets in each seed; its interval is the mean of the sets', which is no narrower than that of the mean. A line
        that lacks one of the sets has no mean.
    """
    table = _tidied(rows)
    scored = table[table["role"] != "cost"].copy()
    scored["every"] = scored.groupby(["role", "score", "metric"])["set"].transform("nunique")
    keys = [key for key in _KEYS if key != "set"]
    means = scored.groupby([*keys, "seed"], sort=False, as_index=False).agg(
        value=("value", "mean"), low=("low", _mean), high=("high", _mean), n=("n", "sum"),
        sets=("set", "nunique"), every=("every", "first"),
    )  # fmt: skip
    means = means[means["sets"] == means["every"]].assign(set=MEAN)
    found = (
        pd.concat([table, means])
        .groupby(_KEYS, sort=False, as_index=False)
        .agg(
            value=("value", "mean"), std=("value", "std"), seeds=("value", "size"),
            low=("low", _mean), high=("high", _mean), n=("n", "first"),
        )
    )  # fmt: skip
    order = sorted(range(len(found)), key=lambda i: _place(found.iloc[i]))
    return found.iloc[order].reset_index(drop=True)


def _place(row: pd.Series) -> tuple:
    """Return the sort key: methods as in `NAMES`, defaults first, variants with their numbers as numbers."""
    ranks = [list(known).index(row[k]) if row[k] in known else len(known) for k, known in _ORDERED.items()]
    method, role, score, metric = ranks
    natural = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", row["variant"])]
    return (method, row["method"], natural, row["line"], role, row["set"] == MEAN, row["set"], score, metric)


def default_lines(found: pd.DataFrame) -> pd.DataFrame:
    """Return the lines with a benchmark's defaults; of a method that has none, all of its lines."""
    plain = found["variant"] == ""
    return found[plain | ~found["method"].isin(found["method"][plain])]


def axis(found: pd.DataFrame, name: str, score: str = "msp") -> pd.DataFrame:
    """Return one of `AXES` of the estimates, a row a line; of detection, that of one score."""
    role, metric = AXES[name]
    kept = found[(found["role"] == role) & (found["metric"] == metric) & (found["set"] == MEAN)]
    return kept[kept["score"] == (score if role == "ood" else "")].set_index("line")
