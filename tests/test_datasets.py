"""The sets of a benchmark: labels by name, a held-out share, partial cover, nothing decoded before it is asked for."""

import numpy as np
import pytest

from reprog_kit import datasets as module
from reprog_kit import generated, held, set_labels
from reprog_kit.benchmarks import load_benchmark
from reprog_kit.datasets import BenchmarkData, ImageSet
from reprog_kit.metrics import accuracy, masked_logits
from reprog_kit.parameters import InputError

TRAIN, TEST = {"kind": "folder", "path": "train"}, {"kind": "folder", "path": "test"}


@pytest.fixture
def data(benchmark_file, pictures):
    """Return a function that reads the colours' benchmark, changed as asked."""

    def read(limit=None, **changes) -> BenchmarkData:
        return BenchmarkData(load_benchmark(benchmark_file(**changes)), str(pictures), limit)

    return read


def test_sets_are_read_with_labels_of_the_sorted_names(data):
    found = data()
    assert found.classes == ("blue", "green", "red")
    assert found.captions == ["a photo of a blue", "a photo of a green", "a photo of a red"]
    assert np.bincount(found.test.labels_N).tolist() == [4, 4, 4]
    assert found.test.images_NHWC.shape == (12, 16, 16, 3)
    assert found.test.images_NHWC.dtype == np.uint8
    for picture, label in zip(found.test.images_NHWC, found.test.labels_N):
        brightest = np.argmax(picture.mean(axis=(0, 1)))
        assert ("red", "green", "blue")[brightest] == found.classes[label]


def test_given_classes_set_the_order_of_labels(data):
    found = data(classes=["red", "green", "blue"])
    assert found.test.labels_N.tolist() == [2] * 4 + [1] * 4 + [0] * 4  # the folder is listed by name


def test_an_ood_set_has_no_labels(data):
    found = data().ood["other"]
    assert found.labels_N.tolist() == [-1] * 6
    assert found.covered == ()


def test_an_ood_set_made_of_another_set_has_no_labels(data):
    made = data(ood={"blocks": {"kind": "generated", "name": "pixelate", "of": "test"}}).ood["blocks"]
    assert set(made.labels_N) == {-1}
    assert made.covered == ()


def test_the_held_out_share_is_stratified_and_disjoint_from_train(data):
    found = data()
    assert (len(found.train), len(found.validation)) == (24, 6)
    assert np.bincount(found.validation.labels_N).tolist() == [2, 2, 2]
    seen = [{image.tobytes() for image in part.images_NHWC} for part in (found.train, found.validation)]
    assert not seen[0] & seen[1]
    assert len(seen[0] | seen[1]) == 30
    assert (found.train.name, found.validation.name) == ("train", "validation")


def test_the_held_out_share_is_the_same_in_every_reading(data):
    np.random.default_rng().normal()
    np.random.seed(3)  # noqa: NPY002 - scikit-learn would take it, if it were asked to
    first = data().validation.fingerprint
    np.random.seed(4)  # noqa: NPY002
    assert data().validation.fingerprint == first


def test_a_share_that_cannot_be_held_out_is_refused(data):
    with pytest.raises(InputError, match=r"validation: 0\.01 of the 30 training pictures cannot be held out"):
        _ = data(id={"train": TRAIN, "test": TEST, "validation": 0.01}).validation


def test_of_many_classes_and_few_pictures_each_a_share_is_held_out_without_regard_to_class(data, monkeypatch):
    monkeypatch.setattr(set_labels, "_FEW", 2)
    found = data(id={"train": TRAIN, "test": TEST, "validation": 0.06})
    assert (len(found.train), len(found.validation)) == (28, 2)
    assert {image.tobytes() for image in found.train.images_NHWC}.isdisjoint(
        image.tobytes() for image in found.validation.images_NHWC
    )


def test_a_validation_set_of_its_own_leaves_train_whole(data):
    found = data(id={"train": TRAIN, "test": TEST, "validation": {"kind": "folder", "path": "shift"}})
    assert (len(found.train), len(found.validation)) == (30, 9)


def test_classes_are_mapped_by_name_and_dropped_ones_left_out(data, pictures, benchmark_file):
    mapped = {"kind": "folder", "path": "test", "classes": {"red": "blue", "green": "red"}}
    found = data(shift={"x": mapped}).shift["x"]
    assert sorted(found.labels_N.tolist()) == [0] * 4 + [2] * 4
    assert found.covered == (0, 2)
    reds = found.images_NHWC[found.labels_N == 0]
    assert reds.mean(axis=(0, 1, 2)).argmax() == 0  # the pictures called blue are the red ones
    dropped = data(shift={"x": {**TEST, "drop": ["green"]}}).shift["x"]
    assert (len(dropped), dropped.covered) == (8, (0, 2))


def test_a_map_that_names_an_absent_class_is_refused_with_those_there_are(data):
    with pytest.raises(InputError, match=r"x has no class 'pink'.*It has: 'blue', 'green', 'red'"):
        data(shift={"x": {**TEST, "drop": ["pink"]}}).check()
    with pytest.raises(InputError, match=r"has no class 'rot'"):
        data(shift={"x": {**TEST, "classes": {"rot": "red"}}}).check()


def test_a_mismatch_of_class_names_stops_with_both_lists(data, pictures):
    with pytest.raises(InputError) as caught:
        data(classes=["red", "green", "azure"]).check()
    for word in (
        "train",
        "does not have: 'blue'",
        "The benchmark's classes: 'red', 'green', 'azure'",
        "drop: [theirs]",
    ):
        assert word in str(caught.value)


def test_a_set_that_covers_part_of_the_classes_is_scored_over_that_part(data):
    part = data(shift={"x": {**TEST, "drop": ["green"]}}).shift["x"]
    # Green always fits best; among the covered classes every answer is right.
    logits = np.where(np.eye(3)[part.labels_N] == 1, 1.0, 0.0)
    logits[:, 1] = 2.0
    assert accuracy(logits, part.labels_N, resamples=0).value == 0
    assert accuracy(masked_logits(logits, part.covered), part.labels_N, resamples=0).value == 1


def test_a_limit_takes_an_ood_set_s_own_classes_in_turn(data):
    """They are the benchmark's of another set here, so that the colours tell which were taken."""
    images = data(limit=6, ood={"theirs": TRAIN}).ood["theirs"].images_NHWC
    brightest = images[:].mean(axis=(1, 2)).argmax(axis=1)
    assert np.bincount(brightest).tolist() == [2, 2, 2]
    dropped = data(limit=4, ood={"theirs": {**TRAIN, "drop": ["blue"]}}).ood["theirs"].images_NHWC
    assert np.bincount(dropped[:].mean(axis=(1, 2)).argmax(axis=1)).tolist() == [2, 2]


def test_a_limit_takes_the_classes_in_turn(data):
    found = data(limit=4)
    assert np.bincount(found.test.labels_N).tolist() == [2, 1, 1]
    assert len(found.train) == len(found.validation) == len(found.ood["other"]) == 4
    whole = data().test.images_NHWC
    assert all(any(np.array_equal(image, other) for other in whole) for image in found.test.images_NHWC)
    assert len(data(limit=1000).test) == 12
    assert np.bincount(data(limit=3).test.labels_N).tolist() == [1, 1, 1]


def test_checking_lists_every_set_and_decodes_nothing(data, monkeypatch):
    def refuse(*args):
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(held, "decode_what_can_be", refuse)
    data().check()
    with pytest.raises(AssertionError, match="decoded"):
        _ = data().test


def drawn(name: str, **more) -> dict:
    return {"kind": "generated", "name": name, **more}


REFUSED = {
    "missing OOD folder": ({"ood": {"x": {"kind": "folder", "path": "none"}}}, ["there is nothing at", "none"]),
    "missing shift folder": ({"shift": {"x": {"kind": "folder", "path": "none"}}}, ["there is nothing at"]),
    "missing test folder": ({"id": {"train": TRAIN, "test": {**TEST, "path": "none"}}}, ["there is nothing at"]),
    "missing validation": ({"id": {"train": TRAIN, "test": TEST, "validation": {**TEST, "path": "none"}}}, ["none"]),
    "missing parquet": ({"ood": {"x": {"kind": "parquet", "path": "no*.parquet"}}}, ["there is nothing at"]),
    "unknown drawing": ({"ood": {"x": drawn("leters")}}, ["x: nothing generates 'leters'. Did you mean 'letters'"]),
    "unknown corruption": ({"shift": {"x": drawn("blurr", of="test")}}, ["Did you mean 'blur'?", "pixelate"]),
    "labels of letters": ({"shift": {"x": drawn("letters")}}, ["letters"]),
    "digits without split": ({"shift": {"x": drawn("digits")}}, ["digits", "split"]),
    "unknown split": ({"shift": {"x": drawn("digits", split="tset")}}, ["digits", "'tset'"]),
    "split of letters": ({"ood": {"x": drawn("letters", split="test")}}, ["letters", "split"]),
    "made of itself": (
        {"id": {"train": drawn("blur", of="train"), "test": TEST}, "classes": ["red", "green", "blue"]},
        ["train"],
    ),
    "a shift set called test": ({"shift": {"test": TRAIN}}, ["'test'"]),
    "nothing left": ({"shift": {"emptied": {**TEST, "drop": ["red", "green", "blue"]}}}, ["emptied"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_had_is_refused_before_training(data, case):
    changes, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        data(**changes).check()
    for word in words:
        assert word in str(caught.value)


def test_a_corruption_is_made_of_the_set_it_names(data):
    dark = {"kind": "generated", "name": "invert", "of": "test"}
    soft = {"kind": "generated", "name": "blur", "of": "test", "strength": 1.0}
    found = data(shift={"dark": dark, "soft": soft})
    assert np.array_equal(found.shift["dark"].images_NHWC, 255 - found.test.images_NHWC)
    assert np.array_equal(found.shift["soft"].images_NHWC, generated.blur(found.test.images_NHWC, 1.0))
    assert np.array_equal(found.shift["dark"].labels_N, found.test.labels_N)
    assert (found.shift["dark"].name, found.shift["dark"].covered) == ("dark", (0, 1, 2))


def test_generated_sets_keep_out_of_the_classes_they_lack():
    found = BenchmarkData(load_benchmark("demo"), limit=30)
    assert np.bincount(found.train.labels_N).tolist() == [3] * 10
    assert np.bincount(found.shift["printed"].labels_N).tolist() == [3] * 10
    assert found.shift["noisy"].images_NHWC.shape == (30, 32, 32, 3)
    assert set(found.ood["letters"].labels_N) == {-1}


@pytest.mark.parametrize("extra", [{"drop": ["nine"]}, {"classes": {"nine": "nine"}}])
def test_generated_pictures_take_no_maps_of_classes(data, extra):
    with pytest.raises(InputError, match=next(iter(extra))):
        data(shift={"drawn": {"kind": "generated", "name": "digits", "split": "test", **extra}})


def test_an_unreadable_picture_is_named_when_its_set_is_asked_for(benchmark_file, tmp_path, draw):
    for name in ("red", "green", "blue"):
        for i in range(5):
            draw(tmp_path / "own" / name / f"{i}.png", (90, 90, 90), seed=i)
    path = tmp_path / "own" / "green" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    own = {"kind": "folder", "path": "own"}
    parts = {"train": own, "test": own, "validation": 0.2}
    found = BenchmarkData(load_benchmark(benchmark_file(id=parts, shift={}, ood={})), str(tmp_path))
    found.check()
    with pytest.raises(InputError, match=r"test: 1 picture cannot be read:\n.*own/green/3\.png cannot be read"):
        _ = found.test


def test_a_set_is_told_apart_by_its_pixels_and_taken_in_the_order_asked():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
    whole = ImageSet("x", images, np.arange(4), (0, 1, 2, 3))
    assert whole.fingerprint == ImageSet("y", images.copy(), np.arange(4)).fingerprint
    changed = images.copy()
    changed[2, 1, 1, 0] ^= 1
    assert ImageSet("x", changed, np.arange(4)).fingerprint != whole.fingerprint
    part = whole.take(np.array([3, 0]))
    assert part.labels_N.tolist() == [3, 0]
    assert np.array_equal(part.images_NHWC, images[[3, 0]])
    assert part.fingerprint != whole.fingerprint
    assert len(part) == 2


def test_every_missing_set_is_named_at_once_with_the_way_on(data):
    gone = {"kind": "folder", "path": "gone"}
    with pytest.raises(InputError) as caught:
        data(shift={"a": gone, "dim": {"kind": "folder", "path": "shift"}}, ood={"b": gone}).check()
    said = str(caught.value)
    assert said.startswith("2 of the sets of 'colours' are not there:\n  a: there is nothing at")
    assert "\n  b: there is" in said
    assert "`python -m reprog_kit doctor colours`" in said
    assert "-p missing_sets skip" in said


def test_missing_training_pictures_cannot_be_skipped(benchmark_file, tmp_path):
    found = BenchmarkData(load_benchmark(benchmark_file(classes=["a", "b"])), str(tmp_path), missing_sets="skip")
    with pytest.raises(InputError, match=r"2 of the sets .*\n  train: .*\n  test: ") as caught:
        found.check()
    assert "missing_sets" not in str(caught.value)


def test_missing_sets_are_left_out_if_asked(benchmark_file, pictures):
    gone = {"kind": "folder", "path": "gone"}
    yaml = benchmark_file(shift={"a": gone, "dim": {"kind": "folder", "path": "shift"}}, ood={"b": gone})
    found = BenchmarkData(load_benchmark(yaml), str(pictures), missing_sets="skip")
    found.check()
    assert (list(found.shift), list(found.ood), sorted(found.absent)) == (["dim"], [], ["a", "b"])


def test_a_set_that_is_broken_is_not_skipped_as_a_missing_one(benchmark_file, pictures):
    wrong = {"dim": {"kind": "folder", "path": "shift", "drop": ["pink"]}}
    found = BenchmarkData(load_benchmark(benchmark_file(shift=wrong)), str(pictures), missing_sets="skip")
    with pytest.raises(InputError, match="has no class"):
        found.check()


def test_a_limit_decodes_no_more_than_it_takes(benchmark_file, pictures, monkeypatch):
    decoded = []
    real = held.decode_what_can_be
    monkeypatch.setattr(held, "decode_what_can_be", lambda i, s, rows: (decoded.extend(rows), real(i, s, rows))[1])
    found = BenchmarkData(load_benchmark(benchmark_file()), str(pictures), limit=6)
    assert (len(found.train), len(found.validation), len(found.test)) == (6, 6, 6)
    assert len(decoded) == 18


def test_a_set_is_listed_once(benchmark_file, pictures, monkeypatch):
    listed = []
    real = module.list_pictures
    monkeypatch.setattr(
        module, "list_pictures", lambda root, spec, flat: (listed.append(spec.path), real(root, spec, flat))[1]
    )
    found = BenchmarkData(load_benchmark(benchmark_file(classes=["blue", "green", "red"])), str(pictures))
    found.check()
    _ = found.train, found.test, found.shift, found.ood
    assert sorted(listed) == ["other", "shift", "test", "train"]


@pytest.mark.parametrize("how", [{}, {"stream": True}])
def test_the_sets_are_the_same_from_the_cache_and_decoded_anew(benchmark_file, pictures, tmp_path, how):
    benchmark = load_benchmark(benchmark_file())
    plain, other = (
        BenchmarkData(benchmark, str(pictures)),
        BenchmarkData(benchmark, str(pictures), cache=tmp_path, **how),
    )
    for name in ("train", "validation", "test"):
        one, two = getattr(plain, name), getattr(other, name)
        assert np.array_equal(one.images_NHWC, np.asarray(two.images_NHWC))
        assert np.array_equal(one.labels_N, two.labels_N)
        assert (one.name, one.covered) == (two.name, two.covered)
