"""How pictures are held: the same pixels from memory, from the cache and decoded anew; bad ones by the policy."""

import numpy as np
import pytest
from PIL import Image

from reprog_kit import held
from reprog_kit.held import hold
from reprog_kit.image_sets import ImageSet, Rows, limited, limited_rows
from reprog_kit.parameters import InputError
from reprog_kit.picture_cache import PictureCache, digests_of
from reprog_kit.sources import Listing, decode

SIDE = 8
ROWS = np.array([7, 1, 2, 9])


@pytest.fixture
def listing(tmp_path):
    paths = []
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 10, 3)).astype(np.uint8)
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return Listing(paths, ["x"] * 10, paths)


@pytest.fixture
def read(listing, tmp_path):
    """Return a function that holds four of the ten pictures in one of the three ways."""

    def hold_them(how: str, skip_bad: bool = False) -> ImageSet:
        cache = None if how == "memory" else tmp_path / "cache"
        return hold(ImageSet("s", np.empty(0), ROWS.copy()), listing, ROWS, SIDE, cache, how == "stream", skip_bad)

    return hold_them


HOWS = ["memory", "cache", "stream"]


@pytest.mark.parametrize("how", HOWS)
def test_the_pixels_are_the_same_however_they_are_held(read, listing, how):
    expected = decode(listing.items, listing.places, SIDE)[ROWS]
    found = read(how)
    images = found.images_NHWC
    assert (len(images), images.shape, images.dtype) == (4, expected.shape, np.uint8)
    assert np.array_equal(np.asarray(images), expected)
    assert np.array_equal(images[1:3], expected[1:3])
    assert np.array_equal(images[np.array([3, 0])], expected[[3, 0]])
    assert np.array_equal(images[2], expected[2])
    taken = found.take(np.array([3, 1])).take(slice(1, 2))
    assert taken.labels_N.tolist() == [1]
    assert np.array_equal(np.asarray(taken.images_NHWC), expected[[1]])


def test_memory_and_cache_have_one_fingerprint_and_it_follows_the_pixels(read, listing):
    assert read("memory").fingerprint == read("cache").fingerprint
    assert read("cache").take(np.array([0])).fingerprint != read("cache").take(np.array([1])).fingerprint
    assert np.array_equal(read("cache").digests_N16, digests_of(np.asarray(read("memory").images_NHWC)))


def test_a_streams_fingerprint_reads_no_picture_and_follows_the_files(read, listing, monkeypatch):
    before = read("stream").fingerprint
    assert read("stream").fingerprint == before
    Image.new("RGB", (9, 9)).save(listing.items[2])
    monkeypatch.setattr(held, "decode_what_can_be", lambda *_: pytest.fail("decoded"))
    assert read("stream").fingerprint != before


@pytest.mark.parametrize("how", HOWS)
def test_bad_pictures_stop_with_all_their_names(read, listing, how):
    for row in (1, 9):
        with open(listing.items[row], "wb") as file:
            file.write(b"x")
    with pytest.raises(InputError, match=r"2 pictures cannot be read:\n.*1\.png.*\n.*9\.png") as caught:
        _ = read(how).images_NHWC[:]
    assert ("-p bad_pictures skip" in str(caught.value)) == (how != "stream")


@pytest.mark.parametrize("how", ["memory", "cache"])
def test_bad_pictures_are_skipped_if_asked_and_counted(read, listing, how, capsys):
    with open(listing.items[1], "wb") as file:
        file.write(b"x")
    good = [7, 2, 9]
    found = read(how, skip_bad=True)
    assert found.labels_N.tolist() == good
    assert np.array_equal(np.asarray(found.images_NHWC), decode([listing.items[i] for i in good], good, SIDE))
    assert found.bad == (listing.items[1],)
    assert len(found.digests_N16) == 3
    assert "s: skipped. 1 picture cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["memory", "cache"])
def test_a_set_without_a_good_picture_stops_also_when_bad_ones_are_skipped(read, listing, how):
    for item in listing.items:
        with open(item, "wb") as file:
            file.write(b"x")
    with pytest.raises(InputError, match="s: no picture can be read"):
        read(how, skip_bad=True)


def test_a_damaged_cache_is_mended(read, listing, tmp_path, capsys):
    read("cache")
    store = PictureCache(tmp_path / "cache", listing, SIDE)
    with store.pixels_file.open("r+b") as file:
        file.seek(7 * SIDE**2 * 3)
        file.write(bytes(SIDE**2 * 3 * 3))  # rows 7 to 9, of which 7 and 9 are ours
    assert np.array_equal(np.asarray(read("cache").images_NHWC), decode(listing.items, listing.places, SIDE)[ROWS])
    assert "s: 2 decoded pictures are damaged" in capsys.readouterr().out
    assert not len(store.damaged(ROWS, most=None))


def test_a_small_disk_streams_and_says_so(read, monkeypatch, capsys):
    monkeypatch.setattr(PictureCache, "room", lambda self, rows: (10**9, 10**9))
    found = read("cache")
    assert isinstance(found.images_NHWC.base, held.Decoded)
    assert "1.0 GB and 1.0 GB are free" in capsys.readouterr().out


def test_a_full_disk_with_everything_decoded_needs_no_room(read, monkeypatch):
    read("cache")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    assert not isinstance(read("cache").images_NHWC.base, held.Decoded)


def test_arrays_of_the_right_side_are_neither_copied_nor_cached(tmp_path):
    pixels = np.arange(6 * SIDE * SIDE * 3, dtype=np.uint8).reshape(6, SIDE, SIDE, 3)
    listing = Listing(pixels, ["x"] * 6, [str(i) for i in range(6)], ("f",))
    data = ImageSet("s", np.empty(0), np.arange(6))
    whole = hold(data, listing, np.arange(6), SIDE, tmp_path, False, False)
    assert whole.images_NHWC is pixels
    part = hold(data, listing, np.array([4, 0]), SIDE, tmp_path, False, False)
    assert isinstance(part.images_NHWC, Rows)
    assert np.array_equal(part.images_NHWC[:], pixels[[4, 0]])
    assert not list(tmp_path.iterdir())
    smaller = hold(data, listing, np.arange(6), SIDE // 2, None, False, False)
    assert np.array_equal(smaller.images_NHWC, decode(list(pixels), listing.places, SIDE // 2))


def test_one_row_of_a_turned_list_is_the_first_of_all():
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 1, 1, 3)
    assert Rows(pixels, np.array([2, 0]), 1)[-1].tolist() == [[[0, 1, 2]]]


def test_the_limit_takes_turns_through_the_classes():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, -1])
    assert limited_rows(labels, 5).tolist() == [0, 1, 4, 6, 7]
    assert limited_rows(labels, None).tolist() == list(range(8))
    slow = sorted(range(8), key=lambda i: ((labels[:i] == labels[i]).sum(), i))
    for limit in range(1, 9):
        assert limited_rows(labels, limit).tolist() == sorted(slow[:limit])
    data = ImageSet("s", np.zeros((8, 1, 1, 3), np.uint8), labels)
    assert limited(data, 8) is data
    assert limited(data, 2).labels_N.tolist() == labels[sorted(slow[:2])].tolist()


def test_the_limit_spreads_over_pictures_without_a_class():
    """The first of a sorted folder would all be of one kind."""
    assert limited_rows(np.full(10, -1), 4).tolist() == [0, 2, 5, 7]
    for count in (1, 7, 50):
        for limit in range(1, count + 1):
            chosen = limited_rows(np.full(count, -1), limit)
            assert len(set(chosen.tolist())) == limit and chosen[0] >= 0 and chosen[-1] < count
            assert limit < 3 or np.ptp(np.diff(chosen)) <= 1
