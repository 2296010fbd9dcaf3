"""Figures of an inspection: what they say and show, from arrays alone."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reprog_kit.inspection import Border, Inspection
from reprog_kit.inspection_plots import answers, finding, id_score, pictures
from reprog_kit.plots import nothing
from reprog_kit.style import COLOURS

ROWS = [
    ("zero-shot", "zero_shot", 1, "six", 0.5), ("zero-shot", "zero_shot", 2, "seven", 0.3),
    ("residual", "residual", 1, "seven", 0.93), ("residual", "residual", 2, "one", 0.05),
    ("CoOp", "coop", 1, "one", 0.6), ("CoOp", "coop", 2, "six", 0.2), ("CoOp", "coop", 7, "seven", 0.01),
]  # fmt: skip


@pytest.fixture
def found() -> Inspection:
    """A picture on a canvas of 8 px whose left half is bright, with a border of 2 px."""
    scores = {"zero-shot": ("zero_shot", 0.5, 0.04), "residual": ("residual", 0.71, 0.12), "CoOp": ("coop", 0.6, 0.2)}
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 200
    rows = pd.DataFrame(ROWS, columns=["line", "method", "rank", "class", "probability"])
    return Inspection(
        "residual", "residual", "msp", 0.07, "seven", "seven", picture, 255 - picture, np.arange(64.0).reshape(8, 8),
        Border(2, 0.38, 0.234, 0.93, 0.61), rows,
        pd.DataFrame.from_dict(scores, "index", columns=["method", "score", "below"]), {},
        np.array([0.25, 0.5, 0.75]), np.array([0, 20.0, 80.0]), np.array([70.0, 30.0, 0]),
    )  # fmt: skip


def pixels_of(trace) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.split(",")[1]))))


@pytest.mark.parametrize(
    ("border", "words"),
    [
        (Border(2, 0.38, 0.234, 0.93, 0.61), "without it P(seven) falls from 0.93 to 0.61"),
        (Border(2, 0.38, 0.234, 0.61, 0.93), "without it P(seven) rises from 0.61 to 0.93"),
        (Border(2, 0.38, 0.234, 0.931, 0.929), "without it P(seven) stays 0.93"),
    ],
)
def test_the_title_says_what_the_border_does(found, border, words):
    said = finding(replace(found, border=border))
    assert said.startswith("Residual at alpha 0.07: seven. 38% of the gradient lies on the border (23% of the area); ")
    assert said.endswith(words)
    assert pictures(replace(found, border=border)).layout.title.text.replace("<br>", " ") == said


def test_a_wrong_answer_and_a_method_without_a_border_are_said(found):
    plain = replace(found, name="zero-shot", method="zero_shot", answer="six", border=None)
    assert finding(plain) == "Zero-shot: six (it is seven), P = 0.50; it has no border"
    assert finding(replace(plain, label=None)) == "Zero-shot: six, P = 0.50; it has no border"


def test_a_long_name_keeps_both_ends(found):
    name = "reprogrammer (padding 8, image_size 48, limit 200), seed 3"
    rows = found.answers.replace("residual", name)
    said = finding(replace(found, name=name, method="reprogrammer", answers=rows))
    assert said.startswith("Reprogrammer (padding 8, … mit 200), seed 3: seven.")


def test_the_pictures_are_the_arrays_and_the_border_is_outlined(found):
    figure = pictures(found, 828)
    assert np.array_equal(pixels_of(figure.data[0]), found.picture_SSC)
    assert np.array_equal(pixels_of(figure.data[1]), found.seen_SSC)
    assert np.array_equal(figure.data[2].z, found.gradient_SS)
    assert figure.data[2].zmin == 0 and figure.data[2].zmax == np.percentile(np.arange(64), 99)
    for shape in figure.layout.shapes:  # pixels 2 to 5 are the centre, and a pixel reaches half a px to each side
        assert (shape.x0, shape.y0, shape.x1, shape.y1) == (1.5, 1.5, 5.5, 5.5) and shape.line.width > 0
    assert figure.layout.width == 828
    assert list(figure.layout.yaxis3.range) == [7.5, -0.5]  # the first row is at the top, as in a picture
    assert figure.layout.annotations[2].text == "the reprogrammer's gradient"
    bare = pictures(replace(found, border=None, method="fine_tune", gradient_SS=np.zeros((8, 8))))
    assert all(shape.line.width == 0 for shape in bare.layout.shapes) and len(bare.layout.shapes) == 3
    assert bare.data[2].zmax == 1
    assert bare.layout.annotations[2].text == "the answer's gradient"


def test_answers_are_bars_in_the_methods_colours_with_the_true_class_marked(found):
    figure = answers(found)
    (bars,) = figure.data
    assert list(bars.x) == [row[4] for row in ROWS]
    assert list(bars.marker.color) == [COLOURS[row[1]] for row in ROWS]
    assert [text for text in bars.text if "✓" in text] == [
        "seven  0.30  ✓ rank 2",
        "seven  0.93  ✓",
        "seven  0.01  ✓ rank 7",
    ]
    assert bars.text[0] == "six  0.50"
    assert len(set(bars.y)) == len(ROWS) and list(bars.y) == sorted(bars.y)
    assert list(figure.layout.yaxis.tickvals) == [np.mean(bars.y[i:j]) for i, j in ((0, 2), (2, 4), (4, 7))]
    assert "residual" in figure.layout.yaxis.ticktext[1] and "MSP 0.71 > 12% of ID" in figure.layout.yaxis.ticktext[1]
    low, high = figure.layout.yaxis.range[::-1]
    assert low < min(bars.y) - 0.4 and high > max(bars.y) + 0.4
    assert figure.layout.title.text == "It is seven: 1 of 3 methods say so"


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        (["zero-shot", "residual", "CoOp"], "1 of 3 methods say six"),
        (["residual"], "It says seven"),
    ],
)
def test_without_the_true_class_the_title_says_who_agrees(found, lines, title):
    rows = found.answers[found.answers["line"].isin(lines)]
    figure = answers(replace(found, label=None, answers=rows))
    assert figure.layout.title.text == title and "✓" not in "".join(figure.data[0].text)


def test_all_that_agree_are_said_and_a_line_without_the_detector(found):
    rows = found.answers[found.answers["rank"] == 1].assign(**{"class": "two"})
    scores = found.scores.assign(score=[np.nan, 0.7, 0.6], below=[np.nan, 0.1, 0.2])
    figure = answers(replace(found, label=None, answers=rows, scores=scores, score="knn"))
    assert figure.layout.title.text == "All 3 methods say two"
    assert "no kNN" in figure.layout.yaxis.ticktext[0] and "kNN 0.70 > 10% of ID" in figure.layout.yaxis.ticktext[1]


def test_the_score_stands_in_the_histograms(found):
    figure = id_score(found)
    inside, outside, own = figure.data
    assert list(inside.x) == list(found.middles_B) and list(inside.y) == list(found.id_B)
    assert list(outside.y) == list(found.ood_B)
    assert list(own.x) == [0.71, 0.71] and own.y[0] == 0 and own.y[1] > 80
    assert figure.layout.title.text == "MSP 0.71: higher than 12% of the ID pictures"
    assert figure.layout.xaxis.title.text == "maximum softmax probability<br>residual"


def test_a_benchmark_without_ood_sets_has_the_id_histogram_alone(found):
    inside, outside, _ = id_score(replace(found, ood_B=np.empty(0))).data
    assert list(inside.y) == list(found.id_B) and outside.visible is False


def test_a_detector_that_cannot_be_had_is_said_in_its_place(found):
    figure = id_score(replace(found, score="mahalanobis", unscored={"residual": "too few pictures"}))
    assert len(figure.data) == 0
    assert figure.layout.title.text == "Mahalanobis cannot be had: too few pictures"


def test_a_title_is_wrapped_to_the_width(found):
    for width in (300, 600, 1000):
        lines = pictures(found, width).layout.title.text.split("<br>")
        assert max(map(len, lines)) <= width / 8.5
    assert nothing("a word " * 20, 200).layout.width == 200
