"""The plain way computes what this library computes: the benchmark compares times of the same answers."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reprog_kit.backbone import load_backbone
from reprog_kit.contestants import ALPHA, Ours, Theirs, captions_of, made_settings, noise
from reprog_kit.explore_settings import BenchmarkSettings
from reprog_kit.features import encode, head
from reprog_kit.plain import Plain
from reprog_kit.residual import residual

SETTINGS = BenchmarkSettings.build(models="mini", precisions="fp32", batch_size=6)


@pytest.fixture
def both(tower, tmp_path):
    """Ours and the plain way on one tower of a transformer, with the same border; pictures that need no resize."""
    made = made_settings(SETTINGS, "mini", "fp32")
    data = noise(6, 3, 32)
    ours = Ours(load_backbone(tower("vit"), device="cpu"), made, data, 3, tmp_path)
    theirs = Theirs(load_backbone(tower("vit"), device="cpu", quick=False), made, data, 3, tmp_path)
    border = theirs.method.border.data
    border[:, theirs.method.mask.bool()] = ours.method.image_program.values.detach()
    return ours, theirs


def test_losses_and_steps_are_the_same_from_the_same_start(both):
    ours, theirs = both
    mine = ours.method.optimizers(ours.made)
    pixels, labels = theirs.batches[0]
    for _ in range(3):
        for optimizer in mine:
            optimizer.zero_grad()
        loss = ours.method.loss(torch.from_numpy(ours.data.images_NHWC), labels, ours.made)
        loss.backward()
        for optimizer in mine:
            optimizer.step()
        expected = theirs.method.step(theirs.optimizers, pixels, labels, theirs.made)
        assert loss.item() == pytest.approx(expected, rel=2e-4)
    border = theirs.method.border[:, theirs.method.mask.bool()]
    torch.testing.assert_close(ours.method.image_program.values, border, rtol=1e-3, atol=1e-3)
    used = ours.method.text_program.used_V
    rows = theirs.method.clip.token_embedding.weight[used]
    torch.testing.assert_close(ours.method.text_program.rows, rows, rtol=1e-3, atol=1e-3)
    assert not torch.equal(rows, ours.backbone.token_table[used]), "training moved the table"
    frozen = theirs.method.clip.visual.conv1.weight
    assert frozen.grad.abs().sum() > 0, "frozen weights collect gradients"
    assert torch.equal(frozen, ours.backbone.clip.visual.conv1.weight), "and stay as they are"


def test_the_residual_s_logits_are_the_same(both):
    ours, theirs = both
    found = theirs.method.residual_logits(theirs.batches[0][0], ALPHA, theirs.weights)
    ways = (ours.method, ours.zero_shot)
    pictures = residual(*(encode(way, ours.data.images_NHWC) for way in ways), ALPHA, renormalise=False)
    captions = residual(*(head(way).weights_CD for way in ways), ALPHA, renormalise=False)
    np.testing.assert_allclose(found, ours.backbone.scale * pictures @ captions.T, rtol=1e-4, atol=1e-3)


def test_zero_shot_is_read_from_its_file_after_training_too(both):
    ours, theirs = both
    for _ in range(2):
        theirs.training()
    expected = encode(ours.zero_shot, ours.data.images_NHWC) @ head(ours.zero_shot).weights_CD.T
    found = theirs.method.residual_logits(theirs.batches[0][0], 1.0, theirs.weights)
    np.testing.assert_allclose(found, ours.backbone.scale * expected, rtol=1e-4, atol=1e-3)


def test_pictures_are_enlarged_as_pil_does(tower, tmp_path):
    from PIL import Image

    backbone = load_backbone(tower("vit"), device="cpu", quick=False)
    method = Plain(backbone, captions_of(2), padding=2)
    picture = noise(1, 2, 20).images_NHWC[0]
    expected = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC)) / 255
    found = method.enlarged(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)[0]
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-6)
    outside = torch.tanh(method.border * method.mask)[:, 2:-2, 2:-2]
    assert not outside.any()
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RuntimeError, match="Missing key"):
        method.residual_logits(found[None], 0.5, tmp_path / "other.safetensors")
