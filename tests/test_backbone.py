"""The frozen encoder: loaded with the right activation, told apart by its fingerprint, refused with what would work."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import open_clip
import pytest
import torch

from reprog_kit import backbone as module
from reprog_kit.backbone import load_backbone
from reprog_kit.machine import pick_device
from reprog_kit.parameters import InputError


def folder_of(name: str) -> Path:
    return Path(name.removeprefix("local-dir:"))


@pytest.fixture
def asked(monkeypatch):
    """Record what open_clip.create_model is asked for, without a network and without weights."""
    calls = []

    def record(name, **kwargs):
        calls.append({"name": name, **kwargs})
        raise OSError("no network in this test")

    def unreachable(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(open_clip, "create_model", record)
    monkeypatch.setattr(module.socket, "create_connection", unreachable)
    return calls


@pytest.mark.parametrize(
    ("model", "tag", "quick"),
    [
        ("ViT-B-32", "openai", True),
        ("ViT-B-32-quickgelu", "openai", True),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
        ("RN50", "openai", True),
        ("ViT-B-16", "laion2b_s34b_b88k", False),
    ],
)
def test_weights_get_the_activation_they_were_trained_with(asked, model, tag, quick):
    with pytest.raises(InputError):
        load_backbone(model, tag, "cpu")
    assert len(asked) == 1
    assert (asked[0]["name"], asked[0]["pretrained"], asked[0]["force_quick_gelu"]) == (model, tag, quick)
    assert asked[0]["require_pretrained"]


def test_weights_out_of_reach_name_their_source_and_the_way_without_a_network(asked):
    with pytest.raises(InputError) as caught:
        load_backbone("ViT-B-32", "openai", "cpu")
    for word in ("'ViT-B-32'", "'openai'", "no network in this test", "-p model ViT-B-32-quickgelu", "local-dir:"):
        assert word in str(caught.value)


def test_what_was_silenced_while_loading_speaks_again(asked):
    before = (module.hub.HF_HUB_OFFLINE, module.logging.root.manager.disable)
    with pytest.raises(InputError):
        load_backbone("ViT-B-32", "openai", "cpu")
    assert (module.hub.HF_HUB_OFFLINE, module.logging.root.manager.disable) == before


@pytest.mark.parametrize(
    ("model", "pretrained", "words"),
    [
        ("ViT-B-33", "openai", ["unknown model 'ViT-B-33'. Did you mean 'ViT-B-32'?", "local-dir:FOLDER"]),
        ("minni", None, ["unknown model 'minni'. Did you mean 'mini'?"]),
        ("ViT-B-32", None, ["model = 'ViT-B-32' needs pretrained", "openai", "random"]),
        ("ViT-B-32", "openia", ["pretrained = 'openia' is neither a file nor a tag", "Did you mean 'openai'?"]),
        ("ViT-B-32", "no/such/file.pt", ["pretrained = 'no/such/file.pt' is neither a file nor a tag of ViT-B-32"]),
        ("local-dir:no/such/folder", None, ["local-dir:no/such/folder", "could not be loaded"]),
    ],
)
def test_names_that_do_not_exist_are_refused_with_those_that_do(model, pretrained, words):
    with pytest.raises(InputError) as caught:
        load_backbone(model, pretrained, "cpu")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 1000, 0.5])
def test_truncated_weights_are_refused(tower, tmp_path, keep):
    folder = shutil.copytree(folder_of(tower("vit")), tmp_path / "cut")
    weights = folder / "open_clip_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else keep])
    with pytest.raises(InputError, match=r"could not be loaded.*\n.*open_clip_model\.safetensors"):
        load_backbone(f"local-dir:{folder}", device="cpu")


def test_a_folder_without_weights_is_refused_rather_than_filled_with_noise(tower, tmp_path):
    folder = shutil.copytree(folder_of(tower("vit")), tmp_path / "empty")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="could not be loaded"):
        load_backbone(f"local-dir:{folder}", device="cpu")


def test_the_fingerprint_tells_the_activation_apart_though_the_weights_are_equal(backbones):
    gelu, quick = backbones("vit"), backbones("quick")
    for (name, a), (other, b) in zip(gelu.clip.state_dict().items(), quick.clip.state_dict().items()):
        assert name == other
        assert torch.equal(a, b)
    assert gelu.fingerprint != quick.fingerprint


def test_the_fingerprint_sees_one_changed_weight_and_the_preprocessing(tower):
    name = tower("vit")
    plain = load_backbone(name, device="cpu").fingerprint
    changed = load_backbone(name, device="cpu")
    with torch.no_grad():
        changed.clip.text_projection[3, 4] += 1e-6
    other_mean = load_backbone(name, device="cpu")
    other_mean.mean += 0.01
    assert len({plain, changed.fingerprint, other_mean.fingerprint}) == 3
    assert load_backbone(name, device="cpu").fingerprint == plain


@pytest.mark.parametrize("kind", ["vit", "resnet", "custom"])
def test_everything_is_frozen_and_stays_in_evaluation_mode(tower, kind):
    backbone = load_backbone(tower(kind), device="cpu")
    assert sum(p.numel() for p in backbone.parameters()) > 1000
    assert not any(p.requires_grad for p in backbone.parameters())
    torch.nn.Sequential(backbone).train()
    assert not any(m.training for m in backbone.modules())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_image_features_are_the_models_own_on_normalised_pixels(backbones, kind):
    backbone, drawn = backbones(kind), torch.rand(3, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(drawn, (32, 32), mode="bilinear")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        expected = backbone.clip.encode_image((pixels - mean) / std)
        found = backbone.encode_image(pixels)
    assert found == pytest.approx(expected / expected.norm(dim=1, keepdim=True), abs=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_random_weights_are_the_same_in_every_load_and_leave_the_callers_random_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again = (load_backbone("RN50", "random", "cpu") for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert one.side == 224
    assert one.fingerprint == again.fingerprint
    assert one.token_table.std() > 0.01


def test_the_embedded_backbone_is_a_clip_on_a_canvas_of_64_px(mini):
    assert (mini.side, mini.name, mini.text_pool) == (64, "mini", "argmax")
    assert 1 < mini.scale <= 100.01


def test_the_embedded_backbone_knows_a_digit_from_a_texture(mini):
    """Not its quality, only that real weights were loaded: features of different captions differ."""
    found = mini.encode_text(mini.tokenize(["a photo of a zero", "a photo of a dog", "a photo of a car"]))
    cosines = found @ found.T
    assert cosines.fill_diagonal_(0).max() < 0.98


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta-physics"])
def test_a_device_that_is_not_here_is_refused(device):
    with pytest.raises(InputError, match=rf"device = '{device}' cannot be used here .*'auto' or 'cpu'"):
        pick_device(device)


def test_auto_is_a_device_that_works():
    assert torch.ones(2, device=pick_device("auto")).sum() == 2
    assert pick_device("cpu") == torch.device("cpu")


def test_a_canvas_that_is_not_square_is_refused(tower, monkeypatch):
    real = open_clip.get_model_preprocess_cfg
    monkeypatch.setattr(open_clip, "get_model_preprocess_cfg", lambda clip: {**real(clip), "size": (32, 48)})
    with pytest.raises(InputError, match="wants 32 x 48 px; only square"):
        load_backbone(tower("vit"), device="cpu")


@torch.no_grad()
def test_threads_that_share_it_do_not_see_each_others_token_rows(tower):
    backbone = load_backbone(tower("vit"), device="cpu")
    tokens = backbone.tokenize(["a red square", "blue"])
    rows, bias = backbone.token_table + 0.1, backbone.positions[: tokens.shape[1]] * 2
    own, swapped = backbone.encode_text(tokens), backbone.encode_text(tokens, rows, bias)
    table, positions = backbone.token_table.clone(), backbone.positions.clone()

    def encode(number: int) -> torch.Tensor:
        with torch.no_grad():  # it holds for its own thread alone
            return backbone.encode_text(tokens, *((rows, bias) if number % 2 else ()))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encode, range(200)))
        copies = [backbone.token_table.clone() for _ in pool.map(encode, range(8))]
    for number, features in enumerate(found):
        torch.testing.assert_close(features, swapped if number % 2 else own)
    assert all(torch.equal(copy, table) for copy in copies)
    assert torch.equal(backbone.token_table, table) and torch.equal(backbone.positions, positions)
