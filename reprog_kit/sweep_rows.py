"""The rows of sweeps, read: the axes over the weight, the weights to mark, what the figures there are.

A row is a (seed, weight, set, score, metric), as `sweep.Sweep.curves` has it; several seeds stand below one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from .ledger import DETECTORS
from .parameters import InputError
from .residual import one_standard_error

AXES = ("validation accuracy", "ID accuracy", "shift accuracy", "AUROC", "FPR95")
METRICS = {"AUROC": "auroc", "FPR95": "fpr_at_95_id_recall"}
# What others take without asking validation: the released code, and WiSE-FT's authors.
USUAL = {"residual": 0.4, "wise_ft": 0.5}
# What the weight is called, what stands at 0 and 1, and who takes the usual one.
WORDS = {
    "residual": ("alpha", "reprogrammer", "zero-shot", "the released"),
    "wise_ft": ("wise_weight", "zero-shot", "fine-tuned", "the usual"),
}


@dataclass(frozen=True)
class Mark:
    """A weight worth a look: one a seed, their mean, and why."""

    name: str
    weights: dict[int, float]
    hindsight: bool = False

    @property
    def weight(self) -> float:
        """The mean over seeds."""
        return sum(self.weights.values()) / len(self.weights)


def kind_of(rows: pd.DataFrame) -> str:
    """Return ``residual`` or ``wise_ft``."""
    return rows["kind"].iloc[0]


def axes(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the axes by (seed, weight), means over the sets; an axis without sets is left out.

    Raises
    ------
    InputError
        If there are OOD sets, but no such score.
    """
    role, metric = rows["role"], rows["metric"]
    parts = {
        name: rows[(role == r) & (metric == "accuracy")] for name, r in zip(AXES[:3], ("validation", "id", "shift"))
    }
    known = rows["score"].dropna().unique()
    if len(known) and score not in known:
        raise InputError(f"score = {score!r} is refused: it was not computed here. Known: {', '.join(known)}.")
    parts.update({name: rows[(metric == m) & (rows["score"] == score)] for name, m in METRICS.items()})
    found = {name: part.groupby(["seed", "weight"])["value"].mean() for name, part in parts.items() if len(part)}
    return pd.DataFrame(found)


def band(values: pd.Series) -> pd.DataFrame:
    """Return mean and standard deviation over seeds by weight; of a single seed the latter is NaN."""
    return values.groupby("weight").agg(["mean", "std"])


def chosen(rows: pd.DataFrame) -> dict[int, float]:
    """Return the weight that validation chooses, a seed each: the most zero-shot within one standard error of the best.

    That is the largest alpha, but the smallest weight of WiSE-FT; see `residual.one_standard_error`.
    """
    sign, found = (1 if kind_of(rows) == "residual" else -1), {}
    for seed, of in rows[rows["role"] == "validation"].groupby("seed"):
        best = sign * one_standard_error(sign * of["weight"].to_numpy(), of["value"].to_numpy(), of["n"].iloc[0])
        found[seed] = abs(best)  # no minus zero
    return found


def best(rows: pd.DataFrame, axis: str, score: str) -> float:
    """Return the weight at which the mean over seeds is best on an axis: on test pictures, so only in hindsight."""
    means = band(axes(rows, score)[axis])["mean"]
    return float(means.idxmin() if axis == "FPR95" else means.idxmax())


def usual(rows: pd.DataFrame) -> float:
    """Return the weight that others take: the released alpha, WiSE-FT's one half."""
    return USUAL[kind_of(rows)]


def marks(rows: pd.DataFrame, score: str) -> list[Mark]:
    """Return the weights to mark: both ends, validation's choice, the usual one, and the best of each axis."""
    _, low, high, usually = WORDS[kind_of(rows)]
    seeds = rows["seed"].unique()

    def everywhere(name: str, weight: float, hindsight: bool = False) -> Mark:
        return Mark(name, dict.fromkeys(seeds, weight), hindsight)

    found = [everywhere(low, 0.0), Mark("validation's choice", chosen(rows)), everywhere(usually, usual(rows))]
    found.append(everywhere(high, 1.0))
    return found + [
        everywhere(f"best {axis} in hindsight", best(rows, axis, score), True)
        for axis in axes(rows, score).columns
        if axis not in ("validation accuracy", "FPR95")
    ]


def at(rows: pd.DataFrame, mark: Mark, score: str) -> pd.DataFrame:
    """Return the axes at a mark, a row a seed, each at its own weight."""
    found = axes(rows, score)
    return pd.DataFrame({seed: found.loc[seed, weight] for seed, weight in mark.weights.items()}).T


def sweep_table(rows: pd.DataFrame, score: str = "msp") -> pd.DataFrame:
    """Return the axes at every mark, in percent: mean ± standard deviation over seeds, the weight beside it."""
    lines = []
    for mark in marks(rows, score):
        found, spread = 100 * at(rows, mark, score), len(mark.weights) > 1
        cells = {n: f"{c.mean():.1f}" + (f" ± {c.std():.1f}" if spread else "") for n, c in found.items()}
        each = sorted(set(mark.weights.values()))
        weight = f"{each[0]:g}" if len(each) == 1 else f"{mark.weight:.2f} ({each[0]:g} to {each[-1]:g})"
        lines.append({"": mark.name, WORDS[kind_of(rows)][0]: weight, **cells})
    named = {"AUROC": f"AUROC, {DETECTORS[score]}", "FPR95": f"FPR95, {DETECTORS[score]}"}
    return pd.DataFrame(lines).set_index("").rename(columns=named)


def finding(rows: pd.DataFrame, score: str, metric: str = "AUROC") -> str:
    """Return what validation's choice wins and loses against what was trained, and what hindsight would."""
    kind = kind_of(rows)
    weight, trained = WORDS[kind][0], WORDS[kind][1 if kind == "residual" else 2]
    means, choice = 100 * axes(rows, score).groupby("weight").mean(), Mark("", chosen(rows))
    start = means.loc[0.0 if kind == "residual" else 1.0]
    change = 100 * at(rows, choice, score).mean() - start
    shown = [a for a in ("ID accuracy", "shift accuracy", metric) if a in means]
    won = ", ".join(f"{a} {change[a]:+.1f}" for a in shown)
    most = {a: best(rows, a, score) for a in shown}
    bound = ", ".join(f"{means[a][w] - start[a]:+.1f} at {w:g}" for a, w in most.items())
    return (
        f"At {weight} {choice.weight:.2f}, validation's choice: {won} points against the {trained}; "
        f"at best, in hindsight: {bound}"
    )


def norm_finding(rows: pd.DataFrame, others: pd.DataFrame, score: str) -> str:
    """Return where normalising again matters most."""
    change = 100 * difference(rows, others, score).groupby("weight").mean()
    change = change[[a for a in change if a not in ("validation accuracy", "FPR95")]]
    axis = change.abs().max().idxmax()
    where = change[axis].abs().idxmax()
    return (
        f"Normalising again changes {axis} most: {change[axis][where]:+.1f} points at alpha {where:g}; "
        f"at the released {USUAL['residual']:g}: "
        + ", ".join(f"{a} {change[a][USUAL['residual']]:+.1f}" for a in change)
    )


def difference(rows: pd.DataFrame, others: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the axes with normalising again minus without, by (seed, weight); `rows` are those that normalise."""
    return axes(rows, score) - axes(others, score)


def detector_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean AUROC over OOD sets by (seed, weight), a column a detector."""
    of = rows[rows["metric"] == "auroc"]
    return of.groupby(["score", "seed", "weight"], sort=False)["value"].mean().unstack("score", sort=False)


def detectors_finding(rows: pd.DataFrame) -> str:
    """Return the best detector at validation's choice, and the one that the weight moves most."""
    found, choice = 100 * detector_means(rows), chosen(rows)
    there = pd.DataFrame({seed: found.loc[seed, weight] for seed, weight in choice.items()}).mean(axis=1)
    means = found.groupby("weight").mean()
    span = means.max() - means.min()
    moved, weight = span.idxmax(), WORDS[kind_of(rows)][0]
    return (
        f"{DETECTORS[there.idxmax()]} tells OOD best at validation's choice ({there.max():.1f}%); {weight} moves "
        f"{DETECTORS[moved]} most: {means[moved].min():.1f}% at {means[moved].idxmin():g}, "
        f"{means[moved].max():.1f}% at {means[moved].idxmax():g}"
    )
