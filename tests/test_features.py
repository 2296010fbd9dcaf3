"""Features are computed once: the cache's key knows what decides them, and a damaged file is computed again."""

from threading import Thread

import numpy as np
import pytest
import torch

from reprog_kit import features as module
from reprog_kit.features import Head, autocast, batches, between_batches, content_key, encode, features, head
from reprog_kit.image_sets import ImageSet, Rows
from reprog_kit.parameters import InputError
from reprog_kit.reprogrammer import Reprogrammer
from reprog_kit.zero_shot import ZeroShot

CAPTIONS = ["a photo of a cat", "a photo of a dog"]


def method(backbone, program: str = "both", **given) -> Reprogrammer:
    return Reprogrammer(backbone, CAPTIONS, program, **{"padding": 3, **given})


@pytest.fixture
def data():
    return ImageSet(
        "x", np.random.default_rng(0).integers(0, 256, (7, 20, 20, 3)).astype(np.uint8), np.zeros(7, int), (0,)
    )


@pytest.fixture
def passes(monkeypatch):
    """Count the passes through the encoder."""
    counted = []

    def count(*given):
        counted.append(len(given[1]))
        return encode(*given)

    monkeypatch.setattr(module, "encode", count)
    return counted


def test_features_are_unit_float32_and_do_not_depend_on_the_batch(tiny, data):
    whole, small = encode(method(tiny), data.images_NHWC), encode(method(tiny), data.images_NHWC, batch_size=3)
    assert whole.dtype == np.float32
    assert whole.shape == (7, 32)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    assert small == pytest.approx(whole, abs=1e-6)
    with torch.no_grad():
        expected = method(tiny).image_features(torch.from_numpy(data.images_NHWC))
    assert whole == pytest.approx(expected.numpy(), abs=1e-6)


def test_the_second_call_does_not_touch_the_encoder(tiny, data, passes, tmp_path):
    first = features(method(tiny), data, tmp_path)
    again = features(method(tiny), data, tmp_path)
    assert passes == [7]
    assert np.array_equal(first, again)


def test_another_batch_size_or_text_program_or_label_is_the_same_entry(tiny, data, passes, tmp_path):
    features(method(tiny), data, tmp_path)
    features(method(tiny), data, tmp_path, batch_size=2)
    features(method(tiny, "image"), data, tmp_path)
    features(method(tiny), ImageSet("other name", data.images_NHWC, np.ones(7, int)), tmp_path)
    assert passes == [7]


def test_without_a_folder_nothing_is_kept(tiny, data, passes, tmp_path):
    features(method(tiny), data)
    features(method(tiny), data)
    assert passes == [7, 7]
    assert list(tmp_path.iterdir()) == []


def test_the_key_changes_with_all_that_decides_the_features(tiny, backbones, data):
    changed = method(tiny)
    with torch.no_grad():
        changed.image_program.values[0, 5] += 1e-6
    brighter = ImageSet("x", data.images_NHWC + np.uint8(1), data.labels_N)
    keys = [
        content_key(method(tiny), data),
        content_key(changed, data),
        content_key(method(tiny, padding=4), data),
        content_key(method(tiny, seed=2), data),
        content_key(method(tiny, image_size=31), data),
        content_key(ZeroShot(tiny, CAPTIONS), data),
        content_key(ZeroShot(tiny, CAPTIONS, 31), data),
        content_key(method(backbones("quick")), data),
        content_key(method(tiny), data, "bf16"),
        content_key(method(tiny), brighter),
        content_key(method(tiny), data.take(np.arange(6))),
        content_key(method(tiny), data.take(np.arange(7)[::-1])),
    ]
    assert len(set(keys)) == len(keys)


def test_the_same_bytes_in_another_shape_get_their_own_features(tiny, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)
    one, other = ImageSet("x", images, np.zeros(4)), ImageSet("x", images.reshape(1, 8, 8, 3), np.zeros(1))
    for data in (one, other, one):
        assert np.array_equal(features(method(tiny), data, tmp_path), encode(method(tiny), data.images_NHWC))


def test_no_program_and_a_program_without_border_have_the_same_features(tiny, data):
    one, other = encode(ZeroShot(tiny, CAPTIONS), data.images_NHWC), encode(method(tiny, padding=0), data.images_NHWC)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("damage", ["empty", "cut", "junk", "pickle", "shorter"])
def test_a_damaged_file_is_computed_again_and_mended(tiny, data, passes, tmp_path, damage):
    good = features(method(tiny), data, tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "shorter":
        np.save(path, good[:3])
    elif damage == "pickle":
        np.save(path, np.array([{"a": 1}] * 7, dtype=object), allow_pickle=True)
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:200], "junk": b"no array"}[damage])
    assert np.array_equal(features(method(tiny), data, tmp_path), good)
    assert np.array_equal(features(method(tiny), data, tmp_path), good)
    assert passes == [7, 7]


def test_a_head_scores_by_hand():
    weights, images = np.array([[1.0, 0], [0.6, 0.8]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    plain, biased = Head(weights, 10.0), Head(weights, 10.0, np.array([5.0, 0.0]))
    assert plain.cosines(images) == pytest.approx(np.array([[0, 0.8], [1, 0.6]]))
    assert plain.logits(images) == pytest.approx(np.array([[0, 8], [10, 6]]))
    assert biased.logits(images) == pytest.approx(np.array([[5, 8], [15, 6]]))
    assert plain.cosines(images.astype(np.float32)).dtype == np.float64


def test_the_head_of_a_method_holds_its_captions_and_scale(tiny):
    found = head(method(tiny))
    assert found.scale == tiny.scale == pytest.approx(100, rel=1e-4)
    assert found.weights_CD.shape == (2, 32)
    assert found.weights_CD == pytest.approx(tiny.encode_text(tiny.tokenize(CAPTIONS)).numpy(), abs=1e-6)


PARTS = {
    "slices": [slice(0, 3), slice(3, 6), slice(6, 9)],
    "numbers": [torch.tensor([6, 0, 3]), torch.tensor([5]), torch.tensor([1, 2, 4])],
    "none": [],
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", ["array", "tensor", "rows"])
def test_batches_are_contiguous_and_in_order_wherever_the_pictures_are(kind, parts):
    images = np.arange(7 * 2 * 4 * 3, dtype=np.uint8).reshape(7, 2, 4, 3)[:, :, ::2]
    held = {
        "array": images,
        "tensor": torch.from_numpy(images.copy()),
        "rows": Rows(images[::-1], np.arange(7)[::-1], 2),
    }
    found = list(batches(held[kind], PARTS[parts], torch.device("cpu")))
    expected = [images[part if isinstance(part, slice) else part.numpy()] for part in PARTS[parts]]
    assert [batch.tolist() for batch in found] == [part.tolist() for part in expected]
    assert all(batch.is_contiguous() for batch in found)


def test_one_batch_is_read_ahead_and_no_more():
    reads = []

    class Slow:
        nbytes = 0

        def __getitem__(self, part):
            reads.append(part.start)
            return np.zeros((1, 1))

    stream = batches(Slow(), [slice(i, i + 1) for i in range(9)], torch.device("cpu"))
    next(stream)
    stream.close()
    assert reads == [0, 1]


def test_a_failing_read_stops_the_batches():
    class Broken:
        def __getitem__(self, part):
            raise InputError("this picture is broken")

    with pytest.raises(InputError, match="broken"):
        list(batches(Broken(), [slice(0, 1)], torch.device("cpu")))


@pytest.mark.parametrize(("precision", "enabled"), [("fp32", False), ("auto", False), ("bf16", True)])
def test_half_precision_is_used_on_the_cpu_only_where_it_is_asked_for(precision, enabled):
    with autocast(torch.device("cpu"), precision):
        assert torch.is_autocast_enabled("cpu") is enabled


def test_bf16_features_are_near_fp32_ones(tiny, data):
    exact, rough = (encode(method(tiny), data.images_NHWC, precision=p) for p in ("fp32", "bf16"))
    assert rough.dtype == np.float32
    assert rough == pytest.approx(exact, abs=2e-2)
    assert np.abs(rough - exact).max() > 0


def test_what_a_thread_does_between_batches_is_its_own_and_may_stop_it(tiny, data):
    method, seen = ZeroShot(tiny, ["a", "b"]), []
    count = -(-len(data) // 2)

    def work() -> None:
        between_batches.set(lambda: seen.append(1))
        encode(method, data.images_NHWC, batch_size=2)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    encode(method, data.images_NHWC, batch_size=2)
    assert len(seen) == count > 1

    def stop() -> None:
        seen.append(1)
        raise KeyboardInterrupt

    token = between_batches.set(stop)
    with pytest.raises(KeyboardInterrupt):
        encode(method, data.images_NHWC, batch_size=2)
    between_batches.reset(token)
    assert len(seen) == count + 1
