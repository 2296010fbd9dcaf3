"""Whatever cannot be had is refused before anything is written: the value is named, and what would be right."""

import shutil
from pathlib import Path

import pytest

from reprog_kit.parameters import InputError
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings

TRAIN, TEST = {"kind": "folder", "path": "train"}, {"kind": "folder", "path": "test"}


def cut_model(tower, tmp_path) -> str:
    folder = shutil.copytree(tower("vit").removeprefix("local-dir:"), tmp_path / "cut")
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    return f"local-dir:{folder}"


def root_with(change):
    """Return a function that copies the pictures and changes the copy."""

    def make(pictures, tmp_path) -> str:
        root = shutil.copytree(pictures, tmp_path / "own")
        change(root)
        return str(root)

    return make


# What is given to the settings; `yaml` changes the benchmark, `root` the pictures, `weights` the model's file.
CASES = {
    "unknown parameter": ({"paddding": 4}, ["unknown parameter 'paddding'", "'padding'"]),
    "wrong type": ({"epochs": "many"}, ["epochs = 'many'", "integer"]),
    "true for a number": ({"epochs": True}, ["epochs = True"]),
    "too wide a border": ({"padding": 17}, ["padding = 17 px", "0 to 16 px"]),
    "negative border": ({"padding": -1}, ["padding = -1", "greater than or equal to 0"]),
    "too large a picture": ({"image_size": 33}, ["image_size = 33 px", "1 to 32 px"]),
    "unknown method": ({"method": "reprogramer"}, ["method = 'reprogramer'", "'reprogrammer'"]),
    "unknown dataset": ({"dataset": "dmeo"}, ["unknown dataset 'dmeo'", "'demo'"]),
    "missing yaml": ({"dataset": "nowhere/own.yaml"}, ["nowhere/own.yaml", "params/template.yaml"]),
    "unknown model": ({"model": "ViT-B-23"}, ["unknown model 'ViT-B-23'", "mini"]),
    "model without a tag": ({"model": "ViT-B-32"}, ["needs pretrained", "openai"]),
    "unknown tag": ({"model": "ViT-B-32", "pretrained": "openia"}, ["pretrained = 'openia'", "'openai'"]),
    "unknown device": ({"device": "cuda:77"}, ["device = 'cuda:77'", "'cpu'"]),
    "missing data root": ({"data_root": "/nowhere/at/all"}, ["/nowhere/at/all", "does not exist", "data_root"]),
    "nothing to train": ({"program": "image", "padding": 0}, ["nothing to train", "padding = 0"]),
    "long warm-up": ({"warmup_steps": 6}, ["warmup_steps = 6", "6 steps"]),
    "truncated weights": ({"weights": cut_model}, ["could not be loaded", "open_clip_model.safetensors"]),
    "class mismatch": ({"yaml": {"classes": ["red", "blue"]}}, ["'green'", "'red', 'blue'", "drop"]),
    "shift mismatch": (
        {"yaml": {"shift": {"x": {**TEST, "classes": {"red": "rouge"}}}}},
        ["x:", "'rouge'", "'blue', 'green', 'red'"],
    ),
    "unknown key": ({"yaml": {"captoin": "{}"}}, ["captoin", "colours.yaml"]),
    "share too small": ({"yaml": {"id": {"train": TRAIN, "test": TEST, "validation": 0.01}}}, ["validation: 0.01"]),
    "empty class folder": (
        {"root": root_with(lambda root: (root / "train" / "hollow").mkdir())},
        ["hollow", "remove or fill"],
    ),
    "unreadable picture": (
        {"root": root_with(lambda root: (root / "train" / "red" / "00.png").write_bytes(b"x"))},
        ["red/00.png", "Replace or remove"],
    ),
    "missing set": ({"root": root_with(lambda root: shutil.rmtree(root / "other"))}, ["nothing at", "other"]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name_and_nothing_is_written(case, colours, benchmark_file, pictures, tower, tmp_path):
    asked, words = CASES[case]
    given = dict(asked)
    if "yaml" in given:
        given["dataset"] = benchmark_file(**given.pop("yaml"))
    if "root" in given:
        given["data_root"] = given.pop("root")(pictures, tmp_path)
    if "weights" in given:
        given["model"] = given.pop("weights")(tower, tmp_path)
    with pytest.raises(InputError) as caught:
        train_run(colours(**given))
    for word in words:
        assert word in str(caught.value)
    assert not list((tmp_path / "runs").glob("*-*"))  # the cache of decoded pictures may be there


@pytest.mark.parametrize("alpha", [-0.01, 1.01, "much"])
def test_an_alpha_outside_0_to_1_is_refused(alpha):
    with pytest.raises(InputError, match=rf"alpha = {alpha!r} is refused.*share of the zero-shot features"):
        EvaluateSettings.build(alpha=alpha)


def test_a_runs_folder_that_cannot_be_written_is_refused(colours, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="could not be written"):
        train_run(colours(runs=str(tmp_path / "taken")))
    assert Path(tmp_path / "taken").read_text() == "a file"
