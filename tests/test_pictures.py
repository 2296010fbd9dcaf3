"""Pictures of any kind become the squares that a benchmark holds, or are refused with what is allowed."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from reprog_kit.parameters import InputError
from reprog_kit.pictures import squares
from reprog_kit.sources import decode

SIDE = 16


def brought(images, **how) -> np.ndarray:
    """Return all batches as one."""
    return np.concatenate(list(squares(images, SIDE, **how)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Noise, wider than high."""
    return np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)


def png(image: Image.Image, **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **how)
    return buffer.getvalue()


def test_a_picture_is_the_same_whatever_holds_it(pixels, tmp_path):
    content = png(Image.fromarray(pixels))
    (tmp_path / "a.png").write_bytes(content)
    expected = decode([content], ["here"], SIDE)
    batch = np.stack([pixels] * 3)
    holders = (
        Image.fromarray(pixels), Image.open(io.BytesIO(content)), tmp_path / "a.png", str(tmp_path / "a.png"), content,
        pixels, torch.from_numpy(pixels), batch, torch.from_numpy(batch), list(batch), [tmp_path / "a.png", pixels],
    )  # fmt: skip
    for holder in holders:
        for found in brought(holder):
            assert np.array_equal(found, expected[0]), type(holder)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_a_pil_picture_of_any_mode_is_what_the_loader_makes_of_its_file(pixels, mode):
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(pixels).convert("RGB").convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(pixels[..., 1]))
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF")
    assert np.array_equal(brought(picture), decode([buffer.getvalue()], ["here"], SIDE))


def test_a_picture_is_turned_as_its_camera_says(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = Image.open(io.BytesIO(png(Image.fromarray(pixels), exif=exif)))
    assert np.array_equal(brought(turned), brought(np.rot90(pixels, -1)))


def test_squares_of_the_right_side_keep_every_pixel():
    batch = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    batch.setflags(write=False)
    assert np.array_equal(brought(batch), batch) and np.array_equal(brought(list(batch)), batch)
    assert np.array_equal(brought(batch[0]), batch[:1])


def test_a_picture_of_the_users_stays_open(pixels):
    picture = Image.open(io.BytesIO(png(Image.fromarray(pixels))))
    assert np.array_equal(brought([picture, picture])[0], brought([picture])[0])
    assert picture.getpixel((0, 0)) == tuple(pixels[0, 0])


def test_many_pictures_come_by_the_batch(pixels):
    batches = list(squares([pixels] * 7, SIDE, batch_size=3))
    assert [len(b) for b in batches] == [3, 3, 1]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), np.uint8),
        np.zeros((1, 2, 4, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), np.uint8(3), torch.zeros(2, 4, 4, 3),
        torch.zeros(4, 4, 3, dtype=torch.int8), [np.zeros((2, 4, 4, 3), np.uint8)], [np.zeros((4, 4, 3))],
        [], (), np.zeros((0, 4, 4, 3), np.uint8), None, [None], 3, {"image": 1}, [[[1, 2, 3]]],
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_what_is_allowed(images):
    with pytest.raises(InputError, match="Give a PIL picture, the path of one"):
        brought(images)


def test_the_picture_that_cannot_be_read_is_named(pixels, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(InputError, match=r"bad\.png cannot be read as a picture"):
        brought([pixels, tmp_path / "bad.png"])
    with pytest.raises(InputError, match=r"nowhere\.png cannot be read as a picture"):
        brought(str(tmp_path / "nowhere.png"))
    cut_short = Image.open(io.BytesIO(png(Image.fromarray(pixels))[:500]))
    with pytest.raises(InputError, match="picture 2 cannot be read as a picture"):
        brought([pixels, pixels, cut_short])
