"""Ledgers as runs leave them, without a run: for the tests of tables, figures and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SETS = {
    "id": {"test": 597},
    "shift": {"blurred": 597, "inverted": 597, "noisy": 597, "printed": 600, "rotated": 597},
    "ood": {"letters": 500, "noise": 500, "symbols": 500, "textures": 500},
}
# ID accuracy, shift accuracy, AUROC; trained numbers, seconds, program bytes.
METHODS = {
    "zero_shot": (0.866, 0.664, 0.838, 0, 0.0, 0),
    "reprogrammer": (0.960, 0.709, 0.933, 31_488, 61.0, 128_000),
    "residual": (0.946, 0.711, 0.920, 31_488, 61.0, 128_000),
    "linear_probe": (0.952, 0.655, 0.871, 650, 4.1, 3_200),
    "fine_tune": (0.981, 0.702, 0.927, 6_120_000, 96.0, 24_500_000),
    "lp_ft": (0.979, 0.699, 0.922, 6_120_650, 99.0, 24_500_000),
    "l2_sp": (0.976, 0.704, 0.929, 6_120_650, 104.0, 24_500_000),
    "wise_ft": (0.968, 0.716, 0.930, 6_120_650, 96.5, 24_500_000),
    "coop": (0.921, 0.681, 0.864, 4_096, 88.0, 16_600),
}
SCORES = {"msp": 0.0, "mcm": 0.004, "max_logit": -0.03, "energy": -0.045, "knn": 0.02, "mahalanobis": 0.011}


def row(method, value, role="id", data="test", metric="accuracy", **given) -> dict:
    """Return a row of the ledger with everything that is not given at a plain value."""
    plain = {
        "run": f"demo-{method}-mini-s{given.get('seed', 1)}", "dataset": "demo", "method": method, "variant": "",
        "alpha": None, "wise_weight": None, "model": "mini", "seed": 1, "padding": 4, "recipe": "corrected",
        "role": role, "set": data, "score": "msp" if role == "ood" else None, "metric": metric, "value": value,
        "low": None, "high": None, "n": 100, "n_id": 100, "device": "cpu", "torch": "2.15.0",
        "time": "2026-01-01T00:00:00",
    }  # fmt: skip
    return {**plain, **given}


def ledger(methods=tuple(METHODS), seeds=(1, 2, 3), variants=("",), roles=tuple(SETS), dataset="demo") -> list[dict]:
    """Return the rows of an evaluation of every method with every seed; each run also says what zero-shot does."""
    rows = []
    for method in methods:
        for variant in variants if method == "reprogrammer" else ("",):
            for seed in seeds:
                run = f"{dataset}-{method}-mini-s{seed}-{variant.replace(' ', '')}"
                shared = {"run": run, "seed": seed, "dataset": dataset}
                rows += _scored(method, roles, np.random.default_rng([len(method), seed]), variant=variant, **shared)
                if method != "zero_shot":
                    rows += _scored("zero_shot", roles, None, **shared) + _cost(method, variant=variant, **shared)
    return rows


def _scored(method, roles, rng, **given) -> list[dict]:
    right, shifted, auroc, *_ = METHODS[method]
    rows = []
    for role in roles:
        for i, (name, n) in enumerate(SETS[role].items()):
            drawn = 0.0 if rng is None or method == "zero_shot" else rng.normal(0, 0.006)
            harder = 0.05 * (i - (len(SETS[role]) - 1) / 2)
            drawn += harder - 0.02 * len(given.get("variant", "")) / 10
            found = [
                (None, "accuracy", (right if role == "id" else shifted) + drawn),
                (None, "calibration_error", 0.05),
            ]
            if role == "ood":
                found = [(s, m, v) for s, d in SCORES.items() for m, v in _detected(auroc + drawn + d).items()]
            for score, metric, value in found:
                value = float(np.clip(value, 0, 0.999))
                half = 1.96 * (value * (1 - value) / n) ** 0.5
                ends = {"low": max(0.0, value - half), "high": min(1.0, value + half)}
                rows.append(row(method, value, role, name, metric, score=score, n=n, n_id=597, **ends, **given))
    return rows


def _detected(auroc: float) -> dict[str, float]:
    return {
        "fpr_at_95_id_recall": 3.6 * (1 - auroc), "auroc": auroc, "aupr_in": auroc - 0.01, "aupr_out": auroc - 0.02,
        "detection_error": (1 - auroc) * 1.3,
    }  # fmt: skip


def _cost(method, **given) -> list[dict]:
    *_, numbers, seconds, size = METHODS[method]
    seed = given["seed"]
    costs = {
        "trainable_numbers": numbers, "train_seconds": seconds * (1 + 0.01 * seed),
        "peak_memory_mb": 310 + numbers / 3e4 + seed, "program_bytes": size,
    }  # fmt: skip
    return [row(method, float(v), "cost", "train", metric, n=900, **given) for metric, v in costs.items()]


def write(rows: list[dict], runs: Path) -> Path:
    """Write the rows into run folders."""
    for name in dict.fromkeys(row["run"] for row in rows):
        folder = runs / name
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in rows if row["run"] == name)
        (folder / "results.jsonl").write_text(text)
    return runs
