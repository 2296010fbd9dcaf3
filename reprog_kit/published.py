"""Numbers that others published, each with its source, to stand beside the ledger's."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .ledger import MEAN, METRICS, NAMES, label
from .parameters import InputError, nearest
from .settings import project_root, read_yaml
from .tables import Table, written


class Published(BaseModel):
    """One source's numbers for one method."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    method: str
    variant: str = ""
    model: str = Field(min_length=1)
    score: str = ""
    source: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://\S+$")
    # benchmark: {set: {metric: percent}}
    percent: dict[str, dict[str, dict[str, float]]]

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        if value not in NAMES:
            raise ValueError(f"there is no method {value!r}.{nearest(value, NAMES)}")
        return value

    @field_validator("percent")
    @classmethod
    def _known_metrics(cls, value: dict) -> dict:
        for dataset, sets in value.items():
            for name, metrics in sets.items():
                for metric, number in metrics.items():
                    if metric not in METRICS:
                        raise ValueError(f"{dataset}, {name}: no metric {metric!r}.{nearest(metric, METRICS)}")
                    if not 0 <= number <= 100:
                        raise ValueError(f"{dataset}, {name}, {metric}: {number} is no percentage")
        return value


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    published: list[Published]


def read_published(path: Path | None = None) -> list[Published]:
    """Return the entries of ``params/published.yaml``.

    Raises
    ------
    InputError
        If an entry lacks its source, or names a method or metric that there is not.
    """
    path = path or project_root() / "params" / "published.yaml"
    if not path.is_file():
        return []
    try:
        return _File(**read_yaml(path)).published
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise InputError(f"{path} is refused:\n" + "\n".join(lines)) from None


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def beside_published(found: pd.DataFrame, dataset: str, entries: list[Published] | None = None) -> Table:
    """Return every number that was published for a benchmark beside ours; a dash on the side that has none.

    Methods for which nothing was published are there with their ID accuracy.
    """
    entries = read_published() if entries is None else entries
    rows = [
        (entry, data, metric, number)
        for entry in entries
        for name, sets in entry.percent.items() if _key(name) == _key(dataset)
        for data, metrics in sets.items() for metric, number in metrics.items()
    ]  # fmt: skip
    title = "Beside what others published, in percent"
    if not rows:
        return Table("published", title, pd.DataFrame(), sentence=f"Nothing was published for {dataset}.")
    ours = found[found["set"] != MEAN].assign(data=lambda table: table["set"].map(_key))
    lines = []
    for entry, data, metric, number in rows:
        same = {"method": entry.method, "variant": entry.variant, "data": _key(data), "metric": metric}
        match = ours[(ours[list(same)] == pd.Series(same)).all(axis=1) & (ours["score"] == entry.score)]
        cells = [(row["line"], written(row)) for _, row in match.iterrows()]
        for line, text in cells or [(label(entry.method, entry.variant), "–")]:
            lines.append((line, entry.method, data, METRICS[metric].name, text, f"{number:.2f}", entry))
    named = {line[0] for line in lines}
    for _, row in ours[(ours["role"] == "id") & (ours["metric"] == "accuracy") & ~ours["line"].isin(named)].iterrows():
        lines.append((row["line"], row["method"], row["set"], METRICS["accuracy"].name, written(row), "–", None))
    lines.sort(key=lambda line: list(NAMES).index(line[1]) if line[1] in NAMES else len(NAMES))
    head = ["method", "set", "metric", "ours", "published", "theirs is", "source"]
    text = pd.DataFrame(
        [(*line[:1], *line[2:6], *((e.model, e.source) if (e := line[6]) else ("–", "–"))) for line in lines],
        columns=head,
    ).set_index("method")  # fmt: skip
    urls = sorted({entry.url for entry, *_ in rows})
    both = int((text[["ours", "published"]] != "–").all(axis=1).sum())
    sentence = f"Numbers that both sides have: {both} of {len(text)}."
    note = "Theirs hold for full-size pictures; compare only where model and pictures agree. Sources: " + "; ".join(
        urls
    )
    return Table("published", title, text, text, sentence=sentence, note=note)
