"""The ablation's rows read: means and spreads over seeds at each padding, a table, and what they say. No model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .ledger import AXES, DETECTORS, NAMES, axis, estimates
from .parameters import InputError
from .sentences import verdict
from .tables import written


def covered_share(padding: int, canvas: int) -> float:
    """Return the share of a canvas that a border of `padding` px covers."""
    return 1 - (1 - 2 * padding / canvas) ** 2


def padding_estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations over seeds, one row a (method, padding, set, score, metric).

    As `reprog_kit.ledger.estimates`, with the columns ``padding`` and ``image_size`` beside. Zero-shot has no border:
    it stands once a size of the picture, at the first padding that has it.

    Raises
    ------
    InputError
        If there are no rows.
    """
    if not len(rows):
        raise InputError("no run of the ablation is done: run `ablate` to the end of its first run.")
    table = rows.assign(variant="padding " + rows["padding"].astype(str))
    plain = table["method"] == "zero_shot"
    first = table.groupby("image_size")["padding"].transform("min")
    table.loc[plain, "variant"] = "padding " + first[plain].astype(str)
    found = estimates(table)
    found["padding"] = found["variant"].str.removeprefix("padding ").astype(int)
    sizes = rows.drop_duplicates("padding").set_index("padding")["image_size"]
    return found.assign(image_size=found["padding"].map(sizes))


def on_axis(found: pd.DataFrame, name: str, method: str, score: str = "msp") -> pd.DataFrame:
    """Return one of the paper's axes (`reprog_kit.ledger.AXES`) of a method, a row a padding, the smallest first."""
    part = axis(found, name, score)
    return part[part["method"] == method].set_index("padding", drop=False).sort_index()


def padding_table(rows: pd.DataFrame, score: str = "msp") -> pd.DataFrame:
    """Return the four axes in percent, a line a padding and method, as people read them; zero-shot first."""
    found, parts = padding_estimates(rows), {}
    many = found.loc[found["method"] == "zero_shot", "padding"].nunique() > 1
    for method in ("zero_shot", "reprogrammer", "residual"):
        for name in AXES:
            for padding, row in on_axis(found, name, method, score).iterrows():
                line = padding if method != "zero_shot" or many else "–"
                parts.setdefault((NAMES[method], line), {})[name] = written(row)
    table = pd.DataFrame.from_dict(parts, orient="index").fillna("–")
    table.index = pd.MultiIndex.from_tuples(table.index, names=["method", "padding, px"])
    return table.rename(columns={"FPR95": "FPR95 ↓"}).rename_axis(columns=f"%, score {DETECTORS[score]}")


def finding(rows: pd.DataFrame, score: str = "msp") -> str:
    """Return at which padding the reprogrammer is best on each axis, and by how much against the benchmark's own.

    Whether seeds or pictures can tell the two apart is said as in `reprog_kit.sentences.verdict`: Welch's 95% interval
    over seeds, the bootstrap intervals over pictures. Equal figures count for the narrower border.
    """
    found, own = padding_estimates(rows), int(rows["benchmark_padding"].iloc[0])
    said = [
        _best(on_axis(found, name, "reprogrammer", score), name, own)
        for name in ("ID accuracy", "shift accuracy", "AUROC")
    ]
    seeds = rows["seed"].nunique()
    return f"Reprogrammer, {seeds} seed{'s' if seeds > 1 else ''}: " + "; ".join(filter(None, said))


def _best(part: pd.DataFrame, name: str, own: int) -> str:
    if part.empty:
        return ""
    rounded = np.round(100 * part["value"], 1)
    best = part.loc[rounded.idxmax()]
    whole = f"{name} best at {best['padding']} px ({100 * best['value']:.1f}%"
    if len(part) == 1:
        return f"{name} at {best['padding']} px {100 * best['value']:.1f}%"
    if best["padding"] == own:
        return f"{whole}), the benchmark's width"
    other = part.loc[own] if own in part.index else part.loc[rounded.idxmin()]
    against = "the benchmark's" if own in part.index else "the worst,"
    gap = rounded[best["padding"]] - rounded[other["padding"]]
    if gap == 0:
        return f"{whole}, as {against} {other['padding']} px)"
    tells = verdict(best, other).removeprefix("one seed; ").replace("one seed", "no interval")
    return f"{whole}, {gap:.1f} points above {against} {other['padding']} px: {tells})"
