"""The inspector holds typed state, and its figures follow; headless there is one figure alone."""

from __future__ import annotations

import asyncio
import io
import json

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image
from traitlets import TraitError

from reprog_kit import inspect_widgets
from reprog_kit.inspect_widgets import Inspector, first_set, inspector
from reprog_kit.parameters import InputError
from reprog_kit.sources import fit


def a_picture(size=(40, 24), seed=1) -> Image.Image:
    """A picture without symmetry, so that one that is turned or cut elsewhere is another."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def encoded(picture: Image.Image, kind: str = "png", **given) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **given)
    return buffer.getvalue()


def upload(panel: Inspector, name: str, content: bytes) -> None:
    """Give the upload what the browser sends."""
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": 1.7e12}
    panel.upload.set_state({"value": [file]})


@pytest.fixture
def panel(bench, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "somewhere")
    found = inspector(bench)
    yield found
    found.close()


def shown(panel) -> np.ndarray:
    """The picture that the widget looks at, in the benchmark's 16 px."""
    return panel._seen._images[0].numpy()


def test_headless_it_is_the_plain_figure_of_the_first_shift_picture(bench, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(inspect_widgets, "Inspector", None)
    figure = inspector(bench)
    assert type(figure) is go.Figure
    other = inspector(bench, encoded(a_picture()))
    assert other.data[0].source != figure.data[0].source
    assert inspector(bench, np.array(bench.pictures("dim").images_NHWC[0])).data[0].source == figure.data[0].source
    with pytest.raises(InputError, match="cannot be read"):
        inspector(bench, b"no picture")


def test_it_starts_at_the_first_shift_set_and_the_workbench_s_line(panel, bench):
    assert isinstance(panel, Inspector)
    assert (panel.set, panel.number, panel.uploaded) == ("dim", 0, None) == (first_set(bench), 0, None)
    assert np.array_equal(shown(panel), bench.pictures("dim").images_NHWC[0])
    assert (panel._line.value, panel.inspection.name) == (bench.chosen, bench.chosen)
    assert panel.inspection.label == "blue"
    assert set(panel.figures) == {"pictures", "id_score", "tokens", "answers"}
    assert [figure["layout"]["title"]["text"] for figure in panel.live.figures] == [
        figure.layout.title.text for figure in panel.figures.values()
    ]
    assert panel._said.value == "<p>dim, picture 0 of 9: blue</p>"


def test_state_and_controls_move_each_other(panel, bench):
    source = panel.figures["pictures"].data[0].source
    panel.number = 4
    assert panel._which.value == 4 and panel.inspection.label == "green"
    assert panel.figures["pictures"].data[0].source != source
    panel._which.value = 8
    assert panel.number == 8 and np.array_equal(shown(panel), bench.pictures("dim").images_NHWC[8])
    panel._sets.value = "other"  # has six pictures
    assert (panel.set, panel.number, panel._which.max) == ("other", 5, 5)
    assert panel.inspection.label is None
    assert np.array_equal(shown(panel), bench.pictures("other").images_NHWC[5])
    panel.set = "test"
    assert panel._sets.value == "test" and panel._which.max == 11


def test_the_buttons_go_round_and_random_goes_elsewhere(panel):
    panel.buttons["previous"].click()
    assert panel.number == 8
    panel.buttons["next"].click()
    assert panel.number == 0
    for _ in range(4):
        before = panel.number
        panel.buttons["random"].click()
        assert panel.number != before and 0 <= panel.number < 9
    assert inspect_widgets._another(0, 1) == 0


@pytest.mark.parametrize(
    ("trait", "wrong"), [("set", "nowhere"), ("number", 9), ("number", -1), ("number", "2"), ("uploaded", "text")]
)
def test_what_there_is_not_is_refused_and_the_picture_stays(panel, trait, wrong):
    before = panel.inspection
    with pytest.raises(TraitError):
        setattr(panel, trait, wrong)
    assert (panel.set, panel.number, panel.uploaded) == ("dim", 0, None) and panel.inspection is before


def test_the_line_menu_and_the_workbench_move_each_other(panel, bench):
    bench.chosen = "zero-shot"
    assert panel._line.value == "zero-shot" and panel.inspection.name == "zero-shot"
    assert panel.figures["tokens"].layout.title.text == "This run has no text program"
    assert panel.figures["pictures"].layout.title.text.startswith("Zero-shot: ")
    program = next(name for name in bench.names if name.startswith("reprogrammer"))
    panel._line.value = program
    assert bench.chosen == program and panel.inspection.border.padding == 4
    assert len(panel.figures["tokens"].data) == 1
    assert panel.figures["pictures"].layout.annotations[2].text == "the answer's gradient"
    panel._line.value = next(name for name in bench.names if name.startswith("residual"))
    assert panel.figures["pictures"].layout.annotations[2].text == "the reprogrammer's gradient"


def test_what_is_sent_is_what_the_plain_figures_are(panel, bench):
    for trait, value in (("alpha", 0.3), ("alpha", 1.0), ("score", "energy"), ("alpha", 0.0)):
        setattr(bench, trait, value)
        sent = dict(zip(inspect_widgets._WIDE, panel.live.figures))
        for name, draw in inspect_widgets._VIEWS.items():
            expected = json.loads(draw(panel.inspection, inspect_widgets._WIDE[name]).to_json())
            assert sent[name]["data"] == expected["data"]
            del expected["layout"]["width"]  # it takes what there is
            assert sent[name]["layout"] == expected["layout"]
    assert panel.inspection.alpha == 0.0 and panel.inspection.score == "energy"


def test_in_a_kernel_it_is_drawn_once_alpha_rests(panel, bench, monkeypatch):
    monkeypatch.setattr(inspect_widgets, "_REST_S", 0.01)
    drawn = []
    panel.live.observe(lambda _: drawn.append(panel.inspection.alpha), "figures")

    async def moves():
        for alpha in (0.35, 0.45, 0.55):
            bench.alpha = alpha
        assert drawn == []
        await asyncio.sleep(0.3)

    asyncio.run(moves())
    assert drawn == [0.55]


def test_a_run_that_joins_is_in_the_menu_and_the_chosen_line_stays(panel, bench):
    line = next(name for name in bench.names if name.startswith("fine-tuning"))
    bench.chosen = line
    names = bench.names
    bench.set_trait("names", names[:-1])
    assert list(panel._line.options) == names[:-1] and len(set(panel.inspection.answers["line"])) == len(names) - 1
    bench.set_trait("names", names)
    assert list(panel._line.options) == names
    assert panel._line.value == bench.chosen == line


@pytest.mark.parametrize("kind", ["png", "cmyk", "exif", "webp", "grey", "palette"])
def test_an_upload_of_any_format_is_brought_to_the_benchmark_s_square(panel, kind):
    picture = a_picture()
    if kind == "cmyk":
        content = encoded(picture.convert("CMYK"), "jpeg")
    elif kind == "exif":
        about = Image.Exif()
        about[0x0112] = 6  # to be turned by a quarter
        content = encoded(picture, "jpeg", exif=about, quality=100, subsampling=0)
    elif kind in ("grey", "palette"):
        content = encoded(picture.convert("L" if kind == "grey" else "P"))
    else:
        content = encoded(picture, kind)
    upload(panel, f"mine.{kind}", content)
    assert panel.uploaded == content and panel.upload.value == ()
    assert panel._said.value == f"<p>your picture mine.{kind}</p>" and panel._refused.value == ""
    assert panel.inspection.label is None
    assert np.array_equal(shown(panel), fit(Image.open(io.BytesIO(content)), 16))
    if kind == "exif":  # a second road: turned by hand, clockwise
        upright = fit(picture.transpose(Image.Transpose.ROTATE_270), 16)
        assert np.abs(shown(panel).astype(int) - upright).mean() < 6
        assert np.abs(shown(panel).astype(int) - fit(picture, 16)).mean() > 12


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", b"these are words"), ("empty.png", b""), ("cut.png", encoded(a_picture())[:60]), ("<b>.png", b"x")],
)
def test_a_file_that_is_no_picture_gets_one_message_and_what_was_shown_stays(panel, name, content):
    panel.number = 3
    before, said = panel.inspection, panel._said.value
    upload(panel, name, content)
    shown_name = name.replace("<", "&lt;").replace(">", "&gt;")
    assert f"{shown_name} ({len(content)} bytes) is no picture that can be read" in panel._refused.value
    assert "Choose a PNG" in panel._refused.value
    assert (panel.uploaded, panel.number, panel.inspection, panel._said.value) == (None, 3, before, said)
    upload(panel, "good.png", encoded(a_picture()))
    assert panel._refused.value == "" and panel.inspection is not before


def test_an_upload_gives_way_to_the_set(panel, bench):
    content = encoded(a_picture())
    for back in (
        lambda: panel.buttons["next"].click(),
        lambda: setattr(panel, "set", "test"),
        lambda: setattr(panel, "number", 2),
    ):
        upload(panel, "mine.png", content)
        assert panel.uploaded == content
        back()
        assert panel.uploaded is None
        assert np.array_equal(shown(panel), bench.pictures(panel.set).images_NHWC[panel.number])
    upload(panel, "mine.png", content)
    panel.uploaded = None
    assert np.array_equal(shown(panel), bench.pictures(panel.set).images_NHWC[panel.number])


def test_bytes_may_be_set_in_code_and_given_at_the_start(bench, panel):
    content = encoded(a_picture(seed=2))
    panel.uploaded = content
    assert panel._said.value == "<p>your picture</p>"
    with pytest.raises(TraitError, match=r"what was uploaded \(3 bytes\) is no picture"):
        panel.uploaded = b"abc"
    assert panel.uploaded == content
    other = inspector(bench, content)
    assert np.array_equal(shown(other), shown(panel))
    other.close()


def test_a_closed_inspector_leaves_the_workbench_alone(panel, bench):
    before = panel.inspection
    panel.close()
    panel.close()  # as the interpreter does once more, when it lets go of a widget
    bench.alpha, bench.chosen = 0.5, "zero-shot"
    assert panel.inspection is before and panel._line.value != "zero-shot"
