"""A set's own names become label numbers by name, by id or, if it says so, by number; an unknown one stops."""

import numpy as np
import pytest

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.parameters import InputError
from reprog_kit.set_labels import kept, label_numbers
from reprog_kit.sources import Listing
from reprog_kit.specs import Folder


def listing(*names: str) -> Listing:
    return Listing(list(names), list(names), list(names))


def folder(**more) -> Folder:
    return Folder(kind="folder", path="x", **more)


def test_what_is_kept_keeps_its_order_and_gets_our_names():
    rows, names = kept("s", folder(classes={"car": "automobile", "cat": "cat"}), listing("car", "ape", "cat", "car"))
    assert (rows.tolist(), names) == ([0, 2, 3], ["automobile", "cat", "automobile"])
    rows, names = kept("s", folder(drop=["ape"]), listing("car", "ape", "cat"))
    assert (rows.tolist(), names) == ([0, 2], ["car", "cat"])


def test_a_flat_set_is_kept_whole():
    rows, names = kept("s", folder(), Listing(["a", "b"], None, ["a", "b"]))
    assert (rows.tolist(), names) == ([0, 1], [])


def test_nothing_left_is_refused():
    with pytest.raises(InputError, match="leave no picture"):
        kept("s", folder(drop=["a"]), listing("a", "a"))


@pytest.fixture
def benchmark(benchmark_file):
    return load_benchmark(benchmark_file(classes=["tench", "n03", "3"], class_ids=["n01", "n02", "n03"]))


def test_names_come_before_ids_and_numbers_only_where_the_set_says_so(benchmark):
    def numbers(*names, numbered=False):
        return label_numbers("s", names, benchmark, benchmark.classes, numbered).tolist()

    assert numbers("n01", "tench", "n02", "3") == [0, 0, 1, 2]
    assert numbers("n03") == [1]  # a class is called as another's id is; the name is meant
    assert numbers("2", "0", numbered=True) == [2, 0]
    with pytest.raises(InputError, match="does not have: '2'"):
        numbers("2")
    with pytest.raises(InputError, match=r"does not have: '3'.*\n.*label numbers: 0 to 2"):
        numbers("3", numbered=True)
    with pytest.raises(InputError, match=r"(?s)does not have: 'ape'.*'tench', 'n03', '3'.*Their ids: 'n01'"):
        numbers("ape")


def test_numbered_folders_are_not_read_as_sorted_text(benchmark_file):
    """Sorted as text, 10 stands before 2: torchvision's ImageFolder would give it label 2."""
    found = load_benchmark(benchmark_file(classes=[f"class {i}" for i in range(12)]))
    names = sorted(str(i) for i in range(12))
    assert names[:4] == ["0", "1", "10", "11"]
    assert np.array_equal(label_numbers("s", names, found, found.classes, True), [int(n) for n in names])
