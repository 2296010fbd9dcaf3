"""What the processes that train one run together share out; one process alone has nothing to share.

Every process (rank) holds the same weights and does the same things in the same order, so that the numbers are those
of one process up to the order of summation. Only what is encoded, pictures and captions, is shared out: each rank
encodes its rows of a batch, the unit features are gathered with their gradients, and every rank computes the loss of
the whole batch. How several come together is in `together`.

Shapes: N rows, D embedding, R ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar

import torch
from torch import Tensor


class Ranks:
    """One process alone, for which nothing is to be shared, gathered or waited for.

    Attributes
    ----------
    count, number : int
        How many processes there are, and which of them this is, from 0.
    device : str, optional
        Where this process computes, if that is not the settings' own choice.
    """

    count, number, device = 1, 0, None

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.number == 0

    def share(self, rows: Tensor | range) -> Tensor | range:
        """Return this process' part of some rows: a run of ceil(N / R), fewer at the end, but never none."""
        size = -(-len(rows) // self.count)
        return rows[min(self.number * size, len(rows) - 1) :][:size]

    def gather(self, features_ND: Tensor, total: int) -> Tensor:
        """Return the features of all `total` rows, in their order and each once, from those of the shares."""
        return features_ND

    def mean_gradients(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Put the mean over the processes in the place of each gradient."""

    def tell(self, number: int) -> list[int]:
        """Return what every process told, the main one first."""
        return [int(number)]

    def wait(self) -> None:
        """Wait until every process is here."""

    def main_first(self) -> contextlib.AbstractContextManager:
        """Return a context that the main process goes through before the others."""
        return contextlib.nullcontext()

    def stop(self) -> None:
        """Let the other processes end, silently."""


ALONE = Ranks()
ranks_here: ContextVar[Ranks] = ContextVar("ranks", default=ALONE)


def current() -> Ranks:
    """Return the processes that train together here."""
    return ranks_here.get()


def spread(encode: Callable[..., Tensor], rows: Tensor, *rest) -> Tensor:
    """Return ``encode(rows, *rest)``, (N, D), of which each process encodes its share."""
    ranks = current()
    return ranks.gather(encode(ranks.share(rows), *rest), len(rows))
