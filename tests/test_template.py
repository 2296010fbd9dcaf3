"""params/template.yaml, which people copy: valid as it stands, whole, and no benchmark of its own."""

import re
import shutil
from typing import get_args

import pytest
import yaml

from reprog_kit.benchmarks import Benchmark, InDistribution, load_benchmark
from reprog_kit.data_doctor import doctor
from reprog_kit.generated import CORRUPTIONS
from reprog_kit.parameters import InputError
from reprog_kit.settings import TrainSettings, project_root
from reprog_kit.specs import Download, SetSpec

FILE = project_root() / "params" / "template.yaml"
TEXT = FILE.read_text()
KINDS = get_args(get_args(SetSpec)[0])
# An address is all that a person gives of the ways to fetch a set.
LEFT_OUT = {Download: {"md5", "torchvision", "options", "into"}}


def test_it_is_valid_as_it_stands():
    found = load_benchmark(str(FILE))
    assert found.shift and found.ood
    for method in ("reprogrammer", "fine_tune", "linear_probe", "zero_shot"):
        assert TrainSettings.build(dataset=str(FILE), method=method).model == "mini"  # nothing has to be fetched


@pytest.mark.parametrize("model", [Benchmark, InDistribution, *KINDS, Download])
def test_every_key_is_shown(model):
    keys = {field.alias or name for name, field in model.model_fields.items()} - LEFT_OUT.get(model, set())
    assert not {key for key in keys if not re.search(rf"\b{key}\b[:`]", TEXT)}


def test_every_kind_and_every_simple_corruption_is_named():
    for kind in (get_args(model.model_fields["kind"].annotation)[0] for model in KINDS):
        assert f"kind: {kind}" in TEXT
    assert all(re.search(rf"\b{name}\b", TEXT) for name in CORRUPTIONS)


@pytest.fixture
def changed(tmp_path):
    """Return a function that reads the template with other values."""

    def load(**values) -> Benchmark:
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump({**yaml.safe_load(TEXT), **values}))
        return load_benchmark(str(tmp_path / "changed.yaml"))

    return load


def commented(start: str) -> list:
    """Return what the commented lines that start so say as YAML, without what comes behind a wider gap."""
    lines = [re.sub(r"^ *# *", "", line) for line in TEXT.splitlines() if line.lstrip().startswith("#")]
    return [yaml.safe_load(re.split(r" {3,}#", line)[0]) for line in lines if line.startswith(start)]


def test_the_ways_to_name_classes_are_valid(changed, tmp_path):
    (tmp_path / "flowers.txt").write_text("n01\tdaisy\nn02\trose\nn03\ttulip\n")
    ways = commented("classes:")
    assert len(ways) == 3
    for way in ways:
        assert changed(**way).classes == ("daisy", "rose", "tulip")
    (ids,), (renamed,) = commented("class_ids:"), commented("rename:")
    assert changed(**ways[0], **ids).class_ids == ("n01", "n02", "n03")
    assert changed(**ways[0], **renamed).classes == ("daisy", "garden rose", "tulip")


def test_what_else_is_commented_out_is_valid(changed):
    (captions,), (recipes,) = commented("captions:"), commented("recipes:")
    found = changed(**captions, **recipes)
    assert found.captions(("daisy", "rose"))[0] == captions["captions"]["daisy"]
    kinds = commented("{kind: ")
    assert len(kinds) == 5
    block = TEXT[TEXT.index("# weather:") : TEXT.index("# Other classes")]
    weather = yaml.safe_load("\n".join(re.sub(r"^ *# ", "", line) for line in block.splitlines()))
    shift = {**weather, **{f"set{i}": spec for i, spec in enumerate(kinds)}}
    assert set(changed(shift=shift).shift) == set(shift)
    clip = {name: value for line in ("model:", "pretrained:", "padding:") for name, value in commented(line)[0].items()}
    assert (clip["model"], changed(settings=clip).settings["pretrained"]) == ("ViT-B-32", "openai")


def test_it_is_offered_by_no_list():
    with pytest.raises(InputError) as caught:
        load_benchmark("no_such")
    assert "demo" in str(caught.value) and "template" not in str(caught.value)


def test_the_doctor_says_what_to_put_where(tmp_path):
    found = doctor(str(FILE), str(tmp_path / "data"), str(tmp_path / "runs"))
    assert {one.name: one.found for one in found.sets} == {
        "train": False, "test": False, "phone": False, "noisy": True, "weeds": False,
    }  # fmt: skip
    assert found.steps[0].startswith("Make the data root")
    for step, place in zip(found.steps[1:], ("flowers/train", "flowers/test", "flowers/phone", "weeds"), strict=False):
        assert f"put it at {tmp_path / 'data' / place}, or correct its path in the YAML." in step
    assert found.steps[-1].startswith("python -m reprog_kit doctor ")
    assert len(found.steps) == 6


def test_a_copy_with_pictures_is_healthy(tmp_path, draw):
    """As the README says: copied, and the pictures put where it says."""
    shutil.copy(FILE, tmp_path / "mine.yaml")
    root, names = tmp_path / "data", ("daisy", "rose", "tulip")
    for p, (part, count) in enumerate({"train": 10, "test": 2, "phone": 2}.items()):
        for c, name in enumerate(names):
            folder = {"daisy": "Daisies", "rose": "Roses", "tulip": "Tulips"}[name] if part == "phone" else name
            for i in range(count):
                draw(root / "flowers" / part / folder / f"{i}.png", (80 * c, 90, 90), seed=1000 * p + 100 * c + i)
    draw(root / "weeds" / "0.png", (9, 9, 9))
    found = doctor(str(tmp_path / "mine.yaml"), str(root), str(tmp_path / "runs"))
    assert found.healthy and found.benchmark == "mine" and found.classes == names
