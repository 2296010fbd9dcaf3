"""What the data doctor found, as text and as a table with pictures. Shapes: S the benchmark's side in px."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

_STYLE = "style='text-align:left;vertical-align:top'"
_SAMPLE_PX = 56
_HEADS = ("set", "role", "", "pictures", "classes", "in train", "where")


@dataclass
class SetFound:
    """What there is of one set.

    Attributes
    ----------
    name, role : str
        Role is id, shift or ood.
    where : str
        Where it is looked for.
    found : bool
    pictures, expected : int, optional
        How many there are, and how many the published set has.
    taken : int, optional
        How many of these the YAML's classes and drop leave.
    classes : str
        Which of the benchmark's classes it holds, and how these were told.
    in_train : int, optional
        Pictures that also stand in the training pictures, pixel by pixel; None where that is not known.
    problems : list of str
    samples : list of tuple
        A few pictures (S, S, 3) with their class names.
    """

    name: str
    role: str
    where: str
    found: bool = False
    pictures: int | None = None
    expected: int | None = None
    taken: int | None = None
    classes: str = ""
    in_train: int | None = None
    problems: list[str] = field(default_factory=list)
    samples: list[tuple[np.ndarray, str]] = field(default_factory=list)


@dataclass(frozen=True)
class DataDiagnosis:
    """What the doctor found, shown as text, and in a notebook as a table with pictures."""

    benchmark: str
    classes: tuple[str, ...]
    root: Path
    sets: tuple[SetFound, ...]
    steps: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether every set is there and nothing is wrong with one."""
        return all(one.found and not one.problems for one in self.sets)

    def rows(self) -> list[tuple[str, ...]]:
        """Return one row of text a set."""
        return [
            (
                one.name,
                one.role,
                "found" if one.found else "MISSING",
                _count(one),
                one.classes or "-",
                "-" if one.in_train is None else f"{one.in_train:,}",
                one.where,
            )
            for one in self.sets
        ]

    def __str__(self) -> str:
        table = [_HEADS, *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(len(_HEADS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        wrong = [f"! {one.name}: {problem}" for one in self.sets for problem in one.problems]
        steps = [f"{i}. {step}" for i, step in enumerate(self.steps, 1)]
        return "\n".join([self.title, "", *lines, "", *wrong, *[""] * bool(wrong), "What to do, in order:", *steps])

    def _repr_html_(self) -> str:
        heads = "".join(f"<th {_STYLE}>{head}</th>" for head in (*_HEADS, "samples"))
        body = ""
        for one, row in zip(self.sets, self.rows()):
            cells = "".join(f"<td {_STYLE}>{escape(cell)}</td>" for cell in row)
            body += f"<tr>{cells}<td {_STYLE}>{_strip(one)}</td></tr>"
        lines = [f"! {one.name}: {problem}" for one in self.sets for problem in one.problems]
        wrong, steps = (
            "".join(f"<li style='white-space:pre-line'>{escape(text)}</li>" for text in texts)
            for texts in (lines, self.steps)
        )
        return (
            f"<p>{escape(self.title)}</p><table><tr>{heads}</tr>{body}</table>"
            f"<ul>{wrong}</ul><p>What to do, in order:</p><ol>{steps}</ol>"
        )

    @property
    def title(self) -> str:
        """Benchmark, classes in label order, and where the YAML's paths start."""
        if not self.classes:
            return f"{self.benchmark}: its classes are the folders of train, not there yet; data root {self.root}"
        shown = ", ".join(self.classes[:10]) + (", …" if len(self.classes) > 10 else "")
        return f"{self.benchmark}: {len(self.classes)} classes ({shown}); data root {self.root}"


def _count(one: SetFound) -> str:
    if one.pictures is None:
        return "-"
    there = f"{one.pictures:,}" + (f" of {one.expected:,}" if one.expected not in (None, one.pictures) else "")
    return there if one.taken in (None, one.pictures) else f"{one.taken:,} taken of {there}"


def _strip(one: SetFound) -> str:
    """Return the samples side by side as one inline picture, their class names as its title."""
    if not one.samples:
        return ""
    px = _SAMPLE_PX
    strip = Image.new("RGB", (px * len(one.samples), px))
    for i, (pixels, _) in enumerate(one.samples):
        strip.paste(Image.fromarray(pixels).resize((px, px), Image.Resampling.BICUBIC), (i * px, 0))
    buffer = io.BytesIO()
    strip.save(buffer, "PNG")
    names = escape(", ".join(name for _, name in one.samples if name))
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"<img src='data:image/png;base64,{content}' alt='{names}'><br><small>{names}</small>"
