"""Corrupted pictures: each pair of picture and variant once, the same in every order and thread, or as published."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from reprog_kit import corruptions
from reprog_kit.corruptions import CORRUPTIONS, STANDARD, CorruptedItems, corrupt, variant_of
from reprog_kit.parameters import InputError
from reprog_kit.published_corruptions import published

library = pytest.mark.skipif(find_spec("imagecorruptions") is None, reason=corruptions.INSTALL)
# By the paper's own constants these need not move further from the picture with every step: snow, frost and fog trade
# one constant against another, glass blur swaps in fewer rounds at 2 and 4, saturate drains colour at 1 and 2 and adds
# it from 3 on.
NO_LADDER = {"snow", "frost", "fog", "glass_blur", "saturate"}


@pytest.fixture(scope="module")
def photos():
    """Return 32 cuts of two photographs, 64 px."""
    rng, cuts = np.random.default_rng(0), []
    for i in range(32):
        photo = load_sample_images().images[i % 2]
        top, left = rng.integers(0, photo.shape[0] - 192), rng.integers(0, photo.shape[1] - 192)
        cuts.append(np.asarray(Image.fromarray(photo[top : top + 192, left : left + 192]).resize((64, 64))))
    return np.stack(cuts)


def away(images, name, severity):
    """Return the mean distance of the pictures to what a corruption makes of them, in grey levels."""
    made = np.stack([corrupt(image, name, severity, seed) for seed, image in enumerate(images)])
    return np.abs(made.astype(float) - images).mean()


@pytest.mark.parametrize(("pictures", "variants"), [(1, 1), (1, 5), (5, 1), (3, 7), (7, 3), (6, 6), (10, 75), (80, 75)])
def test_rows_are_a_latin_square(pictures, variants):
    rows = [variant_of(row, pictures, variants) for row in range(pictures * variants)]
    assert sorted(rows) == [(p, v) for p in range(pictures) for v in range(variants)]
    for start in range(0, len(rows), pictures):
        block = rows[start : start + pictures]
        assert [p for p, _ in block] == list(range(pictures))
        share = np.bincount([v for _, v in block], minlength=variants)
        assert share.max() - share.min() <= 1
    vector = variant_of(np.arange(len(rows)), pictures, variants)
    assert np.array_equal(np.stack(vector, axis=1), rows)


def test_the_library_knows_the_same_names():
    names = pytest.importorskip("imagecorruptions", reason=corruptions.INSTALL).get_corruption_names
    assert list(STANDARD) == names("common")
    assert list(CORRUPTIONS) == names("all")


@library
@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [32, 64, 224])
def test_every_corruption_keeps_shape_and_type_and_moves_further_with_severity(name, side, photos):
    images = np.stack([np.asarray(Image.fromarray(p).resize((side, side))) for p in photos[: 4 if side == 224 else 32]])
    before = images.copy()
    made = corrupt(images[0], name, 3, 7)
    assert made.shape == (side, side, 3)
    assert made.dtype == np.uint8
    assert np.array_equal(corrupt(images[0], name, 3, 7), made)
    steps = [away(images, name, severity) for severity in corruptions.SEVERITIES]
    assert 0 < steps[0] < steps[-1]
    if name not in NO_LADDER:
        assert steps == sorted(steps)
    assert np.array_equal(images, before)  # the clean pictures stay as they were


@library
def test_known_answers(photos):
    for image in photos[:6]:
        assert corrupt(image, "brightness", 2, 0).mean() > image.mean() + 5
        flat = corrupt(image, "contrast", 1, 0)  # severity 1 keeps 0.4 of the distance to each channel's mean
        mean = image.mean(axis=(0, 1), keepdims=True)
        assert np.abs(flat - (mean + 0.4 * (image - mean))).max() <= 1
        for name in ("pixelate", "jpeg_compression"):
            assert corrupt(image, name, 3, 0).mean() == pytest.approx(image.mean(), abs=2)
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    assert corrupt(grey, "gaussian_noise", 1, 0).std() == pytest.approx(0.08 * 255, rel=0.05)
    salted = corrupt(grey, "impulse_noise", 4, 0)
    assert set(np.unique(salted)) == {0, 128, 255}
    assert (salted != 128).mean() == pytest.approx(0.17, abs=0.02)
    for name in ("defocus_blur", "zoom_blur", "gaussian_blur", "glass_blur", "elastic_transform", "pixelate"):
        assert np.abs(corrupt(grey, name, 5, 0).astype(int) - 128).max() <= 1, name


@library
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_picture_depends_on_the_seed_alone_and_leaves_every_generator_as_it_was(name, photos):
    drawn = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog"}
    drawn |= {"elastic_transform", "speckle_noise", "spatter"}
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first, state, other = corrupt(photos[0], name, 3, 5), np.random.get_state(), random.getstate()  # noqa: NPY002
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert np.array_equal(corrupt(photos[0], name, 3, 5), first)
    assert np.array_equal(corrupt(photos[0], name, 3, 6), first) == (name not in drawn)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    assert random.getstate() == other
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state))  # noqa: NPY002


@library
def test_the_global_generator_comes_back_from_an_error_too(photos, monkeypatch):
    import imagecorruptions

    def broken(image, **_):
        np.random.normal()  # noqa: NPY002
        raise RuntimeError("no")

    monkeypatch.setattr(imagecorruptions, "corrupt", broken)
    before = np.random.get_state()  # noqa: NPY002
    with pytest.raises(RuntimeError):
        corrupt(photos[0], "fog", 1, 0)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before))  # noqa: NPY002
    assert not corruptions._GLOBAL_GENERATOR.locked()


@library
def test_rows_are_the_same_in_every_order_part_and_thread_and_among_other_corruptions(photos):
    names = ("gaussian_noise", "impulse_noise", "glass_blur", "motion_blur", "frost")
    items = CorruptedItems(photos[:4], names, (1, 5))
    assert len(items) == 40
    forward = np.stack(list(items))
    backward = [items[row] for row in reversed(range(40))][::-1]
    assert np.array_equal(forward, backward)
    assert np.array_equal(items[10:13], forward[10:13])
    assert np.array_equal(items[np.array([39, 2, 2])], forward[[39, 2, 2]])
    assert np.array_equal(items[-1], forward[39])
    assert len(items[5:5]) == 0
    with ThreadPoolExecutor(8) as pool:
        assert np.array_equal(list(pool.map(items.__getitem__, range(40))), forward)
    fewer = CorruptedItems(photos[:2], ("frost",), (5,))
    row = next(r for r in range(40) if variant_of(r, 4, 10) == (1, 9))
    assert np.array_equal(fewer[1], items[row])
    # Two pictures that are the same get noise of their own.
    twins = CorruptedItems(np.repeat(photos[:1], 2, axis=0), ("gaussian_noise",), (1,))
    assert not np.array_equal(twins[0], twins[1])
    with pytest.raises(IndexError):
        items[40]


@library
def test_places_name_picture_corruption_and_severity(photos):
    items = CorruptedItems(photos[:3], ("fog", "snow"), (2, 4))
    assert list(items.places)[:4] == ["fog 2, picture 0", "fog 4, picture 1", "snow 2, picture 2", "fog 4, picture 0"]
    assert items.places[-1] == items.places[11]
    assert len(items.places) == len(items) == 12
    assert items.origin == f"made by imagecorruptions-imaug {metadata.version('imagecorruptions-imaug')}"


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"pip install -e \"\.\[corruptions\]\""):
        CorruptedItems([picture], ("fog",))
    with pytest.raises(InputError, match=r"pip install -e \"\.\[corruptions\]\""):
        corrupt(picture, "fog", 1, 0)


@pytest.mark.parametrize(
    ("picture", "name", "severity", "told"),
    [
        (np.zeros((32, 32, 3), np.uint8), "fogg", 1, ["'fogg'", "Did you mean 'fog'?", "pixelate"]),
        (np.zeros((32, 32, 3), np.uint8), "fog", 6, ["severity 6", "1, 2, 3, 4, 5"]),
        (np.zeros((31, 32, 3), np.uint8), "fog", 1, ["(31, 32, 3)", "32 px"]),
        (np.zeros((32, 32), np.uint8), "fog", 1, ["(32, 32)", "(H, W, 3)"]),
        (np.zeros((32, 32, 3)), "fog", 1, ["float64", "uint8"]),
    ],
)
def test_what_cannot_be_corrupted_is_refused(picture, name, severity, told):
    with pytest.raises(InputError) as error:
        corrupt(picture, name, severity, 0)
    assert all(words in str(error.value) for words in told)


N, LABELS = 7, np.array([3, 1, 4, 1, 5, 9, 2])


@pytest.fixture
def folder(tmp_path):
    """Write a set as CIFAR-10-C lies: a picture's first pixel says (file, severity, picture)."""
    for file, name in enumerate(("fog", "snow", "frost")):
        images = np.random.default_rng(file).integers(0, 256, (5 * N, 32, 32, 3)).astype(np.uint8)
        rows = np.arange(5 * N)
        images[:, 0, 0] = np.stack([np.full(5 * N, file), rows // N + 1, rows % N], axis=1)
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    return tmp_path


def test_a_published_set_is_read_in_the_rows_order(folder):
    names, severities = ("snow", "fog"), (5, 1, 2)
    items = published(folder, names, severities, N, LABELS)
    assert len(items) == N * 6
    for row in range(len(items)):
        picture, variant = variant_of(row, N, 6)
        name, severity = names[variant // 3], severities[variant % 3]
        assert items[row][0, 0].tolist() == [{"fog": 0, "snow": 1}[name], severity, picture]
        assert np.array_equal(items[row], np.load(folder / f"{name}.npy")[(severity - 1) * N + picture])
        assert items.places[row] == f"{name} {severity}, picture {picture}"
    chosen = np.random.default_rng(0).permutation(len(items))
    assert items[chosen].shape == (len(items), 32, 32, 3)
    assert items[chosen].dtype == np.uint8
    assert np.array_equal(items[chosen], np.stack([items[int(i)] for i in chosen]))
    assert items[3:3].shape == (0, 32, 32, 3)
    assert items.origin == "published"
    assert type(items[0]) is np.ndarray
    assert all(isinstance(array, np.memmap) for array in items._arrays)


def test_labels_of_one_block_will_do(folder):
    np.save(folder / "labels.npy", LABELS.astype(np.uint8))
    assert len(published(folder, ("fog",), (1,), N, LABELS)) == N


def spoil(folder, what):
    labels = np.tile(LABELS, 5)
    if what == "absent":
        (folder / "fog.npy").unlink()
    elif what == "no labels":
        (folder / "labels.npy").unlink()
    elif what == "another block":
        labels[2 * N + 1] = 8
        np.save(folder / "labels.npy", labels)
    elif what == "another order":
        np.save(folder / "labels.npy", labels[::-1])
    elif what == "fewer labels":
        np.save(folder / "labels.npy", labels[:-1])
    elif what == "labels with a comma":
        np.save(folder / "labels.npy", labels.astype(float))
    elif what == "one severity":
        np.save(folder / "fog.npy", np.zeros((N, 32, 32, 3), np.uint8))
    elif what == "floats":
        np.save(folder / "fog.npy", np.zeros((5 * N, 32, 32, 3), np.float32))
    elif what == "objects":
        np.save(folder / "fog.npy", np.array([{"a": 1}] * 5 * N, dtype=object), allow_pickle=True)
    elif what == "cut off":
        (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-1])
    elif what == "a page":
        (folder / "fog.npy").write_text("<html>not found</html>")
    elif what == "archive":
        with open(folder / "fog.npy", "wb") as file:
            np.savez(file, a=np.zeros(3))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("absent", ["lacks fog.npy;", "frost.npy, labels.npy, snow.npy"]),
        ("no labels", ["lacks labels.npy;"]),
        ("another block", ["1 of 35", "row 15: 8 for 1", "not those of this test set", "`published`"]),
        ("another order", ["of 35", "not those of this test set"]),
        ("fewer labels", ["(34,)", "(35,) or (7,)"]),
        ("labels with a comma", ["float64", "integer"]),
        ("one severity", ["uint8 (7, 32, 32, 3)", "(35, 32, 32, 3)"]),
        ("floats", ["float32", "uint8"]),
        ("objects", ["fog.npy cannot be read", "objects"]),
        ("cut off", ["fog.npy cannot be read"]),
        ("a page", ["fog.npy cannot be read"]),
        ("archive", ["fog.npy cannot be read"]),
    ],
)
def test_a_set_of_another_layout_or_of_other_pictures_is_refused(folder, what, told):
    spoil(folder, what)
    with pytest.raises(InputError) as error:
        published(folder, ("snow", "fog"), (1, 5), N, LABELS)
    assert all(words in str(error.value) for words in told), str(error.value)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(InputError, match=r"lacks fog\.npy, labels\.npy; there is no \.npy file"):
        published(tmp_path, ("fog",), (1,), N, LABELS)
