"""Tables as a paper prints them: a line a method, ``mean ± standard deviation`` over seeds, the best in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from .ledger import AXES, DETECTORS, MEAN, METRICS, ROLES, axis, default_lines, estimates

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
})  # fmt: skip


def written(row: Mapping, interval: bool = False) -> str:
    """Return an estimate as people read it: ``96.0 ± 0.6``, with `interval` ``96.0 ± 0.6 [94.3, 97.5]``."""
    metric = METRICS[row["metric"]]
    number = f"{{:,.{metric.digits}f}}".format
    value, std, low, high = (metric.factor * row[name] for name in ("value", "std", "low", "high"))
    certain = pd.isna(std) or (std == 0 and row["role"] == "cost")  # a count that every seed shares
    text = number(value) + ("" if certain else f" ± {number(std)}")
    return text + (f" [{number(low)}, {number(high)}]" if interval and pd.notna(low) else "")


def wide(found: pd.DataFrame, values: str, columns: list[str], index: list[str]) -> pd.DataFrame:
    """Return one column of the estimates spread out, rows and columns as they first occur, but a mean last."""
    order = [found[names].drop_duplicates() for names in (index, columns)]
    if "set" in columns:
        order[1] = order[1].sort_values("set", key=lambda c: (c == MEAN).astype(str) + c, kind="stable")
    keys = [pd.MultiIndex.from_frame(names) for names in order]
    rows, heads = (one.get_level_values(0) if one.nlevels == 1 else one for one in keys)
    table = found.pivot(index=index, columns=columns, values=values).reindex(index=rows, columns=heads)
    return table.rename_axis(columns=[None] * heads.nlevels)


def summary(rows: pd.DataFrame | Sequence[Mapping], score: str = "msp") -> pd.DataFrame:
    """Return the paper's three axes in percent: ID and shift accuracy, FPR95 and AUROC (means over a role's sets).

    A line a (method, variant); ``mean ± standard deviation`` where there is more than one seed.
    """
    return _summary(estimates(rows), score).text.rename_axis("method")


def per_set(rows: pd.DataFrame | Sequence[Mapping], score: str = "msp") -> pd.DataFrame:
    """Return one row a set, one column a line: accuracy, or AUROC for an OOD set, in percent with its interval."""
    found = estimates(rows)
    shown = found["metric"].eq("accuracy") | (found["metric"].eq("auroc") & found["score"].eq(score))
    found = found[shown & (found["set"] != MEAN)]
    found = found.assign(text=found.apply(written, axis=1, interval=True))
    table = wide(found, "text", ["line"], ["role", "set", "metric", "n"]).fillna("–")
    return table.sort_index(key=lambda level: level.map(ROLES.index) if level.name == "role" else level)


@dataclass(frozen=True)
class Table:
    """A table with what it says: shown in a notebook, written as CSV and as LaTeX.

    Attributes
    ----------
    name : str
        Of its files.
    title, sentence, note : str
        What it shows; the finding; how to read it.
    text, numbers : DataFrame
        The cells as people read them; value, std, low and high of each cell in the same units.
    best : DataFrame of bool
        The cells in bold, in the shape of `text`.
    """

    name: str
    title: str
    text: pd.DataFrame
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    best: pd.DataFrame | None = None
    sentence: str = ""
    note: str = ""

    def _styled(self, text: pd.DataFrame) -> Styler:
        best = np.zeros(text.shape, bool) if self.best is None else self.best.to_numpy()
        style = Styler(text, uuid=self.name, cell_ids=False)
        return style.apply(lambda _: np.where(best, "font-weight: bold", ""), axis=None)

    def _repr_html_(self) -> str:
        if self.text.empty:
            return f"<p><b>{self.sentence}</b></p>"
        shown = self._styled(self.text.rename_axis(index=[None] * self.text.index.nlevels).map(_html))
        look = {"th": "text-align: center", "th.row_heading": "text-align: left", "td": "white-space: nowrap"}
        shown = shown.set_table_styles([{"selector": part, "props": props} for part, props in look.items()])
        table = shown.format_index(_html, axis=0).format_index(_html, axis=1).to_html()
        return f"<p><b>{_html(self.sentence)}</b></p>{table}<p><small>{_html(self.note)}</small></p>"

    def __repr__(self) -> str:
        return f"{self.sentence}\n{self.text.to_string()}\n{self.note}"

    def latex(self) -> str:
        """Return the table for LaTeX: booktabs, the sentence as its caption; empty where there is nothing to show."""
        if self.text.empty:
            return ""
        text = self.text.rename_axis(index=[None] * self.text.index.nlevels).map(_latex)
        text.index, text.columns = (_mapped(keys, _latex) for keys in (text.index, text.columns))
        columns = "l" * text.index.nlevels + "r" * text.shape[1]
        return self._styled(text).to_latex(
            column_format=columns, hrules=True, convert_css=True, multicol_align="c", position="t",
            position_float="centering", caption=_latex(f"{self.title}. {self.sentence} {self.note}".strip()),
            label=f"tab:{self.name}",
        )  # fmt: skip

    def csv(self) -> str:
        """Return the numbers as CSV."""
        return self.numbers.to_csv()


def _html(text: object) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(text: object) -> str:
    return str(text).translate(_LATEX)


def _mapped(keys: pd.Index, function) -> pd.Index:
    if keys.nlevels == 1:
        return keys.map(function)
    return pd.MultiIndex.from_tuples([tuple(function(part) for part in key) for key in keys])


def table(
    name: str, title: str, found: pd.DataFrame, columns: list[str], index: str = "line", interval: bool = False
) -> Table:
    """Return estimates as a `Table`.

    Parameters
    ----------
    found : DataFrame
        Estimates; columns of one's own may be added to be used as a head.
    columns : list of str
        Which of its columns are the heads of the table's columns; ``index``: of its rows.
    interval : bool
        Write the bootstrap interval into each cell.
    """
    if found.empty:
        return Table(name, title, pd.DataFrame())
    metric = found["metric"].map(METRICS)
    factor, digits, lower = (metric.map(lambda m, a=a: getattr(m, a)) for a in ("factor", "digits", "lower"))
    spread = found.assign(text=found.apply(written, axis=1, interval=interval))
    for part in ("value", "std", "low", "high"):
        spread[part] = found[part] * factor
    # Rounded as printed, so that what reads the same is equally bold; a method that trains nothing wins no cost.
    rounded = [round(value, number) for value, number in zip(spread["value"], digits)]
    spread["key"] = np.where(lower, -np.array(rounded), rounded)
    spread.loc[(spread["role"] == "cost") & (spread["method"] == "zero_shot"), "key"] = np.nan
    keys, text = wide(spread, "key", columns, [index]), wide(spread, "text", columns, [index]).fillna("–")
    best = keys.eq(keys.max()) & (keys.notna().sum() > 1)
    numbers = {part: wide(spread, part, columns, [index]) for part in ("value", "std", "low", "high")}
    flat = {" ".join([*_parts(head), *([part] if part != "value" else [])]): values[head]
            for head in text.columns for part, values in numbers.items()}  # fmt: skip
    return Table(name, title, text, pd.DataFrame(flat).dropna(axis=1, how="all"), best)


def _parts(head) -> list[str]:
    return [str(part) for part in (head if isinstance(head, tuple) else (head,))]


def _of(found: pd.DataFrame, role: str, *metrics: str, score: str | None = None) -> pd.DataFrame:
    """Return the estimates of a role, with the metrics' heads."""
    kept = found[(found["role"] == role) & found["metric"].isin(metrics)]
    kept = kept if score is None else kept[kept["score"] == score]
    return kept.assign(head=kept["metric"].map(lambda metric: METRICS[metric].header))


def _summary(found: pd.DataFrame, score: str) -> Table:
    parts = [axis(found, name, score).reset_index().assign(axis=name) for name in AXES]
    lines = {line: i for i, line in enumerate(found["line"].unique())}
    every = pd.concat([part for part in parts if len(part)] or parts[:1])
    every = every.sort_values("line", key=lambda column: column.map(lines), kind="stable")
    made = table("summary", "The three axes, in percent", every, ["axis"])
    if made.text.empty:
        return made
    text = made.text.reindex(columns=list(AXES), fill_value="–")
    best = made.best.reindex(columns=list(AXES), fill_value=False)
    return Table(made.name, made.title, text, made.numbers, best)


def paper_tables(found: pd.DataFrame, score: str = "msp") -> dict[str, Table]:
    """Return the tables of the paper, without sentences: summary, id, shift, ood, two of the detectors, and cost."""
    inside = _of(found, "id", "accuracy", "calibration_error")
    shift = _of(found, "shift", "accuracy")
    ood = _of(found, "ood", "fpr_at_95_id_recall", "auroc", score=score)
    plain = default_lines(found)
    made = {
        "summary": _summary(found, score),
        "id": table("id", "ID test set, in percent", inside[inside["set"] != MEAN], ["head"], interval=True),
        "shift": table("shift", "Accuracy under shift, in percent", shift, ["set"]),
        "ood": table("ood", f"OOD detection by {DETECTORS.get(score, score)}, in percent", ood, ["set", "head"]),
    }  # fmt: skip
    for name, metric in (("detectors_auroc", "auroc"), ("detectors_fpr95", "fpr_at_95_id_recall")):
        means = _of(plain, "ood", metric)
        means = means[means["set"] == MEAN].assign(
            detector=lambda kept: kept["score"].map(lambda s: DETECTORS.get(s, s))
        )
        made[name] = table(name, f"Detectors: mean {METRICS[metric].name}, in percent", means, ["line"], "detector")
    cost = [name for name in METRICS if name in set(found["metric"][found["role"] == "cost"])]
    made["cost"] = table("cost", "What training costs", _of(found, "cost", *cost), ["head"])
    return made
