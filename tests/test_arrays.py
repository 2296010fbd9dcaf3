"""Arrays and torchvision's classes: pixels and labels as written, no pickle obeyed, bad files named."""

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision
from cifar_tree import write_batches, write_stl10
from PIL import Image
from scipy.io import savemat

from reprog_kit.arrays import integrity, list_arrays, list_torchvision
from reprog_kit.parameters import InputError
from reprog_kit.sources import MissingError
from reprog_kit.specs import Arrays, Torchvision

RANDOM = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def arrays(path: str = "data.npy", **given) -> Arrays:
    return Arrays(kind="arrays", path=path, **given)


def vision(name: str, split: str = "train", **given) -> Torchvision:
    return Torchvision(kind="torchvision", name=name, split=split, **given)


# -- .npy and .npz


@pytest.fixture
def written(tmp_path):
    """Four pictures and their numbers, as .npy files and as one .npz."""
    images, labels = pixels(4, 8, 9, 3), np.array([2, 0, 1, 2])
    np.save(tmp_path / "data.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    np.savez(tmp_path / "both.npz", images=images, labels=labels.astype(np.uint8), other=np.arange(3))
    return tmp_path, images


NAMES = ("red", "green", "blue")


def test_npy_files_are_mapped_and_named(written):
    root, images = written
    found = list_arrays(root, arrays(labels="labels.npy", names=NAMES))
    assert isinstance(found.items, np.memmap)
    assert np.array_equal(found.items, images)
    assert found.names == ["blue", "red", "green", "blue"]
    assert found.places[3] == "data.npy, picture 3"
    assert found.files == (str(root / "data.npy"), str(root / "labels.npy"))


def test_an_npz_holds_both(written):
    root, images = written
    found = list_arrays(root, arrays("both.npz", numbered=True))
    assert np.array_equal(found.items, images)
    assert (found.names, found.files) == (["2", "0", "1", "2"], (str(root / "both.npz"),))


@pytest.mark.parametrize("flat", [True, False])
def test_pictures_without_labels_have_no_names(written, flat):
    root, images = written
    assert list_arrays(root, arrays(), flat).names is None
    np.savez(root / "bare.npz", images=images)
    if flat:
        assert list_arrays(root, arrays("bare.npz"), flat).names is None
        assert list_arrays(root, arrays("both.npz"), flat).names is None
        assert list_arrays(root, arrays("both.npz", names=NAMES), flat).names == ["blue", "red", "green", "blue"]
    else:
        with pytest.raises(InputError, match=r"bare\.npz holds 'images'; the YAML asks for 'images', 'labels'"):
            list_arrays(root, arrays("bare.npz"), flat)


@pytest.mark.parametrize(
    ("labels", "given", "said"),
    [
        (np.arange(4), {}, r"no names\. Give `names: \[\.\.\.\]`.*`numbered: true`"),
        (np.arange(4), {"names": NAMES}, "label 3; there are names for 0 to 2"),
        (np.array([0, 1, -1, 0]), {"names": NAMES}, "label -1.*withheld"),
        (np.array([0, 1, -1, 0]), {"numbered": True}, "label -1.*withheld"),
        (np.arange(3), {"numbered": True}, "3 labels for 4 pictures"),
        (np.zeros((4, 1), int), {"numbered": True}, r"int64 of the shape \(4, 1\)"),
        (np.zeros(4), {"numbered": True}, "the labels are float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(written, labels, given, said):
    root, _ = written
    np.save(root / "labels.npy", labels)
    with pytest.raises(InputError, match=rf"labels\.npy.*{said}"):
        list_arrays(root, arrays(labels="labels.npy", **given))


@pytest.mark.parametrize("wrong", [np.zeros((4, 8, 9)), np.zeros((4, 3, 8, 9), np.uint8), np.zeros((4, 8), np.uint8)])
def test_arrays_that_are_no_pictures_are_named_by_type_and_shape(written, wrong):
    root, _ = written
    np.save(root / "data.npy", wrong)
    with pytest.raises(InputError) as caught:
        list_arrays(root, arrays())
    for word in ("data.npy", str(wrong.dtype), str(wrong.shape), "uint8 of the shape (N, H, W, 3)"):
        assert word in str(caught.value)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    sprung, trap = tmp_path / "sprung", np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.save(tmp_path / "data.npy", trap)
    np.savez(tmp_path / "both.npz", images=trap, labels=np.arange(1))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("data.npy", "both.npz", "plain.npy"):
        with pytest.raises(InputError, match=f"{name} cannot be read as plain arrays"):
            list_arrays(tmp_path, arrays(name, numbered=True))
    assert not sprung.exists()


def test_damaged_and_missing_arrays_are_named(written):
    root, _ = written
    for name in ("data.npy", "both.npz"):
        whole = (root / name).read_bytes()
        for cut in (0, 5, 90, len(whole) - 10):
            (root / name).write_bytes(whole[:cut])
            with pytest.raises(InputError, match=f"{name} cannot be read as plain arrays"):
                list_arrays(root, arrays(name, numbered=True))
    with pytest.raises(MissingError, match=r"nothing at .*none\.npy"):
        list_arrays(root, arrays("none.npy"))


# -- CIFAR: pickled batches


CIFAR = {
    "CIFAR10": (torchvision.datasets.CIFAR10, "labels", 10),
    "CIFAR100": (torchvision.datasets.CIFAR100, "fine_labels", 100),
}


def write_cifar(root: Path, name: str, count: int = 4, dump=None) -> Path:
    """Write every file of the set in its real layout, as pickles of protocol 2."""
    cls, key, classes = CIFAR[name]
    names = [f"class {i}" for i in range(classes)]
    return write_batches(root, cls, key, names, lambda labels: pixels(len(labels), 3072), count, dump)


def publish(monkeypatch, home: Path, name: str) -> None:
    """Let torchvision take the files' checksums for the published ones."""
    cls = CIFAR[name][0]

    def md5(file: str) -> str:
        return hashlib.md5((home / file).read_bytes()).hexdigest()

    monkeypatch.setattr(cls, "train_list", [[file, md5(file)] for file, _ in cls.train_list])
    monkeypatch.setattr(cls, "test_list", [[file, md5(file)] for file, _ in cls.test_list])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(cls.meta["filename"])})


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("split", ["train", "test"])
def test_batches_are_read_as_torchvision_reads_them(tmp_path, monkeypatch, name, split):
    home = write_cifar(tmp_path / "sets", name)
    publish(monkeypatch, home, name)
    theirs = CIFAR[name][0](tmp_path / "sets", train=split == "train")
    found = list_torchvision(tmp_path, vision(name, split, path="sets"))
    assert np.array_equal(found.items, theirs.data)
    assert found.names == [theirs.classes[i] for i in theirs.targets]
    assert found.items.flags["C_CONTIGUOUS"]
    assert len(found.places) == len(theirs) == len(set(found.places))
    assert all(Path(file).is_file() for file in found.files)
    numbers = list_torchvision(tmp_path, vision(name, split, path="sets", numbered=True)).names
    assert numbers == [str(i) for i in theirs.targets]


def python2(value) -> bytes:
    """Pickle as Python 2 did: text and pixels are byte strings; numpy's array in its old module."""
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(k) + python2(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, int):
        return b"K" + bytes([value]) if value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return f"S'{value}'\n".encode("latin1")  # protocol 0's STRING
    raw = value.tobytes()
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(" + b"".join(map(python2, value.shape)) + b"t"
    return start + b"(K\x01" + shape + kind + b"I00\nT" + struct.pack("<i", len(raw)) + raw + b"tb"


def test_batches_that_python_2_wrote_are_read(tmp_path, monkeypatch):
    home = write_cifar(tmp_path, "CIFAR10", dump=lambda entry: b"\x80\x02" + python2(entry) + b".")
    assert b"_codecs" not in (home / "test_batch").read_bytes()
    publish(monkeypatch, home, "CIFAR10")
    theirs = torchvision.datasets.CIFAR10(tmp_path, train=True)
    found = list_torchvision(tmp_path, vision("CIFAR10"))
    assert np.array_equal(found.items, theirs.data)
    assert found.names == [theirs.classes[i] for i in theirs.targets]


def test_a_batch_in_fortran_order_is_read_as_numpy_wrote_it(tmp_path):
    data = np.asfortranarray(pixels(4, 3072))
    home = write_cifar(tmp_path, "CIFAR10")
    (home / "test_batch").write_bytes(pickle.dumps({"labels": [0] * 4, "data": data}, protocol=2))
    found = list_torchvision(tmp_path, vision("CIFAR10", "test"))
    assert np.array_equal(found.items, data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class Eval:
    def __init__(self, source: str):
        self.source = source

    def __reduce__(self):
        return eval, (self.source,)


@pytest.mark.parametrize("file", ["batches.meta", "data_batch_3"])
@pytest.mark.parametrize("how", ["whole", "inside", "array", "eval", "builtins by hand", "dotted", "extension"])
def test_nothing_that_a_batch_names_is_run(tmp_path, file, how):
    home, sprung = write_cifar(tmp_path, "CIFAR10"), tmp_path / "sprung"
    entry = pickle.loads((home / file).read_bytes())
    source = f"open({str(sprung)!r}, 'w')"
    protocol = {"inside": 4, "eval": 5}.get(how, 2)
    content = {
        "whole": lambda: Trap(sprung),
        "inside": lambda: {**entry, "extra": [Trap(sprung)]},
        "array": lambda: {**entry, "data": np.array([Trap(sprung)], dtype=object)},
        "eval": lambda: {**entry, "label_names": Eval(source)},
    }
    by_hand = {
        "builtins by hand": f"c__builtin__\neval\n(S{source!r}\ntR.".encode(),
        "dotted": f"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93(S{source!r}\ntR.".encode("latin1"),
        "extension": b"\x80\x02\x82\x01.",
    }
    raw = pickle.dumps(content[how](), protocol=protocol) if how in content else by_hand[how]
    (home / file).write_bytes(raw)
    with pytest.raises(InputError, match=rf"{file} is not what it says \(.*Download it again"):
        list_torchvision(tmp_path, vision("CIFAR10"))
    assert not sprung.exists()
    if how in ("whole", "inside", "eval"):  # the trap is one: whoever unpickles the file springs it
        pickle.loads(raw)
        assert sprung.exists()


def test_a_refused_global_is_named(tmp_path):
    home = write_cifar(tmp_path, "CIFAR10")
    (home / "batches.meta").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"batches\.meta .*holds os\.system, which a batch of pictures has no need of"):
        list_torchvision(tmp_path, vision("CIFAR10"))


@pytest.mark.parametrize(
    "changed",
    [
        {"data": np.zeros((4, 3072), np.float32)},
        {"data": np.zeros((4, 3071), np.uint8)},
        {"data": np.zeros((5, 3072), np.uint8)},
        {"data": np.array([[1, "x"]], dtype=object)},
        {"data": [1, 2]},
        {"data": None},
        {"labels": None},
        {"labels": ["a"] * 4},
        {"labels": [True] * 4},
        {"labels": [0, 1, 2, 10]},
        {"labels": [0, 1, 2, -1]},
    ],
)
def test_a_batch_of_another_make_is_refused(tmp_path, changed):
    home = write_cifar(tmp_path, "CIFAR10")
    entry = {"labels": [0, 1, 2, 3], "data": pixels(4, 3072), **changed}
    (home / "test_batch").write_bytes(pickle.dumps(entry, protocol=2))
    with pytest.raises(InputError, match="test_batch"):
        list_torchvision(tmp_path, vision("CIFAR10", "test"))
    assert len(list_torchvision(tmp_path, vision("CIFAR10"))) == 20  # the other files are sound


def test_damaged_batches_are_named_or_still_hold_pictures(tmp_path):
    home, random, refused = write_cifar(tmp_path, "CIFAR10", count=1), np.random.default_rng(1), 0
    whole = (home / "test_batch").read_bytes()
    broken = [whole[:cut] for cut in range(0, len(whole), 97)]
    for place in random.integers(0, len(whole), 200):
        broken.append(whole[:place] + bytes([random.integers(256)]) + whole[place + 1 :])
    for place in range(0, 300):
        broken.append(whole[:place] + bytes([random.integers(256)]) + whole[place + 1 :])
    for content in broken:
        (home / "test_batch").write_bytes(content)
        try:
            assert list_torchvision(tmp_path, vision("CIFAR10", "test")).items.shape == (1, 32, 32, 3)
        except InputError as error:
            assert "test_batch" in str(error)
            refused += 1
    assert refused > len(whole) // 97


def test_a_missing_batch_or_part_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"nothing at .*batches\.meta"):
        list_torchvision(tmp_path, vision("CIFAR10"))
    home = write_cifar(tmp_path, "CIFAR10")
    (home / "data_batch_2").unlink()
    with pytest.raises(MissingError, match=r"nothing at .*data_batch_2"):
        list_torchvision(tmp_path, vision("CIFAR10"))
    with pytest.raises(InputError, match=r"split = 'val' is refused for CIFAR10: 'train' or 'test'"):
        list_torchvision(tmp_path, vision("CIFAR10", "val"))
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": [b"cat"]}, protocol=2))
    with pytest.raises(InputError, match=r"batches\.meta holds no class names"):
        list_torchvision(tmp_path, vision("CIFAR10", "test"))


# -- classes that torchvision itself reads


@pytest.fixture
def stl10(tmp_path):
    """A root and the pictures of each part of a small STL-10."""
    kept = {part: pixels(count, 96, 96, 3) for part, count in (("train", 3), ("test", 2), ("unlabeled", 4))}
    parts = {part: (images, [10, 1, 5][: len(images)]) for part, images in kept.items()}
    write_stl10(tmp_path / "sets", parts, [f"animal {i}" for i in range(1, 11)])
    return tmp_path, kept


def test_stl10_is_read_as_it_was_written(stl10):
    root, kept = stl10
    for split, names in (("train", ["animal 10", "animal 1", "animal 5"]), ("test", ["animal 10", "animal 1"])):
        found = list_torchvision(root, vision("STL10", split, path="sets"))
        assert np.array_equal(found.items, kept[split])
        assert found.names == names
        assert found.places[1] == f"STL10 ({split}), picture 1"
    assert {Path(file).name for file in found.files} >= {"test_X.bin", "test_y.bin", "class_names.txt"}


def test_the_unlabelled_part_of_stl10_has_no_names(stl10):
    root, kept = stl10
    found = list_torchvision(root, vision("STL10", "unlabeled", path="sets"))
    assert found.names is None
    assert np.array_equal(found.items, kept["unlabeled"])
    both = vision("STL10", "train+unlabeled", path="sets")
    with pytest.raises(InputError, match=r"STL10 \(train\+unlabeled\) holds the label -1.*withheld"):
        list_torchvision(root, both)
    assert len(list_torchvision(root, both, flat=True)) == 7


def test_svhn_is_read_as_it_was_written(tmp_path):
    images = pixels(5, 32, 32, 3)
    labels = np.array([[10], [1], [9], [10], [2]], np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})
    found = list_torchvision(tmp_path, vision("SVHN", "test"))
    assert np.array_equal(found.items, images)
    assert found.names == ["0", "1", "9", "0", "2"]
    assert found.files == (str(tmp_path / "test_32x32.mat"),)


def write_mnist(root: Path, name: str, images: np.ndarray, labels: np.ndarray, part: str) -> None:
    home = root / name / "raw"
    home.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">4i", 0x803, *images.shape)
    (home / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    (home / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(labels)) + labels.tobytes())


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_grey_pictures_get_three_channels(tmp_path, name):
    images, labels = pixels(3, 28, 28), np.array([9, 0, 4], np.uint8)
    write_mnist(tmp_path, name, images, labels, "t10k")
    write_mnist(tmp_path, name, images[:1], labels[:1], "train")
    found = list_torchvision(tmp_path, vision(name, "test"))
    assert np.array_equal(found.items, np.stack([images] * 3, axis=-1))
    assert found.names == [getattr(torchvision.datasets, name).classes[i] for i in labels]
    assert len(list_torchvision(tmp_path, vision(name, "train"))) == 1
    assert len(found.files) == 4


def test_classes_of_paths_are_listed_without_reading_one(tmp_path):
    home = tmp_path / "dtd" / "dtd"
    (home / "labels").mkdir(parents=True)
    (home / "images").mkdir()
    listed = ["woven/2.jpg", "banded/1.jpg", "woven/1.jpg"]
    (home / "labels" / "test1.txt").write_text("\n".join(listed) + "\n")
    found = list_torchvision(tmp_path, vision("DTD", "test"))
    assert [path.split("/images/")[1] for path in found.items] == sorted(listed)
    assert (found.names, found.places) == (["banded", "woven", "woven"], found.items)


def test_classes_of_samples_are_listed(tmp_path):
    for name in ("b", "a"):
        path = tmp_path / "eurosat" / "2750" / name / "1.jpg"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(path)
    found = list_torchvision(tmp_path, vision("EuroSAT"))
    assert ([Path(path).parent.name for path in found.items], found.names) == (["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match="split = 'test' is refused for EuroSAT, which has: train"):
        list_torchvision(tmp_path, vision("EuroSAT", "test"))


@pytest.mark.parametrize("name", ["STL10", "SVHN", "MNIST", "Flowers102", "DTD", "Food101", "GTSRB"])
def test_a_missing_set_is_named(tmp_path, name):
    for path in ("none", ""):
        with pytest.raises(MissingError) as caught:
            list_torchvision(tmp_path, vision(name, path=path))
        assert f"nothing at {tmp_path / path}" in str(caught.value)
        assert "-p data_root FOLDER" in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # nothing is downloaded


def test_what_cannot_be_listed_says_why(tmp_path, stl10):
    with pytest.raises(InputError, match=r"has no 'STL1O'.*Did you mean 'STL10'"):
        list_torchvision(tmp_path, vision("STL1O"))
    with pytest.raises(InputError, match="has no 'wrap_dataset_for_transforms_v2'"):
        list_torchvision(tmp_path, vision("wrap_dataset_for_transforms_v2"))
    with pytest.raises(InputError, match=r"cannot read .*'val'"):
        list_torchvision(stl10[0], vision("STL10", "val", path="sets"))
    with pytest.raises(InputError, match="EMNIST takes split and train"):
        list_torchvision(tmp_path, vision("EMNIST", "letters"))
    with pytest.raises(InputError, match=r"FakeData cannot be listed without reading every picture.*kind: folder"):
        list_torchvision(tmp_path, vision("FakeData"))
    (stl10[0] / "sets" / "stl10_binary" / "test_X.bin").write_bytes(b"cut")
    with pytest.raises(InputError, match="STL10 cannot read"):
        list_torchvision(stl10[0], vision("STL10", "test", path="sets"))


# -- published checksums


def test_checksums_are_the_published_ones_or_not(tmp_path, monkeypatch, stl10):
    assert integrity(tmp_path, vision("CIFAR10")) is None
    home = write_cifar(tmp_path, "CIFAR10")
    assert integrity(tmp_path, vision("CIFAR10")) is False
    publish(monkeypatch, home, "CIFAR10")
    assert integrity(tmp_path, vision("CIFAR10")) is True
    assert integrity(stl10[0], vision("STL10", path="sets")) is False
    for name in ("MNIST", "SVHN", "Flowers102", "Places365", "Omniglot", "SEMEION", "CelebA", "Caltech101", "SBU"):
        assert integrity(tmp_path, vision(name)) is None, name


def test_the_checksum_of_svhn_is_that_of_its_part(tmp_path, monkeypatch):
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(gzip.compress(b"whatever"))
    assert integrity(tmp_path, vision("SVHN", "train")) is False
    assert integrity(tmp_path, vision("SVHN", "test")) is None
    assert integrity(tmp_path, vision("SVHN", "nonsense")) is None
    url, name, _ = torchvision.datasets.SVHN.split_list["train"]
    published = [url, name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setitem(torchvision.datasets.SVHN.split_list, "train", published)
    assert integrity(tmp_path, vision("SVHN", "train")) is True
