"""The program doctor: its figures on programs of known state, and a warning for each way of being ill."""

import numpy as np
import pytest
import torch

from reprog_kit.baselines import LinearProbe
from reprog_kit.image_sets import ImageSet
from reprog_kit.program_doctor import border_gradient_share, examine
from reprog_kit.reprogrammer import Reprogrammer

CAPTIONS = ["a photo of a cat", "a photo of a dog"]


@pytest.fixture
def grey():
    """Eight mid-grey pictures."""
    return ImageSet("grey", np.full((8, 20, 20, 3), 128, np.uint8), np.arange(8) % 2, (0, 1))


def program(backbone, value: float | None = 0.2, moved: float = 0.05, **given) -> Reprogrammer:
    """A program whose border adds tanh(W) = value everywhere and whose token rows moved by that share."""
    made = Reprogrammer(backbone, CAPTIONS, **{"padding": 4, **given})
    with torch.no_grad():
        if made.image_program is not None:
            made.image_program.values.fill_(np.arctanh(value))
        if made.text_program is not None:
            made.text_program.rows.mul_(1 + moved)
    return made


def test_a_healthy_program_gets_no_warning_and_its_figures_are_right(tiny, grey, colours):
    found = examine(program(tiny), grey, colours())
    assert found.warnings == ()
    assert found.verdict == "The program is alive."
    figures = list(found.figures.values())
    assert figures[0] == "51.0 of 255 grey levels"  # 0.2 of 255
    assert figures[1] == figures[2] == "0.0%"
    assert figures[3].endswith("(its share of the area: 43.8%)")  # 1 - (24 / 32)^2
    assert figures[4].startswith("7 of 7")  # start, end, a, photo, of, cat, dog
    assert figures[5] == "5.0% of the row's length"


@pytest.mark.parametrize(
    ("ill", "words"),
    [
        ({"value": 0.001}, ["image program is dead", "image_lr (now 0.005)", "image_weight_decay"]),
        ({"value": 0.999}, ["image program is saturated: 100%", "init_std (now 0.01)"]),
        ({"value": 0.9}, ["100% of the border is clipped", "image_size"]),
        ({"moved": 0.0}, ["text program is dead", "larger text_lr"]),
        ({"moved": 3.0}, ["text program ran away", "300%", "smaller text_lr"]),
    ],
)
def test_each_illness_has_its_warning_with_what_to_change(tiny, grey, colours, ill, words):
    found = examine(program(tiny, **ill), grey, colours())
    assert len(found.warnings) == 1
    for word in words:
        assert word in found.warnings[0]
        assert word in repr(found) and word in found._repr_html_()


def test_a_border_that_the_encoder_does_not_see_is_reported(tiny, grey, colours, monkeypatch):
    made, encode = program(tiny), tiny.encode_image
    centre = torch.zeros(32, 32)
    centre[4:28, 4:28] = 1
    monkeypatch.setattr(type(tiny), "encode_image", lambda self, pixels: encode(pixels * centre))
    assert border_gradient_share(made, torch.from_numpy(grey.images_NHWC), torch.arange(8) % 2, colours()) == 0
    assert any("hardly looks at the border" in warning for warning in examine(made, grey, colours()).warnings)


def test_the_gradients_share_is_that_of_finite_differences(tiny, colours):
    """A second route: move each pixel of one canvas a little."""
    made, settings = program(tiny), colours()
    image, label = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8), torch.tensor([1])
    settings = settings.model_copy(update={"loss": "captions"})
    share = border_gradient_share(made, image, label, settings)
    with torch.no_grad():
        canvas, step = made.canvas(image), 1e-2
        nudges = torch.eye(32 * 32).view(-1, 1, 32, 32).expand(-1, 3, -1, -1) * torch.tensor([1.0, 0, 0]).view(3, 1, 1)
        found = [
            made.feature_loss(made.backbone.encode_image(canvas + sign * step * nudge[None]), label, settings)
            for nudge in nudges[::1]
            for sign in (1, -1)
        ]
    slopes = (torch.stack(found).view(-1, 2) @ torch.tensor([1.0, -1.0])).abs().view(32, 32)
    inner = slopes[4:28, 4:28].sum()
    red_only = 1 - (inner / slopes.sum()).item()
    assert 0.1 < share < 0.9
    assert share == pytest.approx(red_only, abs=0.1)


@pytest.mark.parametrize("given", [{"program": "image"}, {"program": "text"}, {"padding": 0}])
def test_what_is_not_there_is_not_examined(tiny, grey, colours, given):
    found = examine(program(tiny, **given), grey, colours())
    assert len(found.figures) == (4 if given.get("program") == "image" else 2)
    assert found.warnings == ()


def test_a_method_without_a_program_has_nothing_to_examine(tiny, grey, colours):
    found = examine(LinearProbe(tiny, CAPTIONS), grey, colours(method="linear_probe"))
    assert found.figures == {}
    assert "no program to examine" in repr(found)
