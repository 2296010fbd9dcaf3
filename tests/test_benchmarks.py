"""A benchmark is a YAML: what it may say, and what a person reads when it says something else."""

import pytest

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.datasets import BenchmarkData
from reprog_kit.generated import DIGIT_NAMES
from reprog_kit.parameters import InputError
from reprog_kit.settings import known_benchmarks, project_root
from reprog_kit.specs import Folder, Generated

FOLDER = {"kind": "folder", "path": "train"}


def test_a_benchmark_is_read_with_its_files_stem_as_name(benchmark_file):
    found = load_benchmark(benchmark_file())
    assert (found.name, found.side, found.caption) == ("colours", 16, "a photo of a {}")
    assert found.id.train == Folder(kind="folder", path="train")
    assert found.id.validation == 0.2
    assert (list(found.shift), list(found.ood)) == (["dim"], ["other"])


def test_the_embedded_benchmark_needs_no_files(tmp_path):
    found = load_benchmark("demo")
    assert found.classes == DIGIT_NAMES
    specs = [found.id.train, found.id.validation, found.id.test, *found.shift.values(), *found.ood.values()]
    assert all(isinstance(spec, Generated) for spec in specs)
    BenchmarkData(found, str(tmp_path)).check()


def test_every_benchmark_in_params_is_valid():
    assert "demo" in known_benchmarks()
    for name in known_benchmarks():
        assert load_benchmark(name).name == name
    assert load_benchmark(str(project_root() / "docs" / "natural.yaml")).name == "natural"  # its pictures are elsewhere


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": 0}, ["side", "greater than 0"]),
        ({"colour": "red"}, ["colour: Extra inputs are not permitted"]),
        ({"id": {"train": FOLDER}}, ["id.test: Field required"]),
        ({"id": {"train": {"kind": "fodler", "path": "x"}, "test": FOLDER}}, ["id.train", "fodler", "'folder'"]),
        ({"id": {"train": {**FOLDER, "pth": "x"}, "test": FOLDER}}, ["pth: Extra inputs are not permitted"]),
        ({"id": {"train": FOLDER, "test": FOLDER, "validation": 1.5}}, ["validation", "less than 1"]),
        ({"id": {"train": FOLDER, "test": FOLDER, "validation": 0.0}}, ["validation", "greater than 0"]),
        ({"caption": "a photo"}, ["caption 'a photo' must hold {} once"]),
        ({"caption": "a {} and a {}"}, ["must hold {} once"]),
        ({"classes": ["red", "blue", "red"]}, ["class names stand twice: ['red']"]),
        ({"shift": {"x": FOLDER}, "ood": {"x": FOLDER}}, ["a set is either shift or OOD, not both: ['x']"]),
    ],
)
def test_what_is_wrong_is_named_with_the_file(benchmark_file, changes, words):
    with pytest.raises(InputError) as caught:
        load_benchmark(benchmark_file(**changes))
    for word in ["colours.yaml does not describe a benchmark", *words]:
        assert word in str(caught.value)


def test_captions_say_words_instead_of_underscores(benchmark_file):
    found = load_benchmark(benchmark_file(caption="this is {}."))
    assert found.captions(("polar_bear", "cat")) == ["this is polar bear.", "this is cat."]


def test_the_data_key_knows_what_decides_pictures_and_captions_and_nothing_else(benchmark_file):
    def key(**changes):
        return load_benchmark(benchmark_file(**changes)).data_key()

    plain = key()
    assert key(title="T", description="D", settings={"epochs": 3}, recipes={"released": {"epochs": 4}}) == plain
    later = {"dim": {"kind": "folder", "path": "shift", "count": 9}}
    assert key(ood={}) == key(shift=later) == plain  # a set that is only scored makes no run anew
    train, test = ({"kind": "folder", "path": part} for part in ("train", "test"))
    ours = {"train": train, "test": test, "validation": 0.2}
    assert key(id={**ours, "train": {**train, "home": "https://x", "count": 3, "layout": "y"}}) == plain
    changed = [{"side": 17}, {"caption": "{}"}, {"classes": ["a", "b"]}, {"captions": {"red": "it is red"}}]
    changed += [{"id": {**ours, "validation": 0.3}}, {"id": {**ours, "train": {**train, "drop": ["x"]}}}]
    changed += [{"classes": {"1": "a", "2": "b"}}, {"classes": {"1": "a", "3": "b"}}]
    keys = [str(key(**change)) for change in [{}, *changed]]
    assert len(set(keys)) == len(keys)


def test_a_benchmark_is_frozen(benchmark_file):
    with pytest.raises(ValueError, match="frozen"):
        load_benchmark(benchmark_file()).side = 5


def test_a_caption_with_a_second_brace_is_refused(benchmark_file):
    with pytest.raises(InputError, match="caption"):
        found = load_benchmark(benchmark_file(caption="a {} by {author}"))
        found.captions(("cat",))
