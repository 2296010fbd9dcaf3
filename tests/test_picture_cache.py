"""The cache of decoded pictures: the pixels that decoding gives, filled once, whole after a kill, checked by hash."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from reprog_kit import picture_cache as module
from reprog_kit.parameters import InputError
from reprog_kit.picture_cache import PictureCache, digests_of, stamps
from reprog_kit.sources import Listing, decode

SIDE = 8


@pytest.fixture
def listing(tmp_path):
    """Twenty pictures of odd sizes."""
    paths = []
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (9 + i, 30 - i, 3)).astype(np.uint8)
        paths.append(str(tmp_path / f"{i:02}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return Listing(paths, ["x"] * 20, paths)


@pytest.fixture
def cache(tmp_path, listing):
    return PictureCache(tmp_path / "cache", listing, SIDE)


ALL = np.arange(20)


def touch(path: str) -> None:
    """Change a picture, and its time at the least by what a coarse file system tells apart."""
    Image.new("RGB", (12, 12), (1, 2, 3)).save(path)
    os.utime(path, (time.time() + 5, time.time() + 5))


def decoded_rows(monkeypatch) -> list[int]:
    """Return a list that grows by the rows that are decoded from now on."""
    seen, real = [], module.decode_what_can_be
    monkeypatch.setattr(module, "decode_what_can_be", lambda i, s, rows, p: (seen.extend(rows), real(i, s, rows, p))[1])
    return seen


def test_what_is_read_is_what_decoding_gives(cache, listing):
    assert cache.fill(ALL) == {}
    assert np.array_equal(cache.open(), decode(listing.items, listing.places, SIDE))
    assert np.array_equal(cache.digests(ALL), digests_of(np.asarray(cache.open())))


def test_the_number_of_workers_and_the_chunk_change_nothing(tmp_path, listing, monkeypatch):
    found = []
    for workers, chunk in ((1, 1), (2, 700), (3, 10**6)):
        monkeypatch.setattr(module, "_CHUNK_BYTES", chunk)
        cache = PictureCache(tmp_path / str(workers), listing, SIDE)
        cache.fill(ALL, workers)
        found.append((cache.pixels_file.read_bytes(), cache.rows_file.read_bytes()))
    assert found[0] == found[1] == found[2]


def test_only_what_is_missing_is_decoded(cache, monkeypatch):
    seen = decoded_rows(monkeypatch)
    cache.fill(np.array([3, 7, 8]))
    assert (seen, cache.missing(ALL).tolist()) == ([3, 7, 8], [i for i in range(20) if i not in (3, 7, 8)])
    cache.fill(ALL)
    assert seen[3:] == [i for i in range(20) if i not in (3, 7, 8)]
    cache.fill(ALL)
    assert len(seen) == 20


def test_a_second_reading_opens_no_picture(cache, listing, tmp_path, monkeypatch):
    cache.fill(ALL)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    again = PictureCache(tmp_path / "cache", listing, SIDE)
    assert again.fill(ALL) == {}
    assert len(again.open()) == 20


def test_a_kill_costs_the_chunk_under_way(cache, listing, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 5 * SIDE**2 * 3)
    real, calls = module.decode_what_can_be, []

    def killed(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(module, "decode_what_can_be", killed)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(ALL)
    assert cache.missing(ALL).tolist() == list(range(10, 20))
    monkeypatch.setattr(module, "decode_what_can_be", real)
    cache.fill(ALL)
    assert np.array_equal(cache.open(), decode(listing.items, listing.places, SIDE))


def test_who_comes_while_another_decodes_waits_and_decodes_nothing_again(tmp_path, cache, listing, monkeypatch):
    seen, real, second = [], module.decode_what_can_be, PictureCache(tmp_path / "cache", listing, SIDE)
    other = threading.Thread(target=second.fill, args=(ALL,))

    def decode_beside_another(items, side, rows, pool):
        first = not seen
        seen.extend(rows)
        if first:
            other.start()
            other.join(0.3)  # it would be done by then, if it did not wait
        return real(items, side, rows, pool)

    monkeypatch.setattr(module, "decode_what_can_be", decode_beside_another)
    assert cache.fill(ALL) == {}
    other.join()
    assert sorted(seen) == list(ALL)
    assert np.array_equal(second.open(), decode(listing.items, listing.places, SIDE))
    assert len(second.missing(ALL)) == 0


def test_pixels_without_their_digest_do_not_count(cache, monkeypatch):
    """A machine that loses power between both writes leaves pixels alone."""
    cache.fill(ALL)
    table = np.memmap(cache.rows_file, module._ROW, "r+", shape=20)
    table["digest"][4] = 0
    table.flush()
    assert cache.missing(ALL).tolist() == [4]


def test_a_changed_picture_is_decoded_again_and_no_other(cache, listing, monkeypatch):
    cache.fill(ALL)
    touch(listing.items[5])
    seen = decoded_rows(monkeypatch)
    cache.fill(ALL)
    assert seen == [5]
    assert cache.open()[5].tolist() == [[[1, 2, 3]] * SIDE] * SIDE


def test_a_picture_in_a_file_of_many_changes_with_the_file(tmp_path):
    pack = tmp_path / "pack"
    pack.write_bytes(b"1")
    pictures = [np.full((SIDE, SIDE, 3), i, np.uint8) for i in range(4)]
    listing = Listing(pictures, None, [f"pack, row {i}" for i in range(4)], (str(pack),))
    cache = PictureCache(tmp_path, listing, SIDE)
    cache.fill(np.arange(4))
    assert not len(cache.missing(np.arange(4)))
    pack.write_bytes(b"12")
    assert cache.missing(np.arange(4)).tolist() == [0, 1, 2, 3]


def test_bad_pictures_are_told_and_tried_again_when_they_are_mended(cache, listing):
    for row in (2, 17):
        with open(listing.items[row], "wb") as file:
            file.write(b"no picture")
    assert sorted(cache.fill(ALL)) == [2, 17]
    assert sorted(cache.fill(ALL)) == [2, 17]
    touch(listing.items[2])
    assert sorted(cache.fill(ALL)) == [17]
    assert cache.missing(ALL).tolist() == [17]


def test_damage_is_found_and_forgotten(cache):
    cache.fill(ALL)
    with cache.pixels_file.open("r+b") as file:
        file.seek(6 * SIDE**2 * 3 + 11)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    assert cache.damaged(ALL).tolist() == [6]
    assert cache.damaged(ALL, most=None).tolist() == [6]
    assert not len(cache.damaged(np.arange(6)))
    cache.forget(np.array([6]))
    assert cache.missing(ALL).tolist() == [6]


def test_the_quick_check_looks_at_a_spread_of_the_rows(cache, monkeypatch):
    cache.fill(ALL)
    looked = []
    real = cache.digests
    monkeypatch.setattr(cache, "digests", lambda rows: (looked.extend(rows.tolist()), real(rows))[1])
    cache.damaged(ALL, most=4 * SIDE**2 * 3)
    assert looked == [0, 5, 10, 15]


@pytest.mark.parametrize("file", ["pixels_file", "rows_file"])
def test_a_file_cut_short_is_made_anew(cache, listing, file):
    cache.fill(ALL)
    os.truncate(getattr(cache, file), 100)
    assert len(cache.missing(ALL)) == 20
    cache.fill(ALL)
    assert np.array_equal(cache.open(), decode(listing.items, listing.places, SIDE))
    assert not len(cache.damaged(ALL, most=None))


def test_another_side_another_list_or_another_order_is_another_cache(tmp_path, listing):
    shorter, turned = (Listing(paths, None, paths) for paths in (listing.items[:19], listing.items[::-1]))
    caches = [
        PictureCache(tmp_path, one, side) for one, side in ((listing, 8), (listing, 9), (shorter, 8), (turned, 8))
    ]
    assert len({cache.key for cache in caches}) == 4


def test_the_pixels_are_memory_mapped_and_not_to_be_written(cache):
    cache.fill(ALL)
    assert isinstance(cache.open(), np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cache.open()[0] = 0


def test_the_room_that_is_needed_shrinks_as_it_fills(cache):
    needed, free = cache.room(ALL)
    assert needed == 20 * SIDE**2 * 3 < free
    cache.fill(ALL[:5])
    assert cache.room(ALL)[0] == 15 * SIDE**2 * 3


def test_a_full_disk_is_told_with_what_to_do(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match=r"No space left.*REPROG_CACHE.*-p stream True"):
        cache.fill(ALL)
    monkeypatch.undo()
    assert len(cache.missing(ALL)) == 20


def test_a_stamp_tells_place_size_and_time(listing):
    before = stamps(listing, ALL)
    assert len({row.tobytes() for row in before}) == 20
    touch(listing.items[3])
    after = stamps(listing, ALL)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [3]
    assert np.array_equal(stamps(listing, np.array([4, 2])), after[[4, 2]])
