"""The picture on the canvas against PIL, the mask against distances, and which values are trained."""

import numpy as np
import pytest
import torch
from PIL import Image

from reprog_kit.image_program import ImageProgram, border_mask, default_padding, place
from reprog_kit.parameters import InputError


@pytest.fixture(scope="module")
def photos():
    """Four pictures with edges and gradients, 40 px."""
    rng = np.random.default_rng(0)
    images = np.linspace(0, 255, 40)[None, :, None, None] * np.ones((4, 1, 40, 3)) * rng.uniform(0.3, 1, (4, 1, 1, 3))
    for image in images:
        top, left = rng.integers(5, 20, 2)
        image[top : top + 15, left : left + 12] = rng.integers(0, 256, 3)
    return np.clip(images + rng.normal(scale=8, size=images.shape), 0, 255).astype(np.uint8)


def slow_resize(images: np.ndarray, size: int) -> np.ndarray:
    """PIL's bicubic on floating-point channels, (N, size, size, 3) in 0..255."""
    return np.stack(
        [
            np.stack(
                [
                    np.asarray(
                        Image.fromarray(i[..., c].astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
                    )
                    for c in range(3)
                ],
                axis=-1,
            )
            for i in images
        ]
    )


@pytest.mark.parametrize("size", [64, 41, 80, 39, 21, 20, 7, 40])
def test_resizing_equals_pils_bicubic(photos, size):
    found = place(torch.from_numpy(photos), size, size).permute(0, 2, 3, 1).numpy() * 255
    eight_bit = np.stack(
        [np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BICUBIC)) for i in photos]
    )
    assert np.abs(found - eight_bit).mean() < 0.5  # far inside 2/255: half a grey level is what 8 bits round away
    assert np.abs(found - np.clip(slow_resize(photos, size), 0, 255)).max() < 0.02


def test_a_picture_of_the_right_size_is_left_alone(photos):
    found = place(torch.from_numpy(photos), 40, 40)
    assert torch.equal(found, torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255)


@pytest.mark.parametrize(("side", "size"), [(32, 32), (32, 21), (33, 20), (32, 1)])
def test_the_picture_is_centred_and_an_odd_rest_is_right_and_below(side, size):
    found = place(torch.full((1, size, size, 3), 255, dtype=torch.uint8), side, size)[0]
    left = (side - size) // 2
    expected = torch.zeros(3, side, side)
    expected[:, left : left + size, left : left + size] = 1
    assert torch.equal(found, expected)


def test_overshoot_is_cut_off():
    image = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    image[:, :, 4:] = 255
    found = place(torch.from_numpy(image), 32, 32)
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize("size", [0, 33, -1])
def test_a_picture_larger_than_the_canvas_is_refused(size):
    with pytest.raises(InputError, match=rf"image_size = {size} px is refused: 1 to 32 px fit"):
        place(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), 32, size)


@pytest.mark.parametrize(("side", "padding"), [(32, 0), (32, 1), (32, 5), (32, 16), (7, 3), (7, 2), (224, 16)])
def test_the_mask_is_one_within_padding_of_an_edge(side, padding):
    index = np.arange(side)
    distance = np.minimum(index, side - 1 - index)
    expected = np.minimum(distance[:, None], distance[None, :]) < padding
    assert np.array_equal(border_mask(side, padding).numpy(), expected)


def test_the_references_mask_has_39936_live_values():
    assert 3 * int(border_mask(224, default_padding(224)).sum()) == 39_936
    assert default_padding(224) == 16


@pytest.mark.parametrize("padding", [-1, 17])
def test_a_border_wider_than_half_the_canvas_is_refused(padding):
    with pytest.raises(InputError, match=rf"padding = {padding} px is refused: 0 to 16 px fit"):
        border_mask(32, padding)


@pytest.mark.parametrize(("padding", "values"), [(0, 0), (1, 3 * 124), (5, 3 * (32**2 - 22**2)), (16, 3 * 32**2)])
def test_only_border_values_are_parameters(padding, values):
    program = ImageProgram(32, padding)
    assert [(name, value.shape) for name, value in program.named_parameters()] == [("values", (3, values // 3))]
    assert list(program.state_dict()) == ["values"]


@pytest.mark.parametrize("padding", [1, 5, 16])
def test_the_perturbation_is_tanh_of_w_on_the_mask(padding):
    program, w = ImageProgram(32, padding), torch.randn(3, 32, 32)
    mask = border_mask(32, padding)
    with torch.no_grad():
        program.values.copy_(w[:, mask])
        assert torch.equal(program.perturbation(), torch.tanh(w * mask))


def test_padding_0_is_the_identity_to_the_last_bit():
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(ImageProgram(32, 0)(pixels), pixels)


def test_the_centre_is_never_touched_and_the_result_stays_a_picture():
    pixels = torch.rand(2, 3, 32, 32)
    found = ImageProgram(32, 5, init_std=3.0)(pixels)
    assert torch.equal(found[..., 5:-5, 5:-5], pixels[..., 5:-5, 5:-5])
    assert (found.min(), found.max()) == (0, 1)


def test_initial_values_follow_their_generator_and_standard_deviation():
    draw = lambda seed, std: ImageProgram(64, 16, std, torch.Generator().manual_seed(seed)).values.detach()  # noqa: E731
    assert torch.equal(draw(1, 1.0), draw(1, 1.0))
    assert not torch.equal(draw(1, 1.0), draw(2, 1.0))
    assert draw(1, 0.5).std().item() == pytest.approx(0.5, rel=0.03)
    assert torch.count_nonzero(draw(1, 0.0)) == 0


def test_a_border_value_gets_no_gradient_where_the_picture_is_clamped():
    program = ImageProgram(8, 2, init_std=0.5, generator=torch.Generator().manual_seed(0))
    program(torch.full((1, 3, 8, 8), 0.95)).sum().backward()
    clamped = program.values.detach().tanh() > 0.05
    assert clamped.any()
    assert torch.count_nonzero(program.values.grad[clamped]) == 0
    assert (program.values.grad[~clamped] > 0).all()
