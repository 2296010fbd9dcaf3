"""The benchmarks in params/: every set is described as it was published, and nothing contradicts itself."""

import re
from collections import Counter
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import TypeAdapter

from reprog_kit.downloads import by_hand, to_get
from reprog_kit.published import read_published
from reprog_kit.settings import TrainSettings, known_benchmarks, project_root
from reprog_kit.specs import Corrupted, Generated, SetSpec

BENCHMARKS = {name: (project_root() / "params" / f"{name}.yaml").read_text() for name in known_benchmarks()}
BIG = sorted(set(BENCHMARKS) - {"demo"})
# Pictures, by benchmark and set, from what their authors say.
COUNTS = {
    "cifar10": {
        "train": 50_000, "test": 10_000,  # www.cs.toronto.edu/~kriz/cifar.html
        "cifar10_1": 2_000,  # README of modestyachts/CIFAR-10.1: v6 has 2,000, v4 2,021
        "cifar10_2": 2_000,  # README of modestyachts/cifar-10.2: 10,000 to train, 2,000 to test
        "stl10": 8_000,  # cs.stanford.edu/~acoates/stl10: 800 test pictures a class
        "cifar10_c": 15 * 5 * 10_000,  # its README: 10,000 a severity in each file
    },
    "cifar100": {"train": 50_000, "test": 10_000, "cifar100_c": 15 * 5 * 10_000},
    "imagenet": {
        "train": 1_281_167, "test": 50_000,  # image-net.org/challenges/LSVRC/2012
        "imagenet_v2": 10_000, "imagenet_v2_threshold": 10_000, "imagenet_v2_top": 10_000,  # README of ImageNetV2
        "imagenet_a": 7_500,  # Hendrycks et al., CVPR 2021
        "imagenet_r": 30_000,  # README of hendrycks/imagenet-r
        "imagenet_sketch": 50_889,  # as the literature counts the archive; its README says 50,000
        "inaturalist": 10_000, "sun": 10_000, "places": 10_000,  # Huang & Li, CVPR 2021
        "dtd": 5_640,  # www.robots.ox.ac.uk/~vgg/data/dtd: 47 textures, 120 pictures each
    },
}  # fmt: skip
SMALL_OOD = {
    "svhn": 26_032,  # as the literature gives it for ufldl.stanford.edu/housenumbers
    "isun": 8_925, "lsun_resize": 10_000, "lsun_crop": 10_000,  # Liang et al., ICLR 2018
    "dtd": 5_640,
    "places365": 36_500,  # places2.csail.mit.edu: 100 validation pictures of each of 365 classes
}  # fmt: skip


def content(name: str) -> dict:
    return yaml.safe_load(BENCHMARKS[name])


def specs(name: str) -> dict[str, SetSpec]:
    """Return every set of a benchmark by its name, checked."""
    said, parse = content(name), TypeAdapter(SetSpec).validate_python
    own = {part: spec for part, spec in said["id"].items() if isinstance(spec, dict)}
    return {set_name: parse(spec) for group in (own, said["shift"], said["ood"]) for set_name, spec in group.items()}


def test_the_paper_s_benchmarks_are_there():
    assert {"demo", "cifar10", "cifar100", "imagenet"} <= set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_set_is_valid_and_has_a_name_of_its_own(name):
    said = content(name)
    assert len(specs(name)) == sum(isinstance(v, dict) for v in said["id"].values()) + len(said["shift"] | said["ood"])
    keys = re.findall(r"^  (\w+):", BENCHMARKS[name], re.M)  # safe_load keeps the last of two silently
    assert not [key for key, times in Counter(keys).items() if times > 1]
    assert len(BENCHMARKS[name].splitlines()) < 130
    assert max(map(len, BENCHMARKS[name].splitlines())) <= 120


@pytest.mark.parametrize("name", BIG)
def test_counts_are_the_published_ones(name):
    known = COUNTS[name] | ({} if name == "imagenet" else SMALL_OOD)
    assert {set_name: spec.count for set_name, spec in specs(name).items()} == known


@pytest.mark.parametrize("name", BIG)
def test_a_person_learns_where_every_set_lives(name, tmp_path):
    for set_name, spec in specs(name).items():
        assert spec.home.startswith("http") and spec.layout, set_name
        assert f"{set_name} lives at http" in by_hand(set_name, spec, tmp_path)
        paths = [
            p for p in (getattr(spec, "path", ""), getattr(spec, "labels", None), getattr(spec, "published", "")) if p
        ]
        for path in paths:
            assert path.rsplit("/", 1)[-1] in spec.layout, set_name


@pytest.mark.parametrize("name", BIG)
def test_all_but_imagenet_itself_can_be_fetched(name):
    by_person = {set_name for set_name, spec in specs(name).items() if not to_get(spec)}
    assert by_person == ({"train", "test"} if name == "imagenet" else set())


@pytest.mark.parametrize("name", BIG)
def test_downloads_name_files_and_whole_checksums(name):
    seen = {}
    for spec in specs(name).values():
        found = spec.download
        for url, md5 in zip(found.urls, found.md5 or [None] * len(found.urls)) if found else ():
            parts = urlsplit(url)
            assert parts.scheme in ("http", "https") and re.search(r"\.(tar|tar\.gz|zip|npy|npz)$", parts.path)
            assert md5 is None or re.fullmatch("[0-9a-f]{32}", md5)
            assert seen.setdefault(url, spec) is spec


def test_sets_that_several_benchmarks_have_are_described_alike():
    assert content("cifar10")["ood"] == content("cifar100")["ood"]
    assert content("imagenet")["ood"]["dtd"] == content("cifar10")["ood"]["dtd"]
    for key in ("side", "caption", "templates", "settings"):
        assert content("cifar10")[key] == content("cifar100")[key]


def test_numbers_of_others_find_their_sets():
    for entry in read_published():
        for name, sets in entry.percent.items():
            if name in BENCHMARKS:
                assert set(sets) <= set(specs(name)), (entry.source, name)


def test_stl10_goes_to_cifar10_by_name_and_leaves_its_monkeys():
    ours, mapping = content("cifar10")["classes"], specs("cifar10")["stl10"].classes
    theirs = [
        "airplane",
        "bird",
        "car",
        "cat",
        "deer",
        "dog",
        "horse",
        "monkey",
        "ship",
        "truck",
    ]  # its class_names.txt
    assert set(theirs) - set(mapping) == {"monkey"} and set(mapping) <= set(theirs)
    assert set(ours) - set(mapping.values()) == {"frog"}
    assert all(mapping[name] == name for name in set(mapping) - {"car"}) and mapping["car"] == "automobile"


@pytest.mark.parametrize(("name", "count"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_s_classes_are_in_label_order(name, count):
    classes = content(name)["classes"]
    assert len(set(classes)) == count and classes == sorted(classes)  # both archives sort theirs


def test_imagenet_s_names_are_a_thousand_after_the_renaming():
    from open_clip import zero_shot_metadata
    from timm.data import ImageNetInfo

    said = content("imagenet")
    source, _, name = said["classes"].partition(":")
    names = list(getattr(zero_shot_metadata, name))
    library, _, subset = said["class_ids"].partition(":")
    ids = ImageNetInfo(subset).label_names()
    assert (source, library, len(names), len(ids), len(set(names))) == ("open_clip", "timm", 1000, 1000, 998)
    renamed = [said["rename"].get(wnid, name) for wnid, name in zip(ids, names)]
    assert len(set(renamed)) == 1000
    for wnid, name in said["rename"].items():
        assert name in ImageNetInfo(subset).label_name_to_description(wnid)
    assert len(getattr(zero_shot_metadata, said["templates"].partition(":")[2])) == 80


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_fifteen_standard_corruptions(name):
    (found,) = [spec for spec in specs(name).values() if isinstance(spec, Corrupted)]
    assert len(set(found.names)) == 15 and found.severities == (1, 2, 3, 4, 5)
    assert not set(found.names) & {"speckle_noise", "gaussian_blur", "spatter", "saturate"}


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("recipe", ["corrected", "released"])
def test_settings_are_the_reference_s(name, recipe):
    built = {
        m: TrainSettings.build(dataset=name, method=m, recipe=recipe) for m in ("reprogrammer", "coop", "fine_tune")
    }
    assert {m: s.epochs for m, s in built.items()} == {"reprogrammer": 25, "coop": 50, "fine_tune": 25}
    ours = built["reprogrammer"]
    assert (ours.model, ours.pretrained, ours.batch_size, ours.padding) == ("ViT-B-32", "openai", 128, 16)
    assert (ours.image_lr, ours.text_lr, built["fine_tune"].lr, built["coop"].lr) == (5e-3, 5e-4, 3e-5, 2e-3)


def test_the_demo_needs_no_download():
    assert all(isinstance(spec, Generated) and not to_get(spec) for spec in specs("demo").values())
