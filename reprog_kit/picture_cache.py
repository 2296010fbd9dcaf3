"""Decoded pictures on the disk: a memory-mapped file that is filled once, row by row, and survives a kill.

Beside the pixels stands a table with two hashes a picture: the stamp of its source (name, size, time of change), which
says whether the row is still right, and the digest of its pixels, which is written after them and says that they are
there. One process at a time decodes. Shapes: N pictures, S the benchmark's side in px.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock

from .parameters import InputError, in_jupyterlab
from .sources import Listing, decode_what_can_be

DIGEST = 16
_ROW = np.dtype([("stamp", np.uint8, DIGEST), ("digest", np.uint8, DIGEST)])
# Pixels decoded before they are written: what is held in memory, and what a kill costs at most.
_CHUNK_BYTES = 32 * 2**20
# At every opening so many bytes, spread over the rows that are read, are compared with their digests.
_CHECKED_BYTES = 128 * 2**20


class PictureCache:
    """The pictures of a listing at one side.

    Parameters
    ----------
    folder : Path
        Holds the cache's two files, ``<key>.pixels`` and ``<key>.rows``.
    listing : Listing
    side : int
        In px.
    """

    def __init__(self, folder: Path, listing: Listing, side: int):
        self.listing, self.side = listing, side
        digest = hashlib.sha256(str(side).encode())
        for name in (*listing.files, *listing.places):
            digest.update(f"\n{name}".encode())
        self.key = digest.hexdigest()[:24]
        self.pixels_file, self.rows_file = (folder / f"{self.key}.{ending}" for ending in ("pixels", "rows"))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, S, S, 3)."""
        return (len(self.listing), self.side, self.side, 3)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Return those of these rows that are not decoded, or whose source changed since."""
        table = self._table()[rows]
        good = (table["stamp"] == stamps(self.listing, rows)).all(axis=1) & table["digest"].any(axis=1)
        return rows[~good]

    def room(self, rows: np.ndarray) -> tuple[int, int]:
        """Return the bytes that decoding these rows takes, and those that are free."""
        folder = self.pixels_file.parent
        while not folder.exists():
            folder = folder.parent
        return len(self.missing(rows)) * self.side**2 * 3, shutil.disk_usage(folder).free

    def fill(self, rows: np.ndarray, workers: int | None = None, name: str = "") -> dict[int, str]:
        """Decode those of these rows that are missing, in parallel threads, a chunk at a time.

        A kill costs the chunk under way; the next call goes on from there. `name` is what the progress bar says.

        Returns
        -------
        dict
            For each row that cannot be read, the reason.

        Raises
        ------
        InputError
            If the disk is full or not to be written.
        """
        if not len(self.missing(rows)):
            return {}
        try:
            self.pixels_file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.rows_file.with_suffix(".lock")):  # a process that waited here finds the rows decoded
                return self._fill_missing(rows, workers, name)
        except OSError as error:
            raise InputError(
                f"the decoded pictures could not be written to {self.pixels_file.parent} ({error.strerror or error}). "
                "Give a folder with more room in $REPROG_CACHE, or decode anew in every epoch with -p stream True."
            ) from None

    def _fill_missing(self, rows: np.ndarray, workers: int | None, name: str) -> dict[int, str]:
        todo, bad = self.missing(rows), {}
        if not len(todo):
            return bad
        table = self._open_for_writing()
        with (
            ThreadPoolExecutor(workers or cpu_count()) as pool,
            _bar(name, len(rows), len(rows) - len(todo)) as bar,
        ):
            for chunk in self._chunks(todo):
                bad.update(self._fill_chunk(chunk, table, pool))
                bar.update(len(chunk))
        return bad

    def _fill_chunk(self, chunk: np.ndarray, table: np.ndarray, pool: ThreadPoolExecutor) -> dict[int, str]:
        sources = stamps(self.listing, chunk)  # before the pictures: a change meanwhile is then noticed
        images, unreadable = decode_what_can_be(self.listing.items, self.side, chunk, pool)
        digests = digests_of(images, pool)
        good = np.setdiff1d(np.arange(len(chunk)), list(unreadable))
        number = os.open(self.pixels_file, os.O_WRONLY)
        try:
            for run in np.split(good, np.flatnonzero(np.diff(chunk[good]) != 1) + 1):
                if len(run):
                    os.pwrite(number, images[run[0] : run[-1] + 1].data, int(chunk[run[0]]) * images[0].nbytes)
            os.fsync(number)  # the digests say that the pixels are there, so the pixels come first
        finally:
            os.close(number)
        table["stamp"][chunk[good]], table["digest"][chunk[good]] = sources[good], digests[good]
        table.flush()
        return {int(chunk[i]): reason for i, reason in unreadable.items()}

    def open(self) -> np.memmap:
        """Return the pixels (N, S, S, 3), read-only and memory-mapped."""
        return np.memmap(self.pixels_file, np.uint8, "r", shape=self.shape)

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """Return the digests (n, 16) of the pixels of these rows, as they were when they were written."""
        return self._table()["digest"][rows]

    def damaged(self, rows: np.ndarray, most: int | None = _CHECKED_BYTES) -> np.ndarray:
        """Return those of these rows whose pixels are not what was written; looks at `most` bytes, spread over them."""
        if not len(rows):
            return rows
        if most is not None:
            rows = rows[:: max(1, -(-len(rows) * self.side**2 * 3 // most))]
        pixels, found = self.open(), []
        with ThreadPoolExecutor(cpu_count()) as pool:
            for chunk in self._chunks(rows):
                wrong = (digests_of(pixels[chunk], pool) != self.digests(chunk)).any(axis=1)
                found.append(chunk[wrong])
        return np.concatenate(found)

    def forget(self, rows: np.ndarray) -> None:
        """Let these rows count as missing."""
        table = self._open_for_writing()
        table["digest"][rows] = 0
        table.flush()

    def _chunks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        size = max(1, _CHUNK_BYTES // (self.side**2 * 3))
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _table(self) -> np.ndarray:
        expected = len(self.listing) * _ROW.itemsize
        if self.rows_file.is_file() and self.rows_file.stat().st_size == expected and self._whole():
            return np.memmap(self.rows_file, _ROW, "r", shape=len(self.listing))
        return np.zeros(len(self.listing), _ROW)

    def _whole(self) -> bool:
        return self.pixels_file.is_file() and self.pixels_file.stat().st_size == int(np.prod(self.shape))

    def _open_for_writing(self) -> np.memmap:
        """Make both files at their full length, without taking the room yet (sparse), and return the table."""
        if not self._whole():
            self.rows_file.unlink(missing_ok=True)
        for file, size in (
            (self.pixels_file, int(np.prod(self.shape))),
            (self.rows_file, len(self.listing) * _ROW.itemsize),
        ):
            with file.open("ab") as handle:
                handle.truncate(size)
        return np.memmap(self.rows_file, _ROW, "r+", shape=len(self.listing))


def _bar(name: str, total: int, done: int):
    """Return a tqdm bar that shows itself only if decoding takes more than a moment."""
    from tqdm import tqdm
    from tqdm.notebook import tqdm as notebook

    how = {"total": total, "initial": done, "desc": f"decoding {name}", "unit": "picture", "delay": 2}
    return notebook(**how) if in_jupyterlab() else tqdm(**how, file=sys.stdout, mininterval=2, ncols=120)


def cpu_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digests_of(images_NHWC: np.ndarray, pool: ThreadPoolExecutor | None = None) -> np.ndarray:
    """Return a BLAKE2b digest (N, 16) of each picture's pixels."""

    def one(image: np.ndarray) -> bytes:
        return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST).digest()

    found = b"".join((pool.map if pool else map)(one, images_NHWC))
    return np.frombuffer(found, np.uint8).reshape(-1, DIGEST)


def stamps(listing: Listing, rows: np.ndarray) -> np.ndarray:
    """Return a hash (n, 16) of place, size and time of change of each picture's source."""
    shared, own = "\n".join(_stat(file) for file in listing.files), listing.items is listing.places
    found = []
    for place in (listing.places[i] for i in rows):
        said = f"{place}\0{_stat(place) if own else shared}"
        found.append(hashlib.blake2b(said.encode(), digest_size=DIGEST).digest())
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST)


def _stat(path: str) -> str:
    try:
        said = Path(path).stat()
    except OSError:  # decoding will say what is wrong
        return "gone"
    return f"{said.st_size} {said.st_mtime_ns}"
