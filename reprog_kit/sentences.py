"""What the tables say, computed: who is best and by how much, and whether seeds and pictures can tell.

Two lines are told apart by their **seeds** if the difference of the means exceeds Welch's 95% interval (zero-shot has
no seed and is taken as exact), and by the **pictures** if it exceeds the two bootstrap intervals, added in quadrature.
The latter is cautious: both lines saw the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from .ledger import AXES, DETECTORS, MEAN, METRICS, NAMES, axis, default_lines, estimates
from .tables import written

WHERE = {
    "ID accuracy": "on the ID test set",
    "shift accuracy": "under shift",
    "FPR95": "at OOD detection (FPR95)",
    "AUROC": "at OOD detection (AUROC)",
}


def welch(a: Mapping, b: Mapping) -> float | None:
    """Return the half-width of the 95% interval of the difference of two means over seeds; None for single seeds.

    Welch (1947), with the degrees of freedom of Welch and Satterthwaite; a line of zero-shot counts as exact.
    """
    parts = []
    for line in (a, b):
        if line["method"] == "zero_shot":
            continue
        if line["seeds"] < 2:
            return None
        parts.append((line["std"] ** 2 / line["seeds"], line["seeds"] - 1))
    total = sum(variance for variance, _ in parts)
    if not parts or total == 0:
        return 0.0 if parts else None
    freedom = total**2 / sum(variance**2 / free for variance, free in parts)
    return float(t.ppf(0.975, freedom) * np.sqrt(total))


def verdict(a: Mapping, b: Mapping) -> str:
    """Return whether seeds and pictures tell two lines (rows of estimates) apart, in words."""
    gap, seeds = abs(a["value"] - b["value"]), welch(a, b)
    widths = [(line["high"] - line["low"]) / 2 for line in (a, b)]
    by_pictures = None if np.isnan(widths).any() else bool(gap > np.hypot(*widths))
    if seeds is not None and gap <= seeds:
        return "no difference that the seeds could tell"
    if seeds is not None:
        ends = {None: "", True: ", pictures too", False: ", pictures do not"}
        return "seeds tell them apart" + ends[by_pictures]
    lead = "no seeds" if a["method"] == b["method"] == "zero_shot" else "one seed"
    ends = {None: "", True: "; pictures tell them apart", False: "; no difference that the pictures could tell"}
    return lead + ends[by_pictures]


def _points(gap: float) -> str:
    return "less than 0.1 points" if round(100 * abs(gap), 1) == 0 else f"{100 * abs(gap):.1f} points"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ranked(part: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the lines, best first, and how many share the first place as printed."""
    lower = METRICS[part["metric"].iloc[0]].lower
    part = part.sort_values("value", ascending=lower, kind="stable")
    return part, int((np.round(100 * part["value"], 1) == np.round(100 * part["value"].iloc[0], 1)).sum())


def leader(found: pd.DataFrame, name: str, score: str = "msp") -> str:
    """Return which line is best on one of `AXES`, against zero-shot and against the next."""
    part = axis(found, name, score)
    if part.empty:
        return f"Nothing was measured {WHERE[name]}."
    part, first = _ranked(part)
    best, value = part.iloc[0], f"{written(part.iloc[0])}%"
    if len(part) == 1:
        return f"Only {part.index[0]} was measured {WHERE[name]}: {value}."
    if first > 1:
        text = f"{_listed(list(part.index[:first]))} are level {WHERE[name]} at {100 * best['value']:.1f}%"
    else:
        text = f"{part.index[0]} is best {WHERE[name]}: {value}"
    better, worse = ("below", "above") if METRICS[best["metric"]].lower else ("above", "below")
    plain = part[(part["method"] == "zero_shot") & (part["variant"] == "")]
    plain = plain[(plain["model"] == best["model"]) & (plain["n"] == best["n"])]
    if len(plain) == 1 and plain.index[0] not in part.index[:first]:
        gap = best["value"] - plain["value"].iloc[0]
        text += f", {_points(gap)} {better} zero-shot ({verdict(best, plain.iloc[0])})"
    if first == 1 and not (len(plain) == 1 and part.index[1] == plain.index[0]):
        following, gap = part.iloc[1], best["value"] - part["value"].iloc[1]
        text += f"; the next, {part.index[1]}, is {_points(gap)} {worse} ({verdict(best, following)})"
    return f"{_sentence(text)}."


def _sentence(name: str) -> str:
    """Return a name at the start of a sentence: zero-shot becomes Zero-shot, CoOp and L2-SP stay."""
    return name[0].upper() + name[1:]


def against_fine_tuning(found: pd.DataFrame, score: str = "msp", verdicts: bool = True) -> str:
    """Return how reprogrammer and residual stand against fine-tuning out of distribution; "" if either lacks."""
    found, parts = default_lines(found), []
    for name in ("shift accuracy", "AUROC"):
        part = axis(found, name, score)
        rivals = part[part["method"] == "fine_tune"]
        texts = []
        for method in ("reprogrammer", "residual"):
            for line, ours in part[part["method"] == method].iterrows():
                theirs = rivals[(rivals["model"] == ours["model"]) & (rivals["n"] == ours["n"])]
                if len(theirs) == 1:
                    gap = 100 * (ours["value"] - theirs["value"].iloc[0])
                    texts.append(f"{line} {gap:+.1f}" + (f" ({verdict(ours, theirs.iloc[0])})" if verdicts else ""))
        if texts:
            parts.append(f"{'under shift' if name == 'shift accuracy' else 'in AUROC'} {', '.join(texts)}")
    return f"Points against fine-tuning, {'; '.join(parts)}." if parts else ""


def detectors(found: pd.DataFrame, metric: str = "auroc") -> str:
    """Return which detector is best for how many methods, and the best pair."""
    plain = default_lines(found)
    part = plain[(plain["role"] == "ood") & (plain["metric"] == metric) & (plain["set"] == MEAN)]
    if part.empty:
        return "No OOD set was evaluated."
    sign, name = (-1 if METRICS[metric].lower else 1), METRICS[metric].name
    part = part.assign(key=sign * np.round(100 * part["value"], 1))
    wins = part[part["key"] == part.groupby("line")["key"].transform("max")].groupby("score", sort=False).size()
    best = [DETECTORS.get(score, score) for score in wins.index[wins == wins.max()]]
    lines, top = part["line"].nunique(), part[part["key"] == part["key"].max()]
    names = [DETECTORS.get(s, s) for s in top["score"]]
    pairs = _listed([f"{name} with {line}" for name, line in zip(names, top["line"])])
    if len(top) > 3:
        pairs = f"{_listed(list(dict.fromkeys(names)))} with {top['line'].nunique()} methods"
    if part["score"].nunique() == 1:
        return f"{_sentence(best[0])} is the only detector; its best {name} is {written(top.iloc[0])}%, {pairs}."
    who = f"{_listed(best)} {'is' if len(best) == 1 else 'are each'} the best detector"
    are = "is" if len(top) == 1 else "are"
    return f"By {name}, {who} for {wins.max()} of {lines} methods; best of all {are} {pairs}, {written(top.iloc[0])}%."


def cheapest(found: pd.DataFrame) -> str:
    """Return which trained method needs least of each thing that the ledger counts."""
    part = found[(found["role"] == "cost") & (found["method"] != "zero_shot")]
    part = part[(part["device"].nunique() == 1) | ~part["metric"].isin(["train_seconds", "peak_memory_mb"])]
    if part.empty:
        return "The ledger says nothing of what training costs."
    says = {
        "trainable_numbers": "trains the fewest numbers ({})", "train_seconds": "trains fastest ({} s)",
        "peak_memory_mb": "needs the least memory ({} MB)", "program_bytes": "leaves the smallest file ({} kB)",
    }  # fmt: skip
    facts: dict[str, list[str]] = {}
    for metric, text in says.items():
        of = part[part["metric"] == metric]
        if len(of):
            shown = of.apply(written, axis=1)
            least = shown[of["value"].idxmin()]
            equal = list(of["line"][shown == least])
            names = _listed(equal[:3] + [f"{len(equal) - 3} more"] if len(equal) > 4 else equal)
            facts.setdefault(names, []).append(text.format(least))
    sentences = [f"{names}{' each' if ' and ' in names else ''} {_listed(texts)}" for names, texts in facts.items()]
    return f"{_sentence('; '.join(sentences))}."


def finding(rows: pd.DataFrame | Sequence[Mapping], score: str = "msp") -> str:
    """Return `headline` of rows of the ledger."""
    return headline(estimates(rows), score)


def headline(found: pd.DataFrame, score: str = "msp") -> str:
    """Return a line for a title: what one or two methods gained over zero-shot in points, or who is best where."""
    parts = {name: axis(found, name, score) for name in AXES if name != "FPR95"}
    lines = list(dict.fromkeys(line for part in parts.values() for line in part.index))
    short = {"ID accuracy": "ID", "shift accuracy": "shift", "AUROC": "AUROC"}
    plain = NAMES["zero_shot"]
    if plain in lines and 1 < len(lines) <= 3:
        gains = [
            f"{line} " + ", ".join(
                f"{short[name]} {100 * (part.loc[line, 'value'] - part.loc[plain, 'value']):+.1f}"
                for name, part in parts.items() if {line, plain} <= set(part.index)
            )
            for line in lines if line != plain
        ]  # fmt: skip
        return "Points gained over zero-shot: " + "; ".join(gains)
    best = []
    for name, part in parts.items():
        if len(part):
            part, first = _ranked(part)
            names = _listed(list(part.index[:first]))
            best.append(f"{short[name]} {names} ({100 * part['value'].iloc[0]:.1f})")
    return "Best of the methods: " + "; ".join(best)
