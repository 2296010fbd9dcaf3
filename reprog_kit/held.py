"""How the pictures of a listing are held: as arrays, in the cache on the disk, or decoded anew each time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from .image_sets import ImageSet, Rows
from .parameters import InputError
from .picture_cache import PictureCache, cpu_count, stamps
from .sources import Listing, bad_pictures, decode_what_can_be


class Decoded:
    """Pictures of a listing that are decoded anew each time they are asked for, in parallel threads."""

    def __init__(self, listing: Listing, side: int):
        self.listing, self.side, self.pool = listing, side, ThreadPoolExecutor(cpu_count())

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images, bad = decode_what_can_be(self.listing.items, self.side, rows, self.pool)
        if bad:
            raise InputError(bad_pictures([(self.listing.places[rows[i]], why) for i, why in bad.items()]))
        return images


def hold(
    data: ImageSet, listing: Listing, rows: np.ndarray, side: int, cache: Path | None, stream: bool, skip_bad: bool
) -> ImageSet:
    """Return a set with the pictures of a listing: as arrays, from the cache, or decoded anew each time.

    Parameters
    ----------
    data : ImageSet
        With the labels of these rows, and no pictures yet.
    rows : ndarray of int
        Which pictures of the listing.
    cache : Path, optional
        Folder of the decoded pictures; without one they are decoded into memory.
    stream : bool
        Decode anew each time, as is also done where the disk has no room for the cache.
    skip_bad : bool
        Leave pictures out that cannot be read.

    Raises
    ------
    InputError
        Names every picture that cannot be read, unless they are to be skipped.
    """
    items = listing.items
    if listing.fits(side):  # there is nothing to decode
        whole = isinstance(items, np.ndarray) and np.array_equal(rows, np.arange(len(items)))
        return replace(data, images_NHWC=items if whole else Rows(items, rows, side))
    if cache is None and not stream:
        images, unread = decode_what_can_be(items, side, rows)
        reasons = {listing.places[rows[i]]: why for i, why in unread.items()}
        return _without(replace(data, images_NHWC=images), np.array(list(unread), int), reasons, skip_bad)
    store = None if cache is None else PictureCache(cache, listing, side)
    if stream or _too_small(store, rows, data.name):
        images = Rows(Decoded(listing, side), rows, side)
        return replace(data, images_NHWC=images, known_N16=stamps(listing, rows))
    return _cached(data, store, rows, skip_bad)


def _cached(data: ImageSet, store: PictureCache, rows: np.ndarray, skip_bad: bool) -> ImageSet:
    bad = store.fill(rows, name=data.name)
    good = rows[~np.isin(rows, list(bad))]
    if len(damaged := store.damaged(good)):
        print(
            f"{data.name}: {len(damaged)} decoded pictures are damaged on the disk; all are looked at, and made again."
        )
        store.forget(store.damaged(good, most=None))
        bad = store.fill(rows, name=data.name)
    data = replace(data, images_NHWC=Rows(store.open(), rows, store.side), known_N16=store.digests(rows))
    places = {store.listing.places[row]: reason for row, reason in bad.items()}
    return _without(data, np.flatnonzero(np.isin(rows, list(bad))), places, skip_bad)


def _without(data: ImageSet, bad: np.ndarray, reasons: dict[str, str], skip_bad: bool) -> ImageSet:
    """Return the set without the bad pictures if they are to be skipped; else stop."""
    if not reasons:
        return data
    if not skip_bad:
        raise InputError(f"{data.name}: {bad_pictures(list(reasons.items()))} Or skip them: -p bad_pictures skip.")
    left = np.setdiff1d(np.arange(len(data)), bad)
    if not len(left):
        raise InputError(f"{data.name}: no picture can be read. {bad_pictures(list(reasons.items()))}")
    print(f"{data.name}: skipped. {bad_pictures(list(reasons.items()))}")
    return replace(data.take(left), bad=tuple(reasons))


def _too_small(store: PictureCache, rows: np.ndarray, name: str) -> bool:
    needed, free = store.room(rows)
    if needed <= 0.95 * free:
        return False
    print(
        f"{name}: decoding into the cache takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free at "
        f"{store.pixels_file.parent}: pictures are decoded anew in every epoch. $REPROG_CACHE names another folder."
    )
    return True
