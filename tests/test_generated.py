"""Generated sets are pictures, the same in every run; corruptions do nothing at their neutral strength."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

from reprog_kit import generated
from reprog_kit.generated import CORRUPTIONS, DRAWN


@pytest.fixture(scope="module")
def some():
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "digits"])
@pytest.mark.parametrize("side", [16, 33])
def test_drawn_sets_are_pictures_and_the_same_every_time(name, side):
    drawn, again = (DRAWN[name](side, count=40) for _ in range(2))
    images, other = (d[0] if isinstance(d, tuple) else d for d in (drawn, again))
    assert images.shape == (40, side, side, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, other)
    assert images.std(axis=(1, 2, 3)).min() > 1  # no picture is blank
    assert len(np.unique(images.reshape(40, -1), axis=0)) == 40  # and none stands twice


def test_drawn_sets_do_not_depend_on_what_drew_before():
    first = generated.letters(16, 10)
    generated.symbols(16, 3)
    np.random.default_rng(0).normal()
    assert np.array_equal(generated.letters(16, 10), first)


def test_digits_are_scikit_learns_in_three_disjoint_parts():
    data, seen = load_digits(), []
    for split, count in (("train", 900), ("validation", 300), ("test", 597)):
        images, labels = generated.digits(8, split)
        assert images.shape == (count, 8, 8, 3)
        assert images.dtype == np.uint8
        seen.append((images[..., 0], labels))
    # At 8 px nothing is resized: the grey levels 0..16 become 0..255.
    assert np.array_equal(np.concatenate([i for i, _ in seen]), np.round(data.images * 255 / 16).astype(np.uint8))
    assert np.array_equal(np.concatenate([n for _, n in seen]), data.target)


def test_enlarged_digits_are_pils_bicubic():
    images, _ = generated.digits(32, "test")
    grey = Image.fromarray(np.round(load_digits().images[1200] * 255 / 16).astype(np.uint8))
    assert np.array_equal(images[0, ..., 1], np.asarray(grey.resize((32, 32), Image.Resampling.BICUBIC)))


def test_printed_digits_hold_each_class_equally_often():
    _, labels = generated.printed_digits(12, count=50)
    assert np.bincount(labels).tolist() == [5] * 10


def test_no_letter_passes_for_a_digit():
    assert not set("oOiIlLsSzZbBgGqQ0123456789") & set(generated.LETTERS + generated.SYMBOLS)


def test_textures_are_drawn_at_the_size_of_clips_canvas():
    assert generated.textures(224, count=3).shape == (3, 224, 224, 3)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_corruptions_keep_shape_and_type_change_something_and_repeat(name, some):
    before = some.copy()
    changed = CORRUPTIONS[name](some)
    assert changed.shape == some.shape
    assert changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - some).mean() > 5
    assert np.array_equal(CORRUPTIONS[name](some), changed)
    assert np.array_equal(some, before)  # the source stays as it was


@pytest.mark.parametrize(
    ("name", "neutral"), [("invert", 0), ("noise", 0), ("blur", 0), ("rotate", 0), ("contrast", 1), ("pixelate", 1)]
)
def test_at_neutral_strength_nothing_changes(name, neutral, some):
    assert np.array_equal(CORRUPTIONS[name](some, neutral), some)


def test_known_answers(some):
    assert np.array_equal(generated.invert(some), 255 - some)
    flat = generated.contrast(some, 0)
    assert (flat == flat[:, :1, :1, :1]).all()
    assert flat[:, 0, 0, 0] == pytest.approx(some.mean(axis=(1, 2, 3)), abs=0.5)
    blocks = generated.pixelate(some, 4)
    expected = some.reshape(6, 4, 4, 4, 4, 3).mean(axis=(2, 4))
    assert np.abs(blocks[:, ::4, ::4] - expected).max() <= 1
    assert np.array_equal(blocks[:, 1::4, 3::4], blocks[:, ::4, ::4])
    turned = generated.rotate(some, 90)
    assert {tuple(np.rot90(some[i], k).ravel()) for i, k in ((0, 1), (0, 3))} >= {tuple(turned[0].ravel())}


def test_every_second_picture_turns_the_other_way(some):
    same = np.repeat(some[:1], 2, axis=0)
    one, other = generated.rotate(same, 90)
    assert np.array_equal(np.rot90(one, 2), other)


def test_noise_has_the_standard_deviation_it_is_given():
    grey = np.full((20, 32, 32, 3), 128, dtype=np.uint8)
    assert generated.noise(grey, 20).astype(float).std() == pytest.approx(20, rel=0.02)


# What each corruption was when it changed all pictures at once.
WHOLE = {
    "invert": lambda x, s: np.round(x * (1 - s) + (255.0 - x) * s).clip(0, 255),
    "noise": lambda x, s: np.clip(x + np.random.default_rng(21).normal(scale=s, size=x.shape), 0, 255).round(),
    "blur": lambda x, s: ndimage.gaussian_filter(x, (0, s, s, 0), mode="nearest"),
    "rotate": lambda x, s: np.stack(
        [
            ndimage.rotate(
                p.astype(np.float32), -s if i % 2 else s, axes=(1, 0), reshape=False, order=1, mode="nearest"
            )
            .clip(0, 255)
            .round()
            for i, p in enumerate(x)
        ]
    ),
    "contrast": lambda x, s: np.clip((m := x.mean(axis=(1, 2, 3), keepdims=True)) + (x - m) * s, 0, 255).round(),
}


class Sliced:
    """As little of an array as the corruptions may ask for."""

    def __init__(self, images):
        self._images, self.shape = images, images.shape

    def __len__(self):
        return len(self._images)

    def __getitem__(self, part):
        assert isinstance(part, slice)
        return self._images[part]


@pytest.mark.parametrize(
    ("name", "strength"), [("invert", 0.7), ("noise", 60), ("blur", 1.5), ("rotate", 30), ("contrast", 0.3)]
)
@pytest.mark.parametrize("count", [1, 64, 65, 150])
def test_parts_give_what_the_whole_set_gave(name, strength, count):
    images = np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
    assert np.array_equal(CORRUPTIONS[name](images, strength), WHOLE[name](images, strength).astype(np.uint8))


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_corruptions_take_what_can_be_sliced_and_copy_little_of_it(name):
    images = np.random.default_rng(1).integers(0, 256, (1500, 16, 16, 3)).astype(np.uint8)
    CORRUPTIONS[name](images[:2])
    tracemalloc.start()
    changed = CORRUPTIONS[name](Sliced(images))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(changed, CORRUPTIONS[name](images))
    # Beside the result: some copies of one part, in float64, instead of 1,500 pictures of them.
    assert peak < changed.nbytes + 6 * 8 * images[:64].nbytes
