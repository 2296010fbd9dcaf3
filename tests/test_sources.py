"""Pictures decoded: every common mode as PIL would, every bad file named."""

import io

import numpy as np
import pytest
from PIL import Image

from reprog_kit.parameters import InputError
from reprog_kit.sources import decode, decode_what_can_be, fit, some

SIDE = 16


def encoded(image: Image.Image, kind: str = "PNG", **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def halves() -> Image.Image:
    """Red on the left, blue on the right."""
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[:, : SIDE // 2, 0] = 255
    image[:, SIDE // 2 :, 2] = 255
    return Image.fromarray(image)


def one(content: bytes, side: int = SIDE) -> np.ndarray:
    return decode([content], ["here"], side)[0]


def test_a_picture_of_the_right_size_is_decoded_to_the_last_bit(halves):
    assert np.array_equal(one(encoded(halves)), np.asarray(halves))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1", "I;16"])
def test_other_modes_become_rgb(mode):
    ramp = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
    grey = Image.fromarray(ramp)
    if mode == "I;16":
        picture, kind, expected = Image.fromarray(ramp.astype(np.uint16) * 257), "PNG", ramp
    else:
        picture, kind = grey.convert("RGB").convert(mode), "TIFF" if mode == "CMYK" else "PNG"
        expected = np.asarray(picture.convert("L"))
    found = one(encoded(picture, kind))
    assert found.shape == (SIDE, SIDE, 3)
    assert np.abs(found.astype(int) - expected[..., None]).max() <= 2


def test_a_palette_with_a_transparent_colour_keeps_its_colours(halves):
    content = encoded(halves.quantize(4), transparency=0)
    assert Image.open(io.BytesIO(content)).info["transparency"] is not None
    assert np.abs(one(content).astype(int) - np.asarray(halves)).max() <= 2


def test_a_picture_is_turned_as_its_camera_noted(halves):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    found = one(encoded(halves, "JPEG", exif=exif, quality=95, subsampling=0)).astype(int)
    expected = np.rot90(np.asarray(halves), -1)
    assert np.abs(found - expected).mean() < 10
    assert found[0, :, 0].mean() > 200 > 50 > found[-1, :, 0].mean()  # red is above now


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (33, 17), (5, 9), (16, 16), (1, 3)])
def test_the_shorter_side_is_resized_and_the_centre_cut_out(size):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    shorter = min(size)
    grown = (int(SIDE * size[0] / shorter), int(SIDE * size[1] / shorter))
    resized = picture if shorter == SIDE else picture.resize(grown, Image.Resampling.BICUBIC)
    left, top = (round((extent - SIDE) / 2) for extent in grown)
    expected = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))
    assert np.array_equal(fit(picture, SIDE), expected)


def damaged(halves: Image.Image, kind: str) -> list[bytes]:
    """Cut a file at many places, and overwrite single bytes of it."""
    whole, rng = encoded(halves.resize((64, 64)), kind), np.random.default_rng(0)
    found = [whole[: int(len(whole) * part)] for part in (0, 0.02, 0.1, 0.3, 0.5, 0.8, 0.97)]
    for _ in range(60):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            broken[place] = rng.integers(256)
        found.append(bytes(broken))
    return found


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_files_are_named_or_still_give_a_picture(halves, kind):
    refused = 0
    for content in damaged(halves, kind):
        try:
            assert one(content).shape == (SIDE, SIDE, 3)
        except InputError as error:
            assert "here cannot be read as a picture" in str(error)
            refused += 1
    assert refused >= 3


def test_a_picture_too_large_to_be_meant_is_named(halves, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # PIL refuses twice as many as a decompression bomb
    with pytest.raises(InputError, match="here cannot be read as a picture"):
        one(encoded(halves))


def test_every_bad_file_of_many_is_named_and_counted(halves):
    items = [encoded(halves)] * 5
    items[3], items[1] = b"no picture", b""
    with pytest.raises(InputError) as caught:
        decode(items, [f"picture {i}" for i in range(5)], SIDE)
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 pictures cannot be read:"
    assert [line.split(" cannot")[0].strip() for line in lines[1:3]] == ["picture 1", "picture 3"]
    assert lines[3] == "Replace or remove them."


def test_of_very_many_bad_files_a_dozen_are_named():
    with pytest.raises(InputError, match=r"30 pictures cannot be read:(\n.*){12}\n  and 18 more\n"):
        decode([b"x"] * 30, [f"picture {i}" for i in range(30)], SIDE)


def test_what_can_be_decoded_is_and_the_rest_says_why(halves):
    items = [encoded(halves), b"x", encoded(halves)[:-60], encoded(halves)]
    images, bad = decode_what_can_be(items, SIDE)
    assert list(bad) == [1, 2]
    assert "cannot identify" in bad[1]
    assert "truncated" in bad[2].lower()
    assert np.array_equal(images[[0, 3]], np.stack([np.asarray(halves)] * 2))
    chosen, bad = decode_what_can_be(items, SIDE, rows=[3, 1])
    assert (list(bad), np.array_equal(chosen[0], np.asarray(halves))) == ([1], True)


def test_an_array_is_taken_as_a_picture(halves):
    small = np.asarray(halves)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    found = decode([small, large], ["a", "b"], SIDE)
    assert np.array_equal(found[0], small)
    assert np.array_equal(found[1], fit(Image.fromarray(large), SIDE))


def test_many_pictures_keep_their_order():
    items = [encoded(Image.new("RGB", (SIDE, SIDE), (i, 0, 0))) for i in range(100)]
    assert decode(items, items, SIDE)[:, 0, 0, 0].tolist() == list(range(100))


def test_no_pictures_decode_to_none():
    assert decode([], [], SIDE).shape == (0, SIDE, SIDE, 3)


def test_a_message_lists_a_dozen_names_and_counts_the_rest():
    assert some(["a", "b"]) == "'a', 'b'"
    assert some(map(str, range(20))).endswith("'11' and 8 more")
