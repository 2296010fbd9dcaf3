"""A report: the ledger of one benchmark as tables with their sentences, and as files for a paper."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from .files import write_whole
from .ledger import DETECTORS, MEAN, default_lines, estimates, read_ledger
from .published import beside_published
from .sentences import against_fine_tuning, cheapest, detectors, headline, leader
from .settings import ReportSettings, in_project
from .tables import Table, paper_tables


class Report:
    """Everything that the ledger says about one benchmark; no model and no picture is touched.

    Parameters
    ----------
    settings : ReportSettings

    Attributes
    ----------
    rows : DataFrame
        The ledger's rows.
    found : DataFrame
        What `estimates` makes of them.

    Raises
    ------
    InputError
        If the ledger has no row of the benchmark.
    """

    def __init__(self, settings: ReportSettings):
        given = settings.dataset
        self.settings, self.score = settings, settings.score
        self.dataset = Path(given).stem if given.endswith((".yaml", ".yml")) else given
        self.rows = read_ledger(settings.runs, self.dataset)
        found = estimates(self.rows)
        self.found = found if settings.variants else default_lines(found)

    def describe(self) -> str:
        """Return what the figures rest on: runs, pictures, seeds, device and version."""
        means = self.found[(self.found["set"] == MEAN) & self.found["metric"].isin(["accuracy", "auroc"])]
        pictures = {role: _span(of["n"]) for role, of in means.groupby("role")}
        counts = [f"{pictures[role]} {name}" for role, name in _ROLES.items() if role in pictures]
        seeds = sorted(self.rows["seed"][self.rows["method"] != "zero_shot"].dropna().astype(int).unique())
        machines = [f"{', '.join(sorted(self.rows[name].dropna().unique()))}" for name in ("device", "torch")]
        return (
            f"{self.dataset}: {self.found['line'].nunique()} lines from {self.rows['run'].nunique()} runs, "
            f"seeds {', '.join(map(str, seeds)) or 'none'}; pictures: {', '.join(counts)}; "
            f"score {DETECTORS[self.score]}; on {machines[0]}, torch {machines[1]}"
        )

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Every table by name, with its sentence and a note on how to read it."""
        found, score = self.found, self.score
        says = {
            "summary": f"{headline(found, score)}. {against_fine_tuning(found, score)}".strip(),
            "id": leader(found, "ID accuracy"),
            "shift": leader(found, "shift accuracy"),
            "ood": leader(found, "AUROC", score),
            "detectors_auroc": detectors(found, "auroc"),
            "detectors_fpr95": detectors(found, "fpr_at_95_id_recall"),
            "cost": cheapest(found),
        }
        made = paper_tables(found, score)
        made = {name: replace(made[name], sentence=text, note=self._note(name)) for name, text in says.items()}
        return {**made, "published": beside_published(found, self.dataset)}

    def _note(self, name: str) -> str:
        seeds = self.found["seeds"][self.found["method"] != "zero_shot"]
        several = len(seeds) and seeds.max() > 1
        spread = f"Mean ± sample standard deviation over {_span(seeds)} seeds; zero-shot has none." if several else ""
        brackets = "In brackets the 95% bootstrap interval over pictures." if name == "id" else ""
        least = "what is least" if name == "cost" else "the best of a column"
        return " ".join(part for part in (spread, brackets, f"Bold: {least}, as printed.") if part)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return in_project(self.settings.folder or Path(self.settings.runs) / f"report-{self.dataset}")

    def export(self) -> list[Path]:
        """Write the long ``results.csv`` (the ledger's units) and each table as CSV and LaTeX; return their paths.

        The LaTeX needs ``\\usepackage{booktabs}``.
        """
        written = [write_whole(self.folder / "results.csv", self.found.to_csv(index=False))]
        for name, table in self.tables.items():
            if not table.text.empty:
                written.append(write_whole(self.folder / f"{name}.csv", table.csv()))
                written.append(write_whole(self.folder / f"{name}.tex", table.latex()))
        return written


_ROLES = {"id": "ID", "shift": "shift", "ood": "OOD"}


def _span(numbers: Iterable[int] | pd.Series) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
