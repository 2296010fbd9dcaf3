"""Maps with the picture under the pointer beside them (ipywidgets); headless the figure alone."""

from __future__ import annotations

import io
from html import escape

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import traitlets
from PIL import Image

from .map_panels import FeatureMaps
from .map_plots import feature_maps, finding, hover_texts
from .parameters import in_jupyterlab

_SIDE = 208  # px to which a picture is enlarged
_WIDE = 920  # px: left to itself, a live figure takes 700


class MapExplorer(widgets.VBox):
    """The maps, and beside them the picture that was pointed at last, with its class, the answers and ID scores.

    Attributes
    ----------
    chosen : int
        The picture's number; setting it shows it, and rings it in every map.
    figure : plotly.graph_objects.FigureWidget
    image, text : widgets.Image, widgets.HTML
    """

    chosen = traitlets.Int(0, min=0)

    def __init__(self, maps: FeatureMaps, chosen: int = 0):
        self.maps, self._texts = maps, hover_texts(maps)
        self.figure = go.FigureWidget(feature_maps(maps))
        points = [trace for trace in self.figure.data if trace.customdata is not None]
        self._rings = self._add_rings()
        # Above it, the title wraps at whatever width there is.
        title = widgets.HTML(f"<span style='font-size: 16px'>{escape(finding(maps))}</span>")
        self.figure.update_layout(title=None, width=_WIDE, height=self.figure.layout.height - 40)
        self.figure.layout.margin.t -= 40
        self.image = widgets.Image(format="png", width=_SIDE, layout={"border": "1px solid #BBBBBB"})
        self.text = widgets.HTML()
        hint = widgets.HTML("<div style='line-height: 1.4'>Point at a picture; a ring marks it in every map.</div>")
        beside = {"width": f"{_SIDE + 32}px", "flex": "0 0 auto", "padding": "20px 0 0 12px"}
        super().__init__(
            [title, widgets.HBox([self.figure, widgets.VBox([hint, self.image, self.text], layout=beside)])]
        )
        for trace in points:
            trace.on_hover(self._pointed)
            trace.on_click(self._pointed)
        self.chosen = chosen
        self._show()

    @traitlets.validate("chosen")
    def _is_there(self, proposal: traitlets.Bunch) -> int:
        if not 0 <= proposal["value"] < len(self._texts):
            raise traitlets.TraitError(f"chosen = {proposal['value']}: there are {len(self._texts)} pictures")
        return proposal["value"]

    def _pointed(self, trace, points, state) -> None:
        if points.point_inds:
            self.chosen = int(trace.customdata[points.point_inds[0]])

    @traitlets.observe("chosen")
    def _show(self, change=None) -> None:
        self.image.value = enlarged(self.maps.picture(self.chosen))
        self.text.value = f"<div style='line-height: 1.5'>{self._texts[self.chosen]}</div>"
        with self.figure.batch_update():
            for ring, panel in zip(self._rings, self.maps.panels):
                (x, y) = panel.map_M2[self.chosen]
                ring.x, ring.y = [x], [y]

    def _add_rings(self) -> list:
        marker = {"symbol": "circle-open", "size": 18, "color": "#000000", "line": {"width": 2.5}}
        for number in range(len(self.maps.panels)):
            axis = str(number + 1) if number else ""
            self.figure.add_scatter(
                x=[None], y=[None], xaxis=f"x{axis}", yaxis=f"y{axis}", mode="markers", marker=marker,
                showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        return list(self.figure.data[-len(self.maps.panels) :])


def map_explorer(maps: FeatureMaps) -> MapExplorer | go.Figure:
    """Return the maps with the picture beside them in JupyterLab, the figure alone under papermill and in scripts."""
    return MapExplorer(maps) if in_jupyterlab() else feature_maps(maps)


def enlarged(pixels_HWC: np.ndarray, side: int = _SIDE) -> bytes:
    """Return a picture as PNG, its longer side enlarged to at least `side` px with its pixels left square."""
    factor = max(1, -(-side // max(pixels_HWC.shape[:2])))
    picture, buffer = Image.fromarray(pixels_HWC), io.BytesIO()
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(buffer, "png")
    return buffer.getvalue()
