"""Tiny encoders and tiny picture folders, so that a test of the whole road takes a second."""

import os

# Before torch is loaded: two workers on two cores would otherwise spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import copy
import functools
import http.server
import json
import math
import threading
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from reprog_kit.backbone import load_backbone
from reprog_kit.explore_settings import ExploreSettings
from reprog_kit.runs import train_run
from reprog_kit.settings import TrainSettings
from reprog_kit.workbench import Workbench

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_VIT = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
# "custom" keeps its text tower in `.text`; "last" pools and attends as SigLIP does; "coca" adds a token to the text.
TOWERS = {
    "vit": {"vision_cfg": _VIT, "text_cfg": _TEXT},
    "quick": {"vision_cfg": _VIT, "text_cfg": _TEXT, "quick_gelu": True},
    "resnet": {"vision_cfg": {**_VIT, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}, "text_cfg": _TEXT},
    "custom": {"vision_cfg": _VIT, "text_cfg": _TEXT, "custom_text": True},
    "coca": {
        "vision_cfg": {**_VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**_TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**_TEXT, "layers": 1, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "last": {
        "vision_cfg": _VIT,
        "text_cfg": {**_TEXT, "pool_type": "last", "no_causal_mask": True},
        "custom_text": True,
    },
}
COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


@pytest.fixture(autouse=True)
def _no_data_root_of_the_user(monkeypatch):
    monkeypatch.delenv("REPROG_DATA", raising=False)


@pytest.fixture(scope="session")
def tower(tmp_path_factory):
    """Return a function that writes an encoder with random weights once and returns its ``local-dir:`` name."""
    made: dict[str, str] = {}

    def write(kind: str) -> str:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            config = {"model_cfg": {"embed_dim": 32, **TOWERS[kind]}, "preprocess_cfg": {"mean": MEAN, "std": STD}}
            (folder / "open_clip_config.json").write_text(json.dumps(config))
            with torch.random.fork_rng():
                torch.manual_seed(3)
                architecture = copy.deepcopy(config["model_cfg"])
                custom = architecture.pop("custom_text", False)
                made_by = open_clip.CoCa if kind == "coca" else open_clip.CustomTextCLIP if custom else open_clip.CLIP
                clip = made_by(**architecture)
                _make_lively(clip)
            weights = {name: value.contiguous().clone() for name, value in clip.state_dict().items()}
            save_file(weights, folder / "open_clip_model.safetensors")
            made[kind] = f"local-dir:{folder}"
        return made[kind]

    return write


def _make_lively(clip: torch.nn.Module) -> None:
    """Draw weights so that captions and pictures differ clearly, with CLIP's own logit scale."""
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(100))
        for name, value in clip.named_parameters():
            if "embedding" in name and not name.startswith("visual"):
                value.normal_(std=0.5)
            elif name.endswith("bn3.weight"):
                value.fill_(1.0)  # a ResNet starts its residual branches at zero


@pytest.fixture(scope="session")
def backbones(tower):
    """Return a function from a kind of tower to its loaded backbone, on the CPU."""
    loaded = {}

    def load(kind: str):
        if kind not in loaded:
            loaded[kind] = load_backbone(tower(kind), device="cpu")
        return loaded[kind]

    return load


@pytest.fixture(scope="session")
def tiny(backbones):
    """A ViT of two layers on a canvas of 32 px."""
    return backbones("vit")


@pytest.fixture(scope="session")
def mini():
    """The embedded backbone; a test that asks for it fails where the asset is missing."""
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="session")
def draw():
    """Return a function that writes a noisy picture of one colour."""
    return _write_picture


def _write_picture(path: Path, colour, seed: int = 0, size: tuple[int, int] = (20, 20)) -> Path:
    noise = np.random.default_rng(seed).integers(-50, 50, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A data root: train, test and shift with three colours as classes, and a flat folder of other pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for part, count in (("train", 10), ("test", 4), ("shift", 3)):
        for c, (name, colour) in enumerate(COLOURS.items()):
            for i in range(count):
                dimmed = [value // 2 if part == "shift" else value for value in colour]
                _write_picture(root / part / name / f"{i:02}.png", dimmed, seed=100 * c + i)
    for i in range(6):
        _write_picture(root / "other" / f"{i}.png", (128, 128, 128), seed=900 + i)
    return root


@pytest.fixture
def benchmark_file(tmp_path):
    """Return a function that writes the YAML of the colours, changed as asked, and returns its path."""

    def write(**changes) -> str:
        content = {
            "side": 16,
            "id": {
                "train": {"kind": "folder", "path": "train"},
                "validation": 0.2,
                "test": {"kind": "folder", "path": "test"},
            },
            "shift": {"dim": {"kind": "folder", "path": "shift"}},
            "ood": {"other": {"kind": "folder", "path": "other"}},
        }
        path = tmp_path / "colours.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}))
        return str(path)

    return write


@pytest.fixture
def colours(benchmark_file, pictures, tower, tmp_path):
    """Return a function that builds settings of a two-second run: three colours, the tiny ViT, runs/ in tmp_path."""

    def build(**given) -> TrainSettings:
        quick = {"epochs": 2, "batch_size": 8, "warmup_steps": 1, "padding": 4, "device": "cpu", "precision": "fp32"}
        where = {"model": tower("vit"), "data_root": str(pictures), "runs": str(tmp_path / "runs")}
        if given.get("method", "reprogrammer") != "reprogrammer":
            quick.pop("padding")
        if given.get("method") == "coop":
            quick["contexts"] = 5  # the tiny text tower has 16 positions
        if given.get("method") == "zero_shot":
            quick = {"device": "cpu", "precision": "fp32"}
        if "dataset" not in given:
            given["dataset"] = benchmark_file()
        return TrainSettings.build(**{**quick, **where, **given})

    return build


@pytest.fixture(scope="session")
def _joined_bench(pictures, tower, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "colours.yaml"
    path.write_text(
        "side: 16\n"
        "id: {train: {kind: folder, path: train}, validation: 0.4, test: {kind: folder, path: test}}\n"
        "shift: {dim: {kind: folder, path: shift}}\n"
        "ood: {other: {kind: folder, path: other}, blocks: {kind: generated, name: pixelate, of: test}}\n"
        'templates: ["a photo of a {}.", "a drawing of a {}."]\n'
    )
    where = {"dataset": str(path), "data_root": str(pictures), "runs": str(folder / "runs"), "device": "cpu"}
    quick = {"model": tower("vit"), "epochs": 2, "batch_size": 6, "precision": "fp32", "keep": "last", **where}
    border = {"padding": 4, "image_lr": 0.1, "text_lr": 0.005, "warmup_steps": 1}
    for given in ({"method": "reprogrammer", **border}, {"method": "fine_tune"}, {"method": "linear_probe"}):
        train_run(TrainSettings.build(**{**quick, "warmup_steps": 1, **given}))
    return Workbench(ExploreSettings.build(**where, steps=11))


@pytest.fixture
def bench(_joined_bench):
    """A workbench of the three colours with a reprogrammer, a fine-tuned run and a linear probe, as it was made."""
    at = {name: getattr(_joined_bench, name) for name in ("alpha", "score", "chosen", "padding")}
    yield _joined_bench
    _joined_bench.unobserve_all()
    for name, value in at.items():
        setattr(_joined_bench, name, value)


class _Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""

    def copyfile(self, source, outputfile):
        """Break off halfway where the test asks for it: the length was promised already."""
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "drop" in self.path else content)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and the address at which its files are served."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Server, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
