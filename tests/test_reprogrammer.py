"""Parity: the fast forward pass and loss equal the recipe of the reference, written out plainly and slowly here.

The recipe (A. Geng, P.-Y. Chen, arXiv 2403.10800; IBM/reprogrammer at f107472): the picture centred on a zero canvas,
x + tanh(W * M) with a full W, clamp to [0, 1], CLIP's mean and std; a full token table and a bias a position; the
mean of both directions of a focal loss over the batch's similarity matrix, with the diagonal as target.
"""

import copy
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reprog_kit.backbone import load_backbone
from reprog_kit.features import autocast
from reprog_kit.losses import symmetric_loss
from reprog_kit.parameters import InputError
from reprog_kit.reprogrammer import Reprogrammer
from reprog_kit.settings import TrainSettings
from reprog_kit.train import train
from reprog_kit.zero_shot import ZeroShot

CAPTIONS = ["a photo of a cat", "a photo of a hot air balloon", "a photo of a dog"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def slow_canvas(images: Tensor, w: Tensor, padding: int, side: int, size: int) -> Tensor:
    """One picture and one pixel's mask at a time; resizing by PIL in floating point."""
    mask = torch.tensor(
        [[float(min(i, j, side - 1 - i, side - 1 - j) < padding) for j in range(side)] for i in range(side)]
    )
    start, canvases = (side - size) // 2, []
    for image in images.numpy():
        canvas = torch.zeros(3, side, side, dtype=w.dtype)
        for c in range(3):
            channel = Image.fromarray(image[..., c].astype(np.float32))
            small = np.array(channel.resize((size, size), Image.Resampling.BICUBIC)) / 255
            canvas[c, start : start + size, start : start + size] = torch.from_numpy(small.clip(0, 1))
        canvases.append((canvas + torch.tanh(w * mask)).clamp(0, 1))
    return torch.stack(canvases)


def slow_image_features(clip, canvas: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, dtype=canvas.dtype).view(3, 1, 1) for v in (MEAN, STD))
    found = clip.encode_image((canvas - mean) / std)
    return found / (found**2).sum(dim=1, keepdim=True).sqrt()


def slow_text_features(clip, tokens: Tensor, table: Tensor, bias: Tensor) -> Tensor:
    """The text tower of CLIP by steps, over the whole context."""
    x = table[tokens] + bias
    x = clip.transformer(x, attn_mask=clip.attn_mask)
    x = clip.ln_final(x)
    ends = [int(row.argmax()) for row in tokens]
    found = torch.stack([x[i, end] for i, end in enumerate(ends)]) @ clip.text_projection
    return found / (found**2).sum(dim=1, keepdim=True).sqrt()


def slow_released_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    total = 0.0
    for logits in (scale * images @ texts.T, scale * texts @ images.T):
        for i, row in enumerate(logits):
            log_p = row[i] - row.max() - (row - row.max()).exp().sum().log()
            total += -0.8 * (1 - log_p.exp()) ** 4 * log_p / len(row)
    return total / 2


class Plain:
    """A reference program with full-size weights beside the same program of the library."""

    def __init__(self, backbone, padding: int, size: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.backbone, self.clip, self.padding, self.size = backbone, backbone.clip, padding, size
        self.w = torch.randn(3, backbone.side, backbone.side, generator=generator)
        self.method = Reprogrammer(backbone, CAPTIONS, "both", padding, size)
        side, text = backbone.side, self.method.text_program
        border = torch.tensor(
            [[min(i, j, side - 1 - i, side - 1 - j) < padding for j in range(side)] for i in range(side)]
        )
        self.table, self.bias = backbone.token_table.clone(), backbone.positions.clone()
        self.table += 0.02 * torch.randn(self.table.shape, generator=generator)
        self.bias += 0.1 * torch.randn(self.bias.shape, generator=generator)
        state = {"text_program.rows": self.table[text.used_V], "text_program.bias": self.bias[: len(text.bias)]}
        self.method.load_program_state({"image_program.values": self.w[:, border], **state})

    def image_features(self, images: Tensor) -> Tensor:
        return slow_image_features(self.clip, slow_canvas(images, self.w, self.padding, self.backbone.side, self.size))

    def text_features(self, captions: list[str]) -> Tensor:
        return slow_text_features(self.clip, self.backbone.tokenizer(captions), self.table, self.bias)


def pictures(n: int, side: int, seed: int = 0) -> Tensor:
    """Smooth pictures: colours that run from one corner to another."""
    drawn = torch.rand(n, 4, 4, 3, generator=torch.Generator().manual_seed(seed)) * 255
    grown = torch.nn.functional.interpolate(drawn.permute(0, 3, 1, 2), (side, side), mode="bilinear")
    return grown.permute(0, 2, 3, 1).to(torch.uint8)


def check_parity(plain: Plain, images: Tensor, labels: Tensor, settings) -> None:
    backbone, method, scale = plain.backbone, plain.method, plain.backbone.scale
    with torch.no_grad():
        canvas = slow_canvas(images, plain.w, plain.padding, backbone.side, plain.size)
        assert method.canvas(images) == pytest.approx(canvas, abs=1e-5)
        slow_images, slow_texts = plain.image_features(images), plain.text_features(CAPTIONS)
        assert method.image_features(images) == pytest.approx(slow_images, abs=1e-5)
        assert method.class_weights() == pytest.approx(slow_texts, abs=1e-5)
        assert (slow_images[0] - slow_images[1]).abs().max() > 1e-3  # so that the tolerance means something
        assert (slow_texts[0] - slow_texts[1]).abs().max() > 1e-2
        logits = method.image_features(images) @ method.class_weights().T
        assert logits == pytest.approx(slow_images @ slow_texts.T, abs=1e-5)
        pair_texts = plain.text_features(
            [CAPTIONS[i] for i in labels]
        )  # every picture's caption, as the reference does
        expected = slow_released_loss(slow_images, pair_texts, scale).item()
        assert method.loss(images, labels, settings).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert expected > 0.01


@pytest.mark.parametrize(
    ("kind", "padding", "size"),
    [
        ("vit", 0, 32),
        ("vit", 3, 32),
        ("vit", 16, 32),
        ("vit", 3, 21),
        ("vit", 5, 20),
        ("quick", 4, 32),
        ("resnet", 0, 32),
        ("resnet", 3, 21),
        ("resnet", 16, 32),
    ],
)
@pytest.mark.parametrize("picture_side", [32, 26])
def test_parity_with_the_reference(backbones, colours, kind, padding, size, picture_side):
    settings = colours(recipe="released", warmup_steps=1)
    plain = Plain(backbones(kind), padding, size)
    # The first class is absent, so that a caption gathered by its place in the batch would be another one.
    check_parity(plain, pictures(6, picture_side), torch.tensor([2, 1, 2, 1, 1, 2]), settings)


def test_parity_with_the_reference_on_the_embedded_backbone(mini, colours):
    plain = Plain(mini, 8, 48)
    check_parity(plain, pictures(4, 32), torch.tensor([0, 1, 2, 1]), colours(recipe="released", warmup_steps=1))


@pytest.mark.slow
def test_parity_with_the_reference_at_224_px(colours):
    plain = Plain(load_backbone("ViT-B-32", "random", "cpu"), 16, 224)
    assert plain.method.image_program.values.numel() == 39_936
    check_parity(plain, pictures(2, 64), torch.tensor([0, 1]), colours(recipe="released", warmup_steps=1))


@torch.no_grad()  # as features are computed; with gradients torch picks another attention kernel
def test_untrained_it_is_zero_shot_to_the_last_bit(tiny):
    zero_shot = ZeroShot(tiny, CAPTIONS)
    untrained = Reprogrammer(tiny, CAPTIONS, "both", padding=5, init_std=0.0)
    images = pictures(3, 20)
    assert torch.equal(untrained.image_features(images), zero_shot.image_features(images))
    assert torch.equal(untrained.class_weights(), zero_shot.class_weights())


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("both", {"image_program.values", "text_program.rows", "text_program.bias"}),
        ("image", {"image_program.values"}),
        ("text", {"text_program.rows", "text_program.bias"}),
    ],
)
def test_only_the_program_is_trained_and_kept(tiny, program, names):
    method = Reprogrammer(tiny, CAPTIONS, program, padding=3)
    assert {name for name, p in method.named_parameters() if p.requires_grad} == names
    assert method.program_state().keys() == names


def test_its_size_is_border_plus_used_rows_plus_positions(tiny):
    method = Reprogrammer(tiny, CAPTIONS, padding=3)
    # start, end, a photo of cat hot air balloon dog; the longest caption has 9 tokens, the filling's 0 is used too
    assert {k: tuple(v.shape) for k, v in method.program_state().items()} == {
        "image_program.values": (3, 32**2 - 26**2),
        "text_program.rows": (11, 32),
        "text_program.bias": (9, 32),
    }


@pytest.mark.parametrize("program", ["both", "image", "text"])
def test_a_training_step_moves_the_program_and_leaves_no_gradient_on_the_backbone(tower, colours, program):
    backbone, settings = load_backbone(tower("vit"), device="cpu"), colours(program=program)
    before, weights = backbone.fingerprint, copy.deepcopy(backbone.clip.state_dict())
    method = Reprogrammer.from_settings(backbone, (), CAPTIONS, settings)
    start = {k: v.clone() for k, v in method.program_state().items()}
    optimizers = method.optimizers(settings)
    method.loss(pictures(6, 32), torch.tensor([0, 1, 2, 1, 0, 0]), settings).backward()
    for optimizer in optimizers:
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())
    assert all(torch.equal(v, weights[k]) for k, v in backbone.clip.state_dict().items())
    assert load_backbone(tower("vit"), device="cpu").fingerprint == before
    for name, value in method.program_state().items():
        assert not torch.equal(value, start[name]), name


@pytest.mark.parametrize("padding", [4, 16])
def test_the_border_gradient_matches_finite_differences_in_double_precision(backbones, colours, padding):
    """The library's float32 gradient beside central differences of the slow recipe in float64."""
    plain, images, labels = Plain(backbones("vit"), padding, 32), pictures(4, 32), torch.tensor([0, 1, 2, 1])
    settings = colours(recipe="released", warmup_steps=1)
    plain.method.loss(images, labels, settings).backward()
    values = plain.method.image_program.values
    border = plain.method.image_program.where_P
    clip, texts = (
        copy.deepcopy(plain.clip).double(),
        plain.text_features([CAPTIONS[i] for i in labels]).double().detach(),
    )

    @torch.no_grad()
    def loss(w: Tensor) -> float:
        features = slow_image_features(clip, slow_canvas(images, w, padding, 32, 32))
        return slow_released_loss(features, texts, plain.backbone.scale).item()

    w, step = plain.w.double(), 1e-7  # so small that no pixel crosses the clamp
    steepest = values.grad.flatten().abs().argsort(descending=True)[:4].tolist()
    for place in steepest:
        channel, k = divmod(place, values.shape[1])
        nudge = torch.zeros_like(w).view(3, -1)
        nudge[channel, border[k]] = step
        slope = (loss(w + nudge.view_as(w)) - loss(w - nudge.view_as(w))) / (2 * step)
        assert values.grad[channel, k].item() == pytest.approx(slope, rel=1e-4)
    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    nudge = torch.zeros_like(w).view(3, -1)
    nudge[:, border] = direction.double()
    nudge = nudge.view_as(w) * step
    slope = (loss(w + nudge) - loss(w - nudge)) / (2 * step)
    assert (values.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4)


def test_the_loss_over_classes_sees_every_class_and_the_loss_over_pairs_those_present(tiny, colours, monkeypatch):
    monkeypatch.setattr(tiny, "scale", 5.0)  # at 100 random weights answer with certainty
    method, images, labels = Reprogrammer(tiny, CAPTIONS, padding=3), pictures(4, 32), torch.tensor([0, 1, 1, 0])
    logits = tiny.scale * method.image_features(images) @ method.class_weights().T
    over_classes = torch.nn.functional.cross_entropy(logits, labels).item()
    over_present = torch.nn.functional.cross_entropy(logits[:, :2], labels).item()
    assert method.loss(images, labels, colours(loss="captions")).item() == pytest.approx(over_classes, rel=1e-5)
    assert abs(over_classes - over_present) > 0.01
    both = method.loss(images, labels, colours()).item()
    # Image to text over pairs with twins as positives is cross-entropy over the classes present, each twice here.
    texts_to_images = [logits[:, c].softmax(0)[labels == c].sum().log().item() for c in labels]
    assert both == pytest.approx((over_present - sum(texts_to_images) / 4) / 2, rel=1e-4)


@pytest.mark.parametrize("count", [11, 12, 40])
def test_loss_and_gradients_are_those_of_the_classes_present_however_many_captions_are_encoded(tiny, colours, count):
    settings = TrainSettings.build(dataset="demo")
    method = Reprogrammer(tiny, CAPTIONS, padding=4)
    labels = torch.arange(count) % 2 * 2  # the middle class is absent; below 12 pictures its caption is not encoded
    images = torch.nn.functional.normalize(torch.randn(count, 32, generator=torch.Generator().manual_seed(4)), dim=1)
    parameters = list(method.text_program.parameters())
    loss = method.feature_loss(images, labels, settings)
    gradients = torch.autograd.grad(loss, parameters)
    texts = method.class_weights(torch.tensor([0, 2]))[labels // 2]
    expected = symmetric_loss(images, texts, labels, method.scale)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, parameters), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [33, -1])
def test_a_size_that_does_not_fit_is_refused_when_it_is_built(tiny, value):
    with pytest.raises(InputError, match=f"image_size = {value} px is refused: 1 to 32"):
        Reprogrammer(tiny, CAPTIONS, image_size=value)


@pytest.mark.parametrize("padding", [17, -1])
def test_a_border_that_does_not_fit_is_refused_when_it_is_built(tiny, padding):
    with pytest.raises(InputError, match=f"padding = {padding} px is refused: 0 to 16"):
        Reprogrammer(tiny, CAPTIONS, padding=padding)


def test_nothing_to_train_is_refused(tiny, colours):
    with pytest.raises(InputError, match=r"nothing to train: .*padding = 0"):
        Reprogrammer(tiny, CAPTIONS, "image", padding=0).optimizers(colours())
    # With a text program padding 0 has something to train.
    assert len(Reprogrammer(tiny, CAPTIONS, "both", padding=0).optimizers(colours())) == 1


def test_the_optimizers_are_those_of_the_reference(tiny, colours):
    method = Reprogrammer(tiny, CAPTIONS, padding=3)
    image, text = method.optimizers(colours(recipe="released", warmup_steps=1))
    assert (type(image), type(text)) == (torch.optim.Adam, torch.optim.AdamW)
    expected = [{"lr": 5e-3, "weight_decay": 0.1, "betas": (0.9, 0.999)}]
    expected += [{"lr": 5e-4, "weight_decay": 0.1, "betas": (0.9, 0.98), "eps": 1e-6}]
    for optimizer, wanted in zip((image, text), expected):
        assert {k: optimizer.param_groups[0][k] for k in wanted} == wanted


def test_states_of_another_shape_or_name_are_refused_and_change_nothing(tiny):
    method = Reprogrammer(tiny, CAPTIONS, padding=3)
    before = {k: v.clone() for k, v in method.program_state().items()}
    other = Reprogrammer(tiny, CAPTIONS, padding=4).program_state()
    with pytest.raises(ValueError, match=r"do not fit this program: image_program\.values"):
        method.load_program_state(other)
    with pytest.raises(ValueError, match=r"do not fit this program: .*text_program\.rows"):
        method.load_program_state({"image_program.values": before["image_program.values"]})
    assert all(torch.equal(v, before[k]) for k, v in method.program_state().items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_the_gpu_agrees_with_fp32(tower):
    backbone = load_backbone(tower("vit"), device="cuda")
    method, images = Reprogrammer(backbone, CAPTIONS, padding=3), pictures(16, 32).cuda()
    with torch.no_grad():
        exact = method.image_features(images) @ method.class_weights().T
        with autocast(backbone.device, "bf16"):
            rough = method.image_features(images) @ method.class_weights().T
    assert rough.float().cpu() == pytest.approx(exact.cpu(), abs=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_the_gpu_lowers_the_loss(tower, colours):
    from reprog_kit.image_sets import ImageSet

    backbone, settings = load_backbone(tower("vit"), device="cuda"), colours(epochs=5, precision="auto", image_lr=0.05)
    method = Reprogrammer.from_settings(backbone, (), CAPTIONS, settings)
    data = ImageSet("train", pictures(24, 32).numpy(), np.arange(24) % 3, (0, 1, 2))
    losses = [epoch.record["loss"] for epoch in train(method, data, data, settings)]
    assert losses[-1] < losses[0]
    assert math.isfinite(losses[-1])
