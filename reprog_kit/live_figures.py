"""Figures that move with a slider inside the browser (anywidget): no word with the kernel, no figure drawn anew.

A plotly FigureWidget asks the kernel at every move and then draws the whole figure, which takes longer than a move.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs


@dataclass(frozen=True, eq=False)
class Moving:
    """A figure and what of it changes with a slider.

    Attributes
    ----------
    figure : plotly.graph_objects.Figure
        Its axes have fixed ranges, and what moves is a scatter: else plotly would have to draw it anew.
    traces : list of int
        Which traces move.
    frames : list of list of dict
        For every place of the slider what changes of each of these traces, such as ``{"x": [...]}``.
    width : int
        Px below which the figure is not squeezed beside another one.
    """

    figure: go.Figure
    traces: list[int] = field(default_factory=list)
    frames: list[list[dict[str, list[float]]]] = field(default_factory=list)
    width: int = 900

    def at(self, place: int) -> go.Figure:
        """Return the plain figure at a place of the slider."""
        for trace, changed in zip(self.traces, self.frames[place] if self.frames else ()):
            self.figure.data[trace].update(changed)
        return self.figure

    def sent(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        plain = json.loads(self.figure.to_json())
        return {**plain, "traces": self.traces, "frames": self.frames, "width": self.width}


# A figure's element says whether it moves, and at which place it stands (data-at) once it is drawn there.
_DRAW = """
function draw(model, row) {
  const figures = model.get('figures');
  while (row.children.length > figures.length) { Plotly.purge(row.lastChild); row.lastChild.remove(); }
  while (row.children.length < figures.length) row.append(document.createElement('div'));
  figures.forEach(({width}, i) => { row.children[i].style.cssText = `flex: ${width} 1 ${width}px; min-width: 0`; });
  figures.forEach((figure, i) => {
    const to = row.children[i];
    to.dataset.moves = figure.traces.length > 0;
    Plotly.react(to, figure.data, figure.layout, {displaylogo: false}).then(() => move(model, row, i));
  });
}
function move(model, row, i) {
  const figure = model.get('figures')[i], to = row.children[i], at = model.get('at');
  if (!figure || !to || !to.data) return;
  const done = () => { to.dataset.at = at; };
  if (!figure.traces.length) return done();
  Plotly.animate(to, {data: figure.frames[at], traces: figure.traces},
    {mode: 'immediate', transition: {duration: 0}, frame: {duration: 0, redraw: false}}).then(done, () => {});
}
function render({model, el}) {
  const said = document.createElement('div'), row = document.createElement('div');
  said.style.cssText = 'font-size: 15px; padding: 4px 0 8px; color: var(--jp-ui-font-color1)';
  row.style.cssText = 'display: flex; flex-wrap: wrap; gap: 8px';
  el.append(said, row);
  const say = () => { said.textContent = model.get('said')[model.get('at')] ?? ''; };
  const all = () => { say(); for (let i = 0; i < row.children.length; i++) move(model, row, i); };
  const anew = () => { say(); draw(model, row); };
  model.on('change:figures', anew);
  model.on('change:said', say);
  model.on('change:at', all);
  requestAnimationFrame(anew);  // only now has the element its width
  const seen = new ResizeObserver(() => [...row.children].forEach(to => { if (to.data) Plotly.Plots.resize(to); }));
  seen.observe(row);  // a window that grows, and a sidebar that opens
  return () => { seen.disconnect(); [...row.children].forEach(to => Plotly.purge(to)); };
}
export default {render};
"""


class LiveFigures(anywidget.AnyWidget):
    """Figures side by side as far as there is room, moved by one slider.

    Attributes
    ----------
    at : int
        The place of the slider; `ipywidgets.jslink` ties it to a slider inside the browser.
    figures : list of dict
        What `Moving.sent` returns.
    said : list of str
        What stands above them at every place.
    """

    at = traitlets.Int(0).tag(sync=True)
    figures = traitlets.List(traitlets.Dict()).tag(sync=True)
    said = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, **traits: Any):
        self._esm = get_plotlyjs() + _DRAW  # read here, as it is 5 MB
        super().__init__(**traits)

    def show(self, figures: Sequence[Moving], said: Sequence[str]) -> None:
        """Draw other figures, at the place where the slider is."""
        with self.hold_sync():
            self.figures, self.said = [figure.sent() for figure in figures], list(said)
