"""The training panel (ipywidgets): what a border looks like, and a training in the background that joins the others."""

from __future__ import annotations

import asyncio
import contextvars
import math
from html import escape

import numpy as np
from ipywidgets import HTML, Box, Button, Dropdown, HBox, IntProgress, Layout, VBox, link
from traitlets import Bool, Enum, Float, Int, TraitError, Unicode, observe, validate

from .ablation_plots import width_pictures
from .background import Job, latest, start
from .budget import spoken
from .ledger import NAMES
from .padding_view import border_of, example_pictures, untrained_border, view
from .padding_widgets import PaddingPreview
from .parameters import InputError, in_jupyterlab
from .workbench import Workbench

METHODS = ("reprogrammer", "linear_probe", "fine_tune", "lp_ft", "l2_sp", "coop")
BUDGETS = (20.0, 60.0, 180.0, 600.0, math.inf)
_BAR = {"done": "success", "stopped": "warning", "failed": "danger"}


class TrainPanel(VBox):
    """What a border of a width does, and a training of any method within a budget, in the background.

    Parameters
    ----------
    bench : Workbench
        The run joins it. A training that is under way in this kernel is taken up, whichever panel started it.

    Attributes
    ----------
    padding : int
        The workbench's, in px.
    method : str
        What Train trains; the padding is the reprogrammer's alone.
    seconds : float
        What the training may take; infinity is all the epochs of the benchmark.
    running : bool
        Whether a training is under way; read-only.
    said : str
        How far it is, what came of it, or why there is none; read-only.
    preview : PaddingPreview
    """

    padding = Int()
    method = Enum(METHODS, METHODS[0])
    seconds = Float()
    running = Bool(read_only=True)
    said = Unicode(read_only=True)

    def __init__(self, bench: Workbench):
        self.bench, self._job = bench, None
        self._names: list[str] = []
        self._budgets = tuple(sorted({*BUDGETS, bench.settings.budget}))
        try:  # where the thread's news go: a widget is touched in the kernel's loop alone
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._context = contextvars.copy_context()
        self.preview = PaddingPreview(example_pictures(bench.data), **_shown(bench))
        super().__init__([Box([self._controls(), self.preview], layout=Layout(flex_flow="row wrap", grid_gap="16px"))])
        self.padding, self.seconds = bench.padding, bench.settings.budget
        link((bench, "padding"), (self, "padding"))
        link((self, "padding"), (self.preview, "padding"))
        link((self, "method"), (self._method, "value"))
        link((self, "seconds"), (self._seconds, "value"))
        bench.observe(self._draw, "names")
        self.set_trait("said", self._offer())
        job = latest()
        if job and (job.bench is bench or not job.state.over):
            self._attach(job)
        self._enable()

    def _controls(self) -> VBox:
        wide = {"style": {"description_width": "60px"}, "layout": Layout(width="auto")}
        budgets = [(_budget(seconds), seconds) for seconds in self._budgets]
        self._method = Dropdown(options=[(NAMES[name], name) for name in METHODS], description="method", **wide)
        self._seconds = Dropdown(options=budgets, description="budget", **wide)
        self._train = Button(description="Train", icon="play", button_style="primary")
        self._stop = Button(description="Stop", icon="stop")
        self._train.on_click(lambda _: self.train())
        self._stop.on_click(lambda _: self.stop())
        self._bar, self._text = IntProgress(0, 0, 1, layout=Layout(width="auto")), HTML()
        parts = [self._method, self._seconds, HBox([self._train, self._stop]), self._bar, self._text]
        return VBox(parts, layout=Layout(flex="1 1 340px", max_width="560px"))

    def train(self) -> None:
        """Start a training of the method at the padding, within the budget; one that is under way goes on instead."""
        width = {"padding": self.padding} if self.method == "reprogrammer" else {}
        try:
            job, _ = start(self.bench, self.bench.training(method=self.method, **width), self.seconds)
        except InputError as error:
            self.set_trait("said", str(error))
            return
        self._attach(job)

    def stop(self) -> None:
        """Stop what is under way; see `reprog_kit.background.Job.stop`."""
        if self.running:
            self._job.stop()

    def _attach(self, job: Job) -> None:
        """Follow a training."""
        if job is not self._job:
            self._job, self._names = job, []
            job.listen(self._hear)
        self._follow(job)

    def _hear(self, job: Job) -> None:
        """Take news from the training's thread to where widgets may be touched."""
        if self._loop is None:
            self._follow(job)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follow, job, context=self._context)

    def _follow(self, job: Job) -> None:
        """Show where a training stands; once it is over, its run joins the workbench."""
        if job is not self._job:
            return
        state = job.state
        joined = self._join(job) if state.evaluation else ""
        self._bar.max, self._bar.value = max(state.total, 1), state.step if not state.over else max(state.total, 1)
        self._bar.bar_style = _BAR.get(state.phase, "")
        self.set_trait("said", state.text + joined)
        self.set_trait("running", not state.over)

    def _join(self, job: Job) -> str:
        """Take a job's run into the workbench, once; say under which names."""
        evaluation = job.state.evaluation
        here = [name for name, line in self.bench.lines.items() if line.evaluation is evaluation]
        self._names = self._names or here
        try:
            if not self._names and job.bench is self.bench:
                self._names = self.bench.join(evaluation, job.state.tracks)
            elif not self._names:  # of an earlier workbench in this kernel; its features are kept on the disk
                if job.state.run.name not in [known.name for known in self.bench.known_runs()]:
                    return " It is on another benchmark or model than these panels."
                self._names = self.bench.join(self.bench.evaluate(job.state.run))
        except InputError as error:
            return f" It could not join: {error}"
        if self.bench.lines[self.bench.chosen].evaluation is self.bench.zero_shot:
            self.bench.settle()  # there was nothing trained to look at before
        return f" In the comparison: {', '.join(self._names)}."

    def _draw(self, _) -> None:
        """Show the borders that the workbench has now, of equal widths the one that was just trained."""
        run = self._job.state.run if self._job else None
        self.preview.show(**_shown(self.bench, run.name if run else ""))

    @observe("method", "seconds")
    def _asked(self, _) -> None:
        self._enable()
        if not self.running and self._job is None:
            self.set_trait("said", self._offer())

    def _offer(self) -> str:
        pictures, whole = f"{len(self.bench.data.train):,} pictures", "all epochs of the benchmark"
        if math.isinf(self.seconds):
            return f"Train takes {whole}, on {pictures}."
        return f"Train fits a training on {pictures} into {spoken(self.seconds)}: {whole}, or fewer."

    @observe("running")
    def _enable(self, _=None) -> None:
        self._train.disabled, self._stop.disabled = self.running, not self.running
        self.preview.slider.disabled = self.method != "reprogrammer"

    @observe("said")
    def _write(self, change) -> None:
        self._text.value = f"<div role='status' style='line-height: 1.4'>{escape(change['new'])}</div>"

    @validate("seconds")
    def _is_offered(self, proposal) -> float:
        if proposal["value"] not in self._budgets:
            known = ", ".join(f"{seconds:g}" for seconds in self._budgets)
            raise TraitError(f"seconds = {proposal['value']:g} is refused; there are: {known}.")
        return proposal["value"]


def _budget(seconds: float) -> str:
    return "the benchmark's epochs" if math.isinf(seconds) else spoken(seconds)


def _programs(bench: Workbench, newest: str) -> dict[int, np.ndarray]:
    """Return the border of every width that a reprogrammer of the workbench has, rather that of the newest run."""
    found = [line.evaluation for line in bench.lines.values() if line.method == "reprogrammer"]
    methods = [evaluation.method for evaluation in sorted(found, key=lambda each: each.run.name == newest)]
    return {m.padding: border_of(m) for m in methods if m.image_program is not None}


def _shown(bench: Workbench, newest: str = "") -> dict:
    """Return what a preview shows of a workbench: programs, or what a training starts from, and the picture's size."""
    asked = bench.training(method="reprogrammer", padding=bench.padding)
    side, programs = bench.backbone.side, _programs(bench, newest)
    found = programs or {side // 2: untrained_border(side, asked)}
    return {"programs": found, "trained": bool(programs), "image_size": asked.image_size}


def training_panel(bench: Workbench):
    """Return the panel, one a workbench; without JupyterLab a figure of picture, border and what the encoder sees.

    Parameters
    ----------
    bench : Workbench
        At its padding; without JupyterLab nothing is trained.
    """
    global _panel
    if not in_jupyterlab():
        name, picture = next(iter(example_pictures(bench.data).items()))
        return width_pictures(view(picture, padding=bench.padding, **_shown(bench)), name=name)
    if _panel is None or _panel.bench is not bench or _panel.comm is None:
        _panel = TrainPanel(bench)
    return _panel


_panel: TrainPanel | None = None
