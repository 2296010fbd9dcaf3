"""The padding slider (ipywidgets): typed state, and a view that is computed by `reprog_kit.padding_view.view`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from ipywidgets import HTML, Box, Dropdown, Image, IntSlider, Layout, VBox, link
from traitlets import Int, TraitError, Unicode, observe, validate

from .ablation_plots import width_pictures
from .ablation_tables import padding_table
from .datasets import BenchmarkData
from .explore_settings import AblationSettings
from .ledger import NAMES
from .padding_view import View, example_pictures, png, trained_programs, view
from .parameters import in_jupyterlab
from .run_folders import find_run

_HEADS = {"picture_SSC": "picture", "program_SSC": "program, stretched", "reprogrammed_SSC": "what the encoder sees"}


class PaddingPreview(VBox):
    """Picture, program and reprogrammed picture at the slider's width.

    Parameters
    ----------
    pictures : mapping of str to ndarray
        Square uint8 pictures by name; a menu chooses one.
    programs : mapping of int to ndarray
        What the run of each width adds to the canvas, (S, S, C).
    padding : int
        Where the slider starts.
    **shown
        The other arguments of `reprog_kit.padding_view.view`.

    Attributes
    ----------
    padding : int
        The slider's width in px; 0 to half the canvas, with `shrink` to where there is still a picture.
    picture : str
        The chosen picture's name.
    nearest : int
        The width of the run whose program is shown.
    caption : str
        What is shown where no run has the slider's width.
    slider : IntSlider
    """

    padding = Int()
    picture = Unicode()
    nearest = Int()
    caption = Unicode()

    def __init__(
        self, pictures: Mapping[str, np.ndarray], programs: Mapping[int, np.ndarray], padding: int = 0, **shown
    ):
        self._pictures, self._programs, self._shown = dict(pictures), dict(programs), shown
        self._drawn: dict[str, np.ndarray] = {}
        side = len(next(iter(programs.values())))
        self._most = (side - 1) // 2 if shown.get("shrink") else side // 2
        self.slider = IntSlider(0, 0, self._most, description="padding, px", layout=Layout(width="420px"))
        menu = Dropdown(options=list(pictures), description="picture")
        self._images = {name: Image(format="png", layout=Layout(width="224px", height="224px")) for name in _HEADS}
        self._said = HTML()
        across = Layout(flex_flow="row wrap", grid_gap="12px")
        titled = [VBox([HTML(f"<b>{_HEADS[name]}</b>"), image]) for name, image in self._images.items()]
        super().__init__([Box([self.slider, menu], layout=across), Box(titled, layout=across), self._said])
        link((self, "padding"), (self.slider, "value"))
        with self.hold_trait_notifications():
            self.padding, self.picture = min(padding, self._most), next(iter(pictures))
        link((self, "picture"), (menu, "value"))
        self.render()

    def view(self) -> View:
        """Return what is shown, as arrays."""
        return view(self._pictures[self.picture], self._programs, self.padding, **self._shown)

    def show(self, programs: Mapping[int, np.ndarray], **shown) -> None:
        """Put other programs in the place of those that are shown, and draw them."""
        self._programs, self._shown = dict(programs), {**self._shown, **shown}
        self.render()

    def render(self) -> None:
        """Draw anew what changed."""
        shown = self.view()
        for name, image in self._images.items():
            pixels = getattr(shown, name)
            if not np.array_equal(pixels, self._drawn.get(name)):  # packing is most of the time that a move takes
                self._drawn[name], image.value = pixels, png(pixels)
        self.nearest, self.caption = shown.nearest, shown.caption
        self._said.value = f"<p>{shown.caption}.</p>"

    @observe("padding", "picture")
    def _changed(self, _) -> None:
        if self.picture:
            self.render()

    @validate("padding")
    def _within(self, proposal) -> int:
        if not 0 <= proposal["value"] <= self._most:
            raise TraitError(f"padding = {proposal['value']} px is refused: 0 to {self._most} px fit the canvas.")
        return proposal["value"]

    @validate("picture")
    def _known(self, proposal) -> str:
        if proposal["value"] not in self._pictures:
            raise TraitError(f"no picture {proposal['value']!r}; there are: {', '.join(self._pictures)}.")
        return proposal["value"]


class PaddingSlider(PaddingPreview):
    """A preview, and below it the figures of the nearest run.

    Parameters
    ----------
    pictures, programs, padding
        See `PaddingPreview`.
    table : DataFrame
        Of `reprog_kit.ablation_tables.padding_table`.
    shrink : bool
        Whether the picture stands inside the border.
    """

    def __init__(
        self,
        pictures: Mapping[str, np.ndarray],
        programs: Mapping[int, np.ndarray],
        table: pd.DataFrame,
        padding: int = 0,
        shrink: bool = False,
    ):
        self._figures, self._table = {width: _figures(table, width) for width in programs}, HTML()
        super().__init__(pictures, programs, padding, shrink=shrink)
        self.children += (self._table,)

    def render(self) -> None:
        """Draw anew what changed, pictures and figures."""
        super().render()
        self._table.value = self._figures[self.nearest]


def _figures(table: pd.DataFrame, width: int) -> str:
    """Return the lines of a width, and zero-shot's, as HTML."""
    lines = [line for line in table.index if line[0] == NAMES["zero_shot"] or line[1] == width]
    shrunk = [line for line in lines if line[0] == NAMES["zero_shot"] and line[1] in (width, "–")]
    kept = shrunk + [line for line in lines if line[0] != NAMES["zero_shot"]]
    shown = table.loc[kept].droplevel(1).rename_axis(index=None, columns=None)
    return shown.to_html(border=0, col_space=110, justify="right")


def padding_slider(rows: pd.DataFrame, settings: AblationSettings):
    """Return a slider over the width of the border, or, without JupyterLab, the figure at the benchmark's width.

    Parameters
    ----------
    rows : DataFrame
        Of `reprog_kit.ablation.ablate`.
    settings : AblationSettings
        Those of `rows`.
    """
    data = BenchmarkData.of(find_run(rows["run"].iloc[0], settings.runs).settings)
    data.check()
    pictures, programs = example_pictures(data), trained_programs(rows, settings)
    table, shrink = padding_table(rows, settings.score), settings.image_size == "shrink"
    own = int(rows["benchmark_padding"].iloc[0])
    if in_jupyterlab():
        return PaddingSlider(pictures, programs, table, own, shrink)
    name, picture = next(iter(pictures.items()))
    return width_pictures(view(picture, programs, own, shrink), table, name)
