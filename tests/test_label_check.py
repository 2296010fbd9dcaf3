"""The label alarm: silent on every kind of weakness a model may have, loud on permuted labels."""

from itertools import permutations

import numpy as np
import pytest

from reprog_kit.label_check import LISTED, _rates, _renaming, permuted_labels

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
STL = ["airplane", "bird", "automobile", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
SWAP = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9])


def answers(truth_N, classes: int, accuracy: float, seed: int = 0):
    """Answer as a model of this accuracy does whose errors spread evenly."""
    rng = np.random.default_rng(seed)
    wrong_N = (truth_N + rng.integers(1, classes, len(truth_N))) % classes
    return np.where(rng.random(len(truth_N)) < accuracy, truth_N, wrong_N)


def names(classes: int) -> list[str]:
    return [f"class {i}" for i in range(classes)]


def alarm(order, pictures: int, accuracy: float, seed: int = 0):
    """Label class i as order[i] and answer the truth."""
    truth_N = np.repeat(np.arange(len(order)), pictures)
    answered_N = answers(truth_N, len(order), accuracy, seed)
    return permuted_labels(answered_N, np.asarray(order)[truth_N], names(len(order)))


@pytest.mark.parametrize("accuracy", [0.1, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("pictures", [1, 2, 5, 100])
def test_right_labels_raise_no_alarm_however_weak_the_model_and_few_the_pictures(accuracy, pictures):
    assert not [seed for seed in range(30) if alarm(np.arange(10), pictures, accuracy, seed)]


@pytest.mark.parametrize("accuracy", [0.6, 0.9, 1.0])
@pytest.mark.parametrize("order", [SWAP, np.roll(np.arange(10), 1), np.roll(np.arange(10), 5)], ids=str)
def test_a_swap_of_two_and_a_shift_of_all_are_found(order, accuracy):
    found = alarm(order, 200, accuracy)
    assert found.renamed_accuracy == pytest.approx(accuracy, abs=0.04)
    moved = {(f"class {new}", f"class {old}") for old, new in enumerate(order) if old != new}
    assert set(found.moves) == moved  # (labelled, answered)


@pytest.mark.parametrize("accuracy", [0.6, 0.9])
def test_stl10_read_in_cifars_order_is_found(accuracy):
    labels_N = np.repeat(np.arange(10), 800)
    truth_N = np.array([CIFAR.index(name) if name in CIFAR else -1 for name in STL])[labels_N]
    monkeys_N = np.random.default_rng(1).integers(2, 8, len(labels_N))  # some animal
    answered_N = np.where(truth_N < 0, monkeys_N, answers(truth_N, 10, accuracy))
    found = permuted_labels(answered_N, labels_N, CIFAR, "stl10")
    assert found.moves == (("automobile", "bird"), ("bird", "automobile"), ("frog", "horse"))
    assert found.accuracy == pytest.approx(0.6 * accuracy, abs=0.05)
    assert found.renamed_accuracy > found.accuracy + 0.15 * accuracy


def test_a_thousand_permuted_classes_of_five_pictures_are_found_and_right_ones_are_not():
    order = np.random.default_rng(2).permutation(1000)
    found = alarm(order, 5, 0.6)
    assert found.accuracy < 0.01
    assert found.renamed_accuracy > 0.55
    assert alarm(np.arange(1000), 5, 0.6) is None
    assert len(str(found)) < 1000
    assert f"and {len(found.moves) - LISTED} more" in str(found)


@pytest.mark.parametrize("sizes", [[50] * 10, [900, 100] + [5] * 8, [1] * 10])
@pytest.mark.parametrize("favourite", [0, 1, 9])
@pytest.mark.parametrize("share", [1.0, 0.95])
def test_one_answer_to_everything_is_no_permutation(sizes, favourite, share):
    labels_N = np.repeat(np.arange(10), sizes)
    other_N = np.random.default_rng(3).integers(0, 10, len(labels_N))
    answered_N = np.where(np.random.default_rng(4).random(len(labels_N)) < share, favourite, other_N)
    assert permuted_labels(answered_N, labels_N, CIFAR) is None


@pytest.mark.parametrize(
    ("cat_as_dog", "dog_as_cat"), [(0.9, 0.0), (0.9, 0.3), (0.55, 0.55), (0.6, 0.5)], ids=lambda share: f"{share:.0%}"
)
def test_cats_taken_for_dogs_one_way_or_a_little_both_ways_are_the_models_affair(cat_as_dog, dog_as_cat):
    labels_N = np.repeat(np.arange(10), 1000)
    answered_N, position_N = labels_N.copy(), np.arange(10_000) % 1000
    answered_N[(labels_N == 3) & (position_N < 1000 * cat_as_dog)] = 5
    answered_N[(labels_N == 5) & (position_N < 1000 * dog_as_cat)] = 3
    assert permuted_labels(answered_N, labels_N, CIFAR) is None
    assert alarm(SWAP, 1000, 0.9)  # that many swapped pictures would do


def test_two_favourite_answers_are_no_swap():
    # 0 is answered 5 and 5 is answered 0, but so are all others.
    labels_N = np.repeat(np.arange(10), 100)
    assert permuted_labels(np.where(labels_N < 5, 5, 0), labels_N, CIFAR) is None


def test_less_than_half_of_the_pictures_is_too_little():
    # Of cats 40% are answered as dogs and 6% as cats, of dogs likewise; the rest is spread.
    labels_N, position_N = np.repeat(np.arange(10), 100), np.arange(1000) % 100
    other = {3: 5, 5: 3}
    answered_N = np.array([other[y] if y in other and i < 40 else y for y, i in zip(labels_N, position_N)])
    spread = np.isin(labels_N, (3, 5)) & (position_N >= 46)
    answered_N[spread] = np.array([0, 1, 2, 4, 6, 7, 8, 9])[position_N[spread] % 8]
    assert permuted_labels(answered_N, labels_N, CIFAR) is None


def test_large_classes_do_not_outvote_small_ones():
    # 900 of class 0 answered as 1, which 100 pictures of class 1 are too: picture by picture a swap would gain 800.
    labels_N = np.repeat([0, 1, 2], [900, 100, 100])
    assert permuted_labels(np.where(labels_N == 2, 2, 1), labels_N, "abc") is None


def test_a_set_of_a_few_of_many_classes_is_judged_among_its_own():
    present = np.array([7, 300, 42, 999])
    truth_N = np.repeat(np.arange(4), 50)
    answered_N = present[answers(truth_N, 4, 0.8)]
    assert permuted_labels(answered_N, present[truth_N], names(1000)) is None
    found = permuted_labels(answered_N, present[[1, 0, 2, 3]][truth_N], names(1000))
    assert set(found.moves) == {("class 7", "class 300"), ("class 300", "class 7")}
    elsewhere = np.where(answered_N == 7, 8, answered_N)  # a near name that the set does not cover
    assert permuted_labels(elsewhere, present[truth_N], names(1000)) is None


def test_nothing_is_said_of_an_empty_an_open_and_a_one_class_set():
    assert permuted_labels(np.zeros(0, int), np.zeros(0, int), CIFAR) is None
    assert permuted_labels(np.arange(10), np.full(10, -1), CIFAR) is None
    assert permuted_labels(np.arange(10), np.full(10, 4), CIFAR) is None
    assert permuted_labels(np.full(100, 3), np.full(100, 4), CIFAR) is None


def test_two_pictures_a_class_are_too_few_to_tell_of_a_swap():
    assert alarm(SWAP, 2, 1.0) is None
    assert alarm(SWAP, 10, 1.0)


def test_pictures_of_no_class_change_nothing():
    truth_N = np.repeat(np.arange(10), 50)
    answered_N = answers(truth_N, 10, 0.8)
    padded = permuted_labels(np.r_[np.zeros(70, int), answered_N], np.r_[np.full(70, -1), SWAP[truth_N]], CIFAR)
    assert padded == permuted_labels(answered_N, SWAP[truth_N], CIFAR)


def test_the_message_names_the_set_both_accuracies_the_classes_and_the_remedy():
    truth_N = np.repeat(np.arange(10), 50)
    text = str(permuted_labels(truth_N, SWAP[truth_N], CIFAR, "my shift set"))
    assert text.startswith("my shift set: the labels look permuted. Accuracy is 80.0% as they are, and 100.0%")
    assert "labelled 'cat', answered 'dog'; labelled 'dog', answered 'cat'." in text
    assert "`classes:` mapping" in text
    assert "YAML" in text


@pytest.mark.parametrize("seed", range(10))
def test_the_renaming_is_the_best_of_all_permutations_where_its_cycles_convince(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)
    truth_N = np.repeat(np.arange(6), 40)
    rates = _rates(order[truth_N], answers(truth_N, 6, 0.8, seed), 6)
    slow = [[np.mean(answers(truth_N, 6, 0.8, seed)[order[truth_N] == i] == j) for j in range(6)] for i in range(6)]
    assert rates == pytest.approx(np.array(slow))
    best = max(permutations(range(6)), key=lambda p: sum(rates[i, j] for i, j in enumerate(p)))
    assert _renaming(rates).tolist() == list(best) == np.argsort(order).tolist()
