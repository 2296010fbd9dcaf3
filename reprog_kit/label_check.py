"""An alarm for labels in another order than the class names: predictions and labels in, a message or nothing out.

Shapes: N pictures, P classes that occur among the labels. A *renaming* says which class each label really stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import binom

FOLDS = 5
LEVEL = 1e-3
LISTED = 8


@dataclass(frozen=True)
class LabelAlarm:
    """A set whose labels fit the answers far better under other names; its text is the message for a person.

    Attributes
    ----------
    name : str
        The set.
    accuracy, renamed_accuracy : float
        Shares of right answers with the labels as they are, and with the renamed ones.
    moves : tuple of (str, str)
        (labelled, answered): the classes of which more than half the pictures were answered as one other class.
    """

    name: str
    accuracy: float
    renamed_accuracy: float
    moves: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        listed = "; ".join(
            f"labelled {labelled!r}, answered {answered!r}" for labelled, answered in self.moves[:LISTED]
        )
        more = f"; and {len(self.moves) - LISTED} more" if len(self.moves) > LISTED else ""
        return (
            f"{self.name}: the labels look permuted. Accuracy is {self.accuracy:.1%} as they are, and "
            f"{self.renamed_accuracy:.1%} with the classes renamed.\n"
            f"Most pictures of these classes were answered as another one: {listed}{more}.\n"
            "Check the order of the class names, or the set's `classes:` mapping, in the benchmark's YAML. "
            "If both are right, the model takes these names for each other."
        )


def permuted_labels(
    predicted_N: np.ndarray, labels_N: np.ndarray, classes: Sequence[str], name: str = "this set"
) -> LabelAlarm | None:
    """Return an alarm if the confusion matrix becomes far more diagonal under a permutation of the set's classes.

    The permutation is the assignment that maximises the mean rate of right answers over the classes, so that neither
    large classes nor favourite answers decide. Of its cycles only those count in which, in the mean over the classes,
    (1) more than half of the pictures are answered with the new name, (2) more than half of the answers with these
    names come from these pictures, (3) at least twice as many speak for the new name as for the old one. Taking one
    class for another, one way or both, a model does on its own; exchanging two names outright it does not. Lest chance
    gain, each fifth of the pictures is judged by permutations found on the others, and the gain over the labels must
    be significant there (exact McNemar test at 0.001).

    Parameters
    ----------
    predicted_N, labels_N : ndarray of int
        Answers and labels, numbers of classes. Pictures of label -1 (OOD) are left out. Answers outside the set's own
        classes count as wrong.
    classes : sequence of str
        All names.
    name : str
        The set, for the message.

    Returns
    -------
    LabelAlarm or None
        None also where there is too little to tell: two swapped classes take ten pictures each at 90% accuracy, a
        hundred at 60%; at 40% nothing is found. A model that tells the pictures apart but gives them names at random
        raises the alarm too: the numbers alone cannot say whose names are wrong.
    """
    labels, predicted = np.asarray(labels_N), np.asarray(predicted_N)
    present, label_N = np.unique(labels[labels >= 0], return_inverse=True)
    if len(present) < 2:
        return None
    place = np.full(len(classes), len(present))  # behind the last: fits no label
    place[present] = np.arange(len(present))
    answer_N = place[predicted[labels >= 0]]
    rates_PP = _rates(label_N, answer_N, len(present))
    renamed_P, plain_N = _renaming(rates_PP), label_N == answer_N
    if (renamed_P == np.arange(len(present))).all() or not _significant(plain_N, label_N, answer_N, len(present)):
        return None
    moved = np.flatnonzero((rates_PP > 0.5).any(axis=1) & (np.diag(rates_PP) <= 0.5))
    moves = [(classes[present[i]], classes[present[j]]) for i, j in zip(moved, rates_PP[moved].argmax(axis=1))]
    return LabelAlarm(name, plain_N.mean(), (renamed_P[label_N] == answer_N).mean(), tuple(moves))


def _rates(label_N: np.ndarray, answer_N: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of each label's pictures (row) that was answered as each class (column)."""
    counts = np.zeros((classes, classes + 1))
    np.add.at(counts, (label_N, answer_N), 1)
    return counts[:, :-1] / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _renaming(rates_PP: np.ndarray) -> np.ndarray:
    """Return the best permutation, with the cycles that do not convince left as they are."""
    rows, best = linear_sum_assignment(rates_PP, maximize=True)
    ones, new_P, old_P, answers_P = np.ones(len(rows)), rates_PP[rows, best], np.diag(rates_PP), rates_PP.sum(axis=0)
    _, cycle = connected_components(csr_array((ones, (rows, best))))
    new, old, answers, pictures = (np.bincount(cycle, x) for x in (new_P, old_P, answers_P, ones))
    convincing = (new > np.maximum(pictures, answers) / 2) & (new >= 2 * old)
    return np.where(convincing[cycle], best, rows)


def _significant(plain_N: np.ndarray, label_N: np.ndarray, answer_N: np.ndarray, classes: int) -> bool:
    """Say if pictures speak for renamings that were found without them."""
    fold_N, found_N = np.empty(len(label_N), dtype=int), np.empty(len(label_N), dtype=bool)
    fold_N[np.argsort(label_N, kind="stable")] = np.arange(len(label_N)) % FOLDS  # each class in every fold
    for held_N in (fold_N == fold for fold in range(FOLDS)):
        renamed_P = _renaming(_rates(label_N[~held_N], answer_N[~held_N], classes))
        found_N[held_N] = renamed_P[label_N[held_N]] == answer_N[held_N]
    won, lost = (found_N & ~plain_N).sum(), (plain_N & ~found_N).sum()
    return binom.sf(won - 1, won + lost, 0.5) <= LEVEL
