"""Sets fetched from a server on this machine: whole, or not at all and with a reason."""

import errno
import functools
import hashlib
import io
import pickle
import shutil
import socket
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from reprog_kit import downloads
from reprog_kit.downloads import by_hand, download, is_there, to_get
from reprog_kit.parameters import InputError
from reprog_kit.specs import Arrays, Corrupted, Folder, Generated, Torchvision

PICTURES = {"set/images/a.jpg": b"first" * 900, "set/images/b.jpg": b"second" * 900, "set/read.txt": b"words"}


def pack(path, members=PICTURES):
    """Write an archive of the kind that its name says, and return its md5."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        kind = {".tar": "", ".gz": "gz", ".tgz": "gz", ".bz2": "bz2"}[path.suffix]
        with tarfile.open(path, f"w:{kind}") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def folder_set(url, md5=None, **given):
    source = {"urls": [url], "md5": [md5] if md5 else [], "into": given.pop("into", "")}
    where = {"path": "set/images", "home": "https://example.org/set", "layout": "set/images/*.jpg"}
    return Folder(**{"kind": "folder", **where, "download": source, **given})


def everything(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*")) if root.exists() else []


def refused(root, spec, *words):
    """Check that a download fails with these words and leaves nothing behind."""
    before = everything(root)
    with pytest.raises(InputError) as caught:
        download(root, "pictures", spec)
    message = str(caught.value)
    for word in (*words, "pictures lives at https://example.org/set.", f"below {root.resolve()}: set/images/*.jpg"):
        assert word in message, message
    assert "\n" not in message and everything(root) == before
    return message


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz", "s.tar.bz2", "s.zip"])
def test_an_archive_is_fetched_checked_and_unpacked(served, tmp_path, name):
    folder, address = served
    root = tmp_path / "data"
    spec = folder_set(f"{address}/{name}?dl=1", pack(folder / name))
    assert to_get(spec) and not is_there(root, spec)
    assert download(root, "pictures", spec) == root
    assert is_there(root, spec)
    assert everything(root) == ["set", "set/images", "set/images/a.jpg", "set/images/b.jpg", "set/read.txt"]
    assert (root / "set/images/b.jpg").read_bytes() == PICTURES["set/images/b.jpg"]


def test_into_is_the_folder_that_it_is_unpacked_in_beside_what_is_there(served, tmp_path):
    folder, address = served
    root = tmp_path / "data"
    (root / "deep" / "set").mkdir(parents=True)
    (root / "deep" / "set" / "mine.txt").write_text("mine")
    spec = folder_set(f"{address}/s.tar", pack(folder / "s.tar"), into="deep", path="deep/set/images")
    assert download(root, "pictures", spec) == root / "deep"
    assert (root / "deep" / "set" / "mine.txt").read_text() == "mine"
    assert len(list((root / "deep" / "set" / "images").iterdir())) == 2


def test_files_that_are_no_archives_stay_as_they_are(served, tmp_path):
    folder, address = served
    np.save(folder / "x.npy", np.zeros((2, 4, 4, 3), np.uint8))
    np.save(folder / "y.npy", np.arange(2))
    urls = [f"{address}/x.npy", f"{address}/y.npy"]
    spec = Arrays(kind="arrays", path="new/x.npy", labels="new/y.npy", download={"urls": urls, "into": "new"})
    download(tmp_path / "data", "arrays", spec)
    assert np.load(tmp_path / "data/new/y.npy").tolist() == [0, 1]
    (tmp_path / "data/new/y.npy").unlink()
    assert not is_there(tmp_path / "data", spec)


def test_an_archive_that_holds_something_else_is_told_of(served, tmp_path):
    folder, address = served
    pack(folder / "s.tar")
    spec = folder_set(f"{address}/s.tar", path="set/pictures")
    with pytest.raises(InputError, match=r"pictures was fetched to .*data, but set/pictures is not there\. .*lives at"):
        download(tmp_path / "data", "pictures", spec)
    assert (tmp_path / "data" / "set" / "images").is_dir()


def test_a_set_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    spec = folder_set("http://127.0.0.1:9/never.tar")
    assert not is_there(tmp_path, spec)  # an empty folder is none
    (tmp_path / "set" / "images" / "own.jpg").write_bytes(b"own")
    assert download(tmp_path, "pictures", spec) == tmp_path
    assert everything(tmp_path) == ["set", "set/images", "set/images/own.jpg"]


def test_another_checksum_is_refused(served, tmp_path):
    folder, address = served
    pack(folder / "s.tar")
    spec = folder_set(f"{address}/s.tar", "0" * 32)
    assert f"pictures ({address}/s.tar) could not be had: it has another checksum" in refused(tmp_path, spec)


def test_a_file_that_is_gone_is_refused(served, tmp_path):
    refused(tmp_path, folder_set(f"{served[1]}/gone.tar"), "the server answers 404")


def test_without_a_network_the_reason_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    refused(tmp_path, folder_set(f"http://127.0.0.1:{port}/s.tar"), "there is no way to the server")


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(tmp_path, folder_set(f"http://127.0.0.1:{silent.getsockname()[1]}/s.tar"), "timed out")
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tar.bz2", "s.zip"])
def test_an_archive_that_is_cut_off_is_refused(served, tmp_path, name):
    folder, address = served
    pack(folder / name)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 3])
    refused(tmp_path, folder_set(f"{address}/{name}"), "could not be had")


@pytest.mark.parametrize("name", ["drop.npy", "drop.tar"])
def test_a_line_that_drops_is_noticed_without_a_checksum(served, tmp_path, name):
    (served[0] / name).write_bytes(b"x" * 100_000)
    refused(tmp_path, folder_set(f"{served[1]}/{name}"), "cut off")


@pytest.mark.parametrize("name", ["../evil.txt", "set/../../evil.txt"])
def test_a_tar_member_that_leads_out_of_the_folder_is_refused(served, tmp_path, name):
    folder, address = served
    pack(folder / "s.tar.gz", {**PICTURES, name: b"evil"})
    refused(tmp_path / "data", folder_set(f"{address}/s.tar.gz"), "evil.txt")
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_zip_member_stays_in_the_folder(served, tmp_path):
    folder, address = served
    pack(folder / "s.zip", {**PICTURES, "../evil.txt": b"evil"})
    download(tmp_path / "data", "pictures", folder_set(f"{address}/s.zip"))
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("evil.txt")] == ["data/evil.txt"]


def test_a_full_disk_is_the_reason(served, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    pack(served[0] / "s.tar")
    monkeypatch.setattr(shutil, "unpack_archive", full)
    refused(tmp_path, folder_set(f"{served[1]}/s.tar"), "could not be had: No space left on device.")


def test_a_download_under_way_is_not_disturbed(tmp_path):
    (tmp_path / ".pictures.part").mkdir()
    with pytest.raises(InputError, match=r"\.pictures\.part is there: pictures is being fetched"):
        download(tmp_path, "pictures", folder_set("http://127.0.0.1:9/s.tar"))
    assert everything(tmp_path) == [".pictures.part"]


def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "download_url", stop)
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, "pictures", folder_set("http://127.0.0.1:9/s.tar"))
    assert everything(tmp_path) == []


@pytest.fixture
def svhn(served, monkeypatch):
    """SVHN's test part, three pictures of it, where torchvision looks for it."""
    folder, address = served
    content = {"X": np.zeros((32, 32, 3, 3), np.uint8), "y": np.array([[1], [10], [2]])}
    scipy.io.savemat(folder / "test_32x32.mat", content)
    md5 = hashlib.md5((folder / "test_32x32.mat").read_bytes()).hexdigest()
    known = {"test": [f"{address}/test_32x32.mat", "test_32x32.mat", md5]}
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    return Torchvision(kind="torchvision", name="SVHN", split="test", path="svhn", home="https://example.org/set")


def test_a_class_of_torchvision_fetches_its_own(svhn, tmp_path):
    assert to_get(svhn)
    assert download(tmp_path / "data", "svhn", svhn) == tmp_path / "data" / "svhn"
    assert everything(tmp_path / "data") == ["svhn", "svhn/test_32x32.mat"]
    stamp = (tmp_path / "data/svhn/test_32x32.mat").stat().st_mtime_ns
    download(tmp_path / "data", "svhn", svhn)
    assert (tmp_path / "data/svhn/test_32x32.mat").stat().st_mtime_ns == stamp


def test_a_folder_may_name_a_class_and_its_options(svhn, tmp_path):
    source = {"torchvision": "SVHN", "options": {"split": "test"}, "into": "here"}
    download(tmp_path / "data", "svhn", Folder(kind="folder", path="here", download=source))
    assert everything(tmp_path / "data") == ["here", "here/test_32x32.mat"]
    wrong = Folder(kind="folder", path="there", download={**source, "options": {"split": "tst"}})
    with pytest.raises(InputError, match=r"torchvision's SVHN refuses .*'tst'"):
        download(tmp_path / "data", "svhn", wrong)


def test_what_a_class_of_torchvision_cannot_get_is_refused(svhn, served, tmp_path):
    (served[0] / "test_32x32.mat").write_bytes(b"changed")
    with pytest.raises(InputError, match=r"svhn could not be had: it has another checksum .*svhn lives at https://ex"):
        download(tmp_path / "data", "svhn", svhn)
    assert everything(tmp_path / "data") == []


def test_a_class_with_train_in_the_place_of_split_is_told_which_part(served, tmp_path, monkeypatch):
    folder, address = served
    kind, rows = datasets.CIFAR10, np.zeros((2, 3072), np.uint8)
    batch = pickle.dumps({"data": rows, "labels": [0, 1]})
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    meta = pickle.dumps({"label_names": ["a", "b"]})
    files = {**dict.fromkeys(names, batch), "batches.meta": meta}
    packed = {f"cifar-10-batches-py/{n}": content for n, content in files.items()}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(kind, "tgz_md5", pack(folder / "c.tar.gz", packed))
    monkeypatch.setattr(kind, "url", f"{address}/c.tar.gz")
    monkeypatch.setattr(kind, "train_list", [[n, md5[n]] for n in names[:-1]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5["batches.meta"]})
    told = []
    original = kind.__init__
    monkeypatch.setattr(
        kind, "__init__", functools.wraps(original)(lambda *a, **k: (told.append(k), original(*a, **k))[1])
    )
    for split in ("train", "test"):
        spec = Torchvision(kind="torchvision", name="CIFAR10", split=split)
        download(tmp_path / "data", split, spec)
        assert is_there(tmp_path / "data", spec)
    assert {(k["train"], k.get("download", False)) for k in told} == {(True, False), (True, True), (False, False)}


def test_a_class_that_torchvision_does_not_have_is_named():
    with pytest.raises(InputError, match=r"no class 'CIFAR'\. Did you mean 'CIFAR1"):
        to_get(Torchvision(kind="torchvision", name="CIFAR"))


def test_what_has_no_download_is_left_to_a_person(tmp_path):
    spec = Folder(kind="folder", path="imagenet/train", home="https://image-net.org")
    assert not to_get(spec)
    with pytest.raises(
        InputError, match=r"train cannot be fetched automatically\. train lives at https://image-net\.org\."
    ):
        download(tmp_path, "train", spec)
    assert by_hand("train", spec, tmp_path).endswith(f"What must stand below {tmp_path}: imagenet/train")
    arrays = Arrays(kind="arrays", path="x.npy", labels="y.npy")
    where = f"new: put it at {tmp_path}/x.npy and {tmp_path}/y.npy, or correct its path in the YAML."
    assert by_hand("new", arrays, tmp_path) == where
    assert not to_get(Torchvision(kind="torchvision", name="ImageNet"))  # it unpacks, and does not fetch


def test_what_is_made_here_needs_nothing(tmp_path):
    drawn = Generated(kind="generated", name="letters")
    made = Corrupted(kind="corrupted", names=["fog"])
    for spec in (drawn, made):
        assert not to_get(spec) and not is_there(tmp_path, spec)
        assert by_hand("it", spec, tmp_path) == "it is made here; there is nothing to get."
    (tmp_path / "C").mkdir()
    (tmp_path / "C" / "fog.npy").write_bytes(b"")
    assert is_there(tmp_path, Corrupted(kind="corrupted", names=["fog"], published="C"))
