"""The image inspector (ipywidgets): a picture of a set or an upload, and figures of what every line says to it."""

from __future__ import annotations

import asyncio
import random
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from ipywidgets import HTML, BoundedIntText, Box, Button, Dropdown, FileUpload, Layout, VBox, link
from traitlets import Bytes, Int, TraitError, Unicode, observe, validate

from .inspection import Inspection, inspect
from .inspection_plots import answers, id_score, pictures
from .live_figures import LiveFigures, Moving
from .padding_view import png
from .parameters import InputError, in_jupyterlab
from .pictures import squares
from .plots import tokens_moved
from .seen import Seen
from .workbench import Workbench

# px at which a figure is laid out, and below which it goes into a row of its own.
_WIDE = {"pictures": 740, "id_score": 430, "answers": 560, "tokens": 390}
_VIEWS = {"pictures": pictures, "id_score": id_score, "answers": answers}
_REST_S = 0.25  # after a move of alpha
_ACROSS = {"flex_flow": "row wrap", "grid_gap": "8px", "align_items": "center"}


class Inspector(VBox):
    """A picture, chosen or uploaded, and figures that follow it and the workbench.

    Parameters
    ----------
    bench : Workbench
        Its ``chosen``, ``score``, ``alpha`` and ``names`` are followed; the menu of the line sets ``chosen``.

    Attributes
    ----------
    set : str
        A scored set; at the start the first shift set.
    number : int
        Which picture of it, from 0 on; in a smaller set the last one.
    uploaded : bytes or None
        An encoded picture that stands in the place of the set's, until set or number change.
    inspection : Inspection
        What is shown, as arrays.
    figures : dict of plotly.graph_objects.Figure
        ``pictures``, ``id_score``, ``tokens`` and ``answers``.
    """

    set = Unicode()
    number = Int()
    uploaded = Bytes(None, allow_none=True)
    _line_link = None

    def __init__(self, bench: Workbench):
        self.bench, self.figures, self._waiting = bench, {}, None
        self.inspection: Inspection | None = None
        self._seen: Seen | None = None
        self._picked: tuple = ()
        self._file, self._tokens_of = "", None
        self.live = LiveFigures()
        self._said, self._refused = HTML(), HTML()
        super().__init__([*self._controls(), self._refused, self._said, self.live])
        self.set = first_set(bench)
        self._links = [link((self, "set"), (self._sets, "value")), link((self, "number"), (self._which, "value"))]
        self._line_link = link((bench, "chosen"), (self._line, "value"))
        bench.observe(self._bench_moved, ["chosen", "score"])
        bench.observe(self._alpha_moved, "alpha")
        bench.observe(self._joined, "names")

    def _controls(self) -> list[Box]:
        scored = [(f"{name} ({role})", name) for name, (role, data) in self.bench.zero_shot.sets.items() if len(data)]
        self._sets = Dropdown(options=scored, description="set")
        self._which = BoundedIntText(description="picture", layout=Layout(width="170px"))
        steps = {"previous": lambda at, n: (at - 1) % n, "next": lambda at, n: (at + 1) % n, "random": _another}
        self.buttons = {name: Button(description=name, layout=Layout(width="90px")) for name in steps}
        for name, button in self.buttons.items():
            button.on_click(lambda _, step=steps[name]: self._go(step))
        self._line = Dropdown(options=self.bench.names, value=self.bench.chosen, description="line")
        self.upload = FileUpload(accept="image/*", description="upload a picture", layout=Layout(width="190px"))
        self.upload.observe(self._take, "value")
        rows = [self._sets, self._which, *self.buttons.values()], [self._line, self.upload]
        return [Box(row, layout=Layout(**_ACROSS)) for row in rows]

    def _go(self, step) -> None:
        self.uploaded = None
        self.number = step(self.number, len(self.bench.pictures(self.set)))

    def _take(self, change) -> None:
        """Show what was uploaded, or say why that cannot be."""
        if not change["new"]:
            return
        (file,) = change["new"]
        self._file, self._refused.value = file["name"], ""
        try:
            self.uploaded = bytes(file["content"])
        except TraitError as error:
            self._refused.value = f"<p>⚠ {escape(str(error))}</p>"
        self._file = ""
        self.upload.value = ()  # the same file may be chosen again

    @validate("uploaded")
    def _can_be_read(self, proposal):
        if proposal["value"] is not None:
            self._decoded(proposal["value"])
        return proposal["value"]

    def _decoded(self, content: bytes) -> np.ndarray:
        try:
            return next(squares(content, self.bench.data.benchmark.side))[0]
        except InputError:
            raise TraitError(
                f"{self._file or 'what was uploaded'} ({len(content):,} bytes) is no picture that can be read, and "
                "what was shown stays. Choose a PNG, a JPEG or another format that Pillow reads."
            ) from None

    @validate("set")
    def _is_scored(self, proposal) -> str:
        known = [name for _, name in self._sets.options]
        if proposal["value"] not in known:
            raise TraitError(f"there is no set {proposal['value']!r}; there are: {', '.join(known)}.")
        return proposal["value"]

    @validate("number")
    def _is_there(self, proposal) -> int:
        last = len(self.bench.pictures(self.set)) - 1
        if not 0 <= proposal["value"] <= last:
            raise TraitError(f"number = {proposal['value']} is refused: {self.set} has the pictures 0 to {last}.")
        return proposal["value"]

    @observe("set", "number")
    def _moved(self, change) -> None:
        if change["name"] == "set":
            self._which.max = len(self.bench.pictures(self.set)) - 1
            self.number = min(self.number, self._which.max)
        self.uploaded = None
        self._pick()

    @observe("uploaded")
    def _uploaded(self, _) -> None:
        self._pick()

    def _pick(self) -> None:
        """Take the picture that is asked for; one that is shown already stays."""
        picked = (self.uploaded,) if self.uploaded else (self.set, self.number)
        if picked == self._picked:
            return
        self._picked = picked
        if self.uploaded:
            picture, label, said = self._decoded(self.uploaded), None, f"your picture {self._file}".rstrip()
        else:
            data = self.bench.pictures(self.set)
            picture, label = np.array(data.images_NHWC[self.number]), int(data.labels_N[self.number])
            said = f"{self.set}, picture {self.number} of {len(data)}"
        self._seen = Seen(self.bench, picture, label)
        said = f"{said}: {self._seen.label}" if self._seen.label else said
        self._said.value, self._refused.value = f"<p>{escape(said)}</p>", ""
        self.render()

    def render(self) -> None:
        """Draw anew what another picture, line, detector or alpha changes."""
        self.inspection = now = inspect(self.bench, self._seen)
        line = self.bench.lines[now.name]
        model = line.evaluation.model(line.method)
        if self._tokens_of is not model:
            self._tokens_of, self._tokens = model, tokens_moved(model, 12, _WIDE["tokens"])
        drawn = {name: draw(now, _WIDE[name]) for name, draw in _VIEWS.items()}
        self.figures = {name: (drawn | {"tokens": self._tokens})[name] for name in _WIDE}
        for figure in self.figures.values():
            figure.layout.width = None  # its text is laid out for that width; the figure takes what there is
        self.live.show([Moving(figure, width=_WIDE[name]) for name, figure in self.figures.items()], [])

    def _bench_moved(self, _) -> None:
        self.render()

    def _alpha_moved(self, _) -> None:
        """Draw anew once alpha rests: while it moves, the browser has the comparison to draw."""
        if self._waiting:
            self._waiting.cancel()
        try:
            self._waiting = asyncio.get_running_loop().call_later(_REST_S, self.render)
        except RuntimeError:  # no kernel
            self.render()

    def _joined(self, _) -> None:
        self._line_link.unlink()  # a menu with other options jumps to the first
        self._line.options = self.bench.names
        self._line_link.link()
        self.render()

    def close(self) -> None:
        """Let go of the workbench."""
        if self._line_link is not None:
            self.bench.unobserve(self._bench_moved, ["chosen", "score"])
            self.bench.unobserve(self._alpha_moved, "alpha")
            self.bench.unobserve(self._joined, "names")
            self._line_link.unlink()
            self._line_link = None
        super().close()


def first_set(bench: Workbench) -> str:
    """Return the name of the first shift set with a picture, or of the test set."""
    sets = bench.zero_shot.sets
    return next((name for name, (role, data) in sets.items() if role == "shift" and len(data)), "test")


def _another(at: int, count: int) -> int:
    """Return a number below a count that is not the one given, where there is another."""
    return (at + random.randrange(1, count)) % count if count > 1 else at


def inspector(bench: Workbench, picture: Any = None) -> Inspector | go.Figure:
    """Return the inspector; outside JupyterLab the figure of the pictures and the gradient alone.

    Parameters
    ----------
    bench : Workbench
    picture : path, encoded bytes, PIL picture or uint8 pixels (H, W, 3), optional
        By default the first one of the first shift set.

    Raises
    ------
    InputError
        If the picture cannot be read.
    """
    pixels = None if picture is None else next(squares(picture, bench.data.benchmark.side))[0]
    if in_jupyterlab():
        panel = Inspector(bench)
        panel.uploaded = None if pixels is None else png(pixels, 1)
        return panel
    data = bench.pictures(first_set(bench))
    seen = Seen(bench, np.array(data.images_NHWC[0]), int(data.labels_N[0])) if pixels is None else Seen(bench, pixels)
    return pictures(inspect(bench, seen))
