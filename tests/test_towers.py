"""A quickened tower answers as open_clip's own does, and sends the same gradient back."""

import open_clip
import pytest
import torch
from torch import nn

from reprog_kit.towers import PatchProduct, quicken

CHANGED = {"vit": (1, 2), "quick": (1, 2), "custom": (1, 2), "last": (1, 2), "coca": (1, 2), "resnet": (0, 1)}


@pytest.mark.parametrize("kind", CHANGED)
def test_pictures_captions_and_gradients_are_open_clip_s(tower, kind):
    plain, quick = (open_clip.create_model(tower(kind)).eval().requires_grad_(False) for _ in range(2))
    quicken(quick)
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = open_clip.get_tokenizer(tower(kind))(["a photo of a cat", "a dog"])
    found = []
    for model in (plain, quick):
        given = pixels.clone().requires_grad_()
        images, texts = model.encode_image(given), model.encode_text(tokens)
        images.square().sum().backward()
        found.append((images, texts, given.grad))
    for expected, got in zip(*found):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert plain.state_dict().keys() == quick.state_dict().keys()
    patches = sum(type(m) is PatchProduct for m in quick.modules())
    turned = sum(getattr(m, "batch_first", None) is False and hasattr(m, "resblocks") for m in quick.modules())
    assert (patches, turned) == CHANGED[kind], "which parts were changed"


@pytest.mark.parametrize("size", [(8, 8), (13, 9), (4, 12)])
@pytest.mark.parametrize("kernel", [4, (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_patches_as_a_product_are_the_convolution(size, kernel, bias, layout):
    torch.manual_seed(2)
    conv = nn.Conv2d(3, 5, kernel, stride=kernel, bias=bias).double().to(memory_format=layout)
    pixels = torch.rand(2, 3, *size, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    expected = conv(pixels)
    weights = torch.rand_like(expected)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), (pixels, *conv.parameters()))
    conv.__class__ = PatchProduct
    got = conv(pixels)
    torch.testing.assert_close(got, expected)
    gradients = torch.autograd.grad((got * weights).sum(), (pixels, *conv.parameters()))
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(3, 4, 2, stride=2, padding=1),
        nn.Conv2d(3, 4, 2, stride=2, dilation=2),
        nn.Conv2d(4, 4, 2, stride=2, groups=2),
        nn.Conv1d(3, 4, 2, stride=2),
        nn.Linear(3, 4),
    ],
)
def test_what_is_no_convolution_of_separate_patches_is_left_alone(other):
    assert not PatchProduct.fits(other)
    before = type(other)
    assert type(quicken(nn.Sequential(other))[0]) is before
