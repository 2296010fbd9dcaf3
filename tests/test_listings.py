"""Folders, parquet files and tar files: labels in the right order, pictures read when asked for, bad input named."""

import gzip
import io
import json
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from scipy.io import savemat
from torchvision.datasets import ImageFolder

from reprog_kit.listings import list_folder, list_parquet, list_pictures, list_tar
from reprog_kit.parameters import InputError
from reprog_kit.sources import MissingError, decode
from reprog_kit.specs import Folder, Parquet, Tar

SIDE = 16


def encoded(number: int, kind: str = "PNG", **how) -> bytes:
    """Encode a picture of one colour whose red says which it is."""
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (number, 90, 30)).save(buffer, kind, **how)
    return buffer.getvalue()


def reds(listing) -> list[int]:
    return decode(listing.items, listing.places, SIDE)[:, 0, 0, 0].tolist()


def folder(path: str = "set", **given) -> Folder:
    return Folder(kind="folder", path=path, **given)


def put(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# -- folders


def test_a_folder_is_listed_by_class_in_order(pictures):
    found = list_folder(pictures, folder("test"))
    assert found.names == ["blue"] * 4 + ["green"] * 4 + ["red"] * 4
    assert [p.rsplit("/", 2)[1:] for p in found.items[:2]] == [["blue", "00.png"], ["blue", "01.png"]]
    assert found.items == found.places


def test_the_order_is_torchvisions(tmp_path):
    for name in ("b/x.png", "b/sub/2.png", "b/sub.d/1.JPG", "b/sub d/9.webp", "a/10.png", "a/9.png", "B/z.tiff"):
        put(tmp_path / "set" / name)
    found, theirs = list_folder(tmp_path, folder()), ImageFolder(tmp_path / "set")
    assert list(zip(found.items, found.names)) == [(path, theirs.classes[i]) for path, i in theirs.samples]


def test_a_flat_folder_is_a_set_without_classes(pictures):
    found = list_folder(pictures, folder("other"), flat=True)
    assert (len(found.items), found.names) == (6, None)
    with pytest.raises(InputError, match=r"other holds no class folder\. Put each"):
        list_folder(pictures, folder("other"))


def test_an_ood_set_may_have_class_folders(pictures):
    assert len(list_folder(pictures, folder("test"), flat=True).items) == 12


def test_what_is_no_picture_of_the_set_is_left_out(tmp_path):
    """ImageNet-A and -R have a README.txt; Jupyter, macOS and Windows leave their own."""
    kept = put(tmp_path / "set" / "n01498041" / "1.JPEG")
    for name in ("README.txt", ".DS_Store", ".hidden/1.png", ".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/a/1.png",
                 "n01498041/notes.txt", "n01498041/._1.JPEG", "n01498041/.ipynb_checkpoints/1-checkpoint.png",
                 "n01498041/Thumbs.db"):  # fmt: skip
        put(tmp_path / "set" / name)
    found = list_folder(tmp_path, folder())
    assert (found.items, found.names) == ([str(kept)], ["n01498041"])


def test_a_missing_folder_is_named_with_the_root_and_how_to_change_it(tmp_path):
    with pytest.raises(MissingError) as caught:
        list_folder(tmp_path, folder("none"))
    for word in (str(tmp_path / "none"), f"now {tmp_path} (which exists)", "-p data_root FOLDER", "$REPROG_DATA"):
        assert word in str(caught.value)
    with pytest.raises(MissingError, match="which does not exist"):
        list_folder(tmp_path / "nowhere", folder("none"))


def test_an_empty_class_folder_is_named(tmp_path):
    put(tmp_path / "set" / "full" / "1.png")
    (tmp_path / "set" / "hollow").mkdir()
    with pytest.raises(InputError, match=r"'hollow'.*remove or fill the empty ones") as caught:
        list_folder(tmp_path, folder())
    assert "'full'" not in str(caught.value)


@pytest.mark.parametrize("flat", [True, False])
def test_a_folder_without_anything_is_refused(tmp_path, flat):
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match="set holds no class folder"):
        list_folder(tmp_path, folder(), flat)


def test_odd_pictures_of_imagenet_are_listed_and_the_sound_ones_decoded_as_pil_does(tmp_path):
    home = tmp_path / "set" / "n01440764"
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    sound = {"cmyk": (rgb.convert("CMYK"), "JPEG", {}), "grey": (rgb.convert("L"), "JPEG", {}),
             "plain": (rgb, "JPEG", {}), "png": (rgb, "PNG", {}), "turned": (rgb, "JPEG", {"exif": exif})}  # fmt: skip
    for name, (picture, kind, how) in sound.items():
        buffer = io.BytesIO()
        picture.save(buffer, kind, **how)
        put(home / f"{name}.JPEG", buffer.getvalue())
    put(home / "a_cut.JPEG", buffer.getvalue()[:200])
    put(home / "a_hollow.JPEG")
    found = list_folder(tmp_path, folder())
    assert [Path(p).stem for p in found.items] == ["a_cut", "a_hollow", *sorted(sound)]
    expected = [np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in found.items[2:]]
    assert np.array_equal(decode(found.items[2:], found.places[2:], SIDE), np.stack(expected))
    assert not np.array_equal(expected[-1], np.asarray(Image.open(found.items[-1])))  # it is turned indeed


# -- the ILSVRC devkit


SYNSETS = [(1, "n03000000", 0), (2, "n01000000", 0), (3, "n02000000", 0), (4, "n00001740", 3)]


@pytest.fixture
def devkit(tmp_path):
    """A flat folder of four pictures and a devkit whose IDs do not follow the sorted WordNet IDs."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(float(number), wnid, f"word, {wnid}", "a gloss", float(below)) for number, wnid, below in SYNSETS]
    data = tmp_path / "devkit" / "data"
    data.mkdir(parents=True)
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
    put(data / "ILSVRC2012_validation_ground_truth.txt", b"3\n1\n1\n2\n")
    for i in (4, 2, 3, 1):
        put(tmp_path / "val" / f"ILSVRC2012_val_0000000{i}.JPEG", encoded(i))
    return tmp_path


def test_the_devkit_labels_pictures_by_the_order_of_their_names(devkit):
    found = list_folder(devkit, folder("val", devkit="devkit"))
    assert found.names == ["n02000000", "n03000000", "n03000000", "n01000000"]
    assert [p[-6] for p in found.items] == ["1", "2", "3", "4"]


def test_a_missing_picture_shifts_no_label(devkit):
    (devkit / "val" / "ILSVRC2012_val_00000002.JPEG").unlink()
    with pytest.raises(InputError, match=r"val holds 3 pictures; .*ground_truth\.txt labels 4"):
        list_folder(devkit, folder("val", devkit="devkit"))


def test_class_folders_go_before_the_devkit(devkit):
    put(devkit / "sorted" / "n9" / "1.JPEG")
    assert list_folder(devkit, folder("sorted", devkit="no such devkit")).names == ["n9"]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ILSVRC2012_validation_ground_truth.txt", b"3\n1\n1\n4\n", r"no class of .*meta\.mat: 4"),
        ("ILSVRC2012_validation_ground_truth.txt", b"n01\n" * 4, "cannot be read as the ILSVRC devkit"),
        ("ILSVRC2012_validation_ground_truth.txt", None, r"nothing at .*ground_truth\.txt"),
        ("meta.mat", b"MATLAB 5.0 cut off", "cannot be read as the ILSVRC devkit"),
        ("meta.mat", None, r"nothing at .*meta\.mat"),
    ],
)
def test_a_damaged_devkit_is_named(devkit, file, content, said):
    path = devkit / "devkit" / "data" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        list_folder(devkit, folder("val", devkit="devkit"))


# -- parquet


def parquet(path: str = "set.*.parquet", **given) -> Parquet:
    return Parquet(kind="parquet", path=path, **given)


@pytest.fixture
def table(tmp_path):
    """Two parquet files: one with the bytes themselves, one as Hugging Face writes them."""
    plain = {"image": [encoded(i) for i in range(3)], "label": ["a", "b", "a"], "split": ["train", "test", "train"]}
    pq.write_table(pa.table(plain), tmp_path / "set.0.parquet")
    wrapped = {"image": [{"bytes": encoded(i), "path": None} for i in (3, 4)], "label": ["c", "b"],
               "split": ["train", "test"]}  # fmt: skip
    pq.write_table(pa.table(wrapped), tmp_path / "set.1.parquet")
    return tmp_path


def numbered(path: Path, labels: list, names: list[str] | None = None) -> None:
    """Write labels as numbers, with the names that Hugging Face's datasets puts into the file."""
    rows = pa.table({"image": [encoded(i) for i in range(len(labels))], "label": labels})
    if names:
        feature = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(rows, path)


def test_parquet_files_are_joined_and_both_ways_of_writing_bytes_read(table):
    found = list_parquet(table, parquet())
    assert (found.names, reds(found)) == (["a", "b", "a", "c", "b"], [0, 1, 2, 3, 4])
    assert found.places[3].endswith("set.1.parquet, row 0")
    assert [Path(file).name for file in found.files] == ["set.0.parquet", "set.1.parquet"]


def test_a_split_takes_its_rows_and_names_them_by_their_place_in_the_file(table):
    found = list_parquet(table, parquet(split="train"))
    assert (found.names, reds(found)) == (["a", "a", "c"], [0, 2, 3])
    assert [place[-5:] for place in found.places] == ["row 0", "row 2", "row 0"]
    with pytest.raises(InputError, match="has no rows with split == 'val'"):
        list_parquet(table, parquet(split="val"))


@pytest.fixture
def groups(tmp_path):
    """200 rows in groups of 10, every third of them in the split `test`."""
    splits = ["test" if i % 3 == 0 else "train" for i in range(200)]
    rows = {"image": [encoded(i) for i in range(200)], "label": [f"c{i % 7}" for i in range(200)], "split": splits}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet", row_group_size=10)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """The row groups that are read, in order, slowly enough for threads to meet."""
    read, seen = pq.ParquetFile.read_row_group, []

    def watched(self, group, *given, **named):
        seen.append(group)
        threading.Event().wait(0.01)
        return read(self, group, *given, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    return seen


def test_listing_reads_no_picture_and_each_row_group_is_read_once(groups, reads):
    found = list_parquet(groups, parquet("rows.parquet"))
    assert (len(found), reads) == (200, [])
    assert list(found.items) == [encoded(i) for i in range(200)]
    assert reads == list(range(20))


def test_threads_that_ask_for_one_group_at_once_read_it_once(groups, reads):
    rows, together = list_parquet(groups, parquet("rows.parquet")).items, threading.Barrier(10)

    def ask(i: int) -> bytes:
        together.wait()
        return rows[i]

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, range(30, 40))) == [encoded(i) for i in range(30, 40)]
    assert reads == [3]


def test_a_split_maps_rows_to_their_groups(groups, reads):
    found = list_parquet(groups, parquet("rows.parquet", split="test"))
    assert found.names == [f"c{i % 7}" for i in range(0, 200, 3)]
    assert reds(found) == list(range(0, 200, 3))


def test_a_row_group_is_read_once_and_two_are_held(groups, monkeypatch):
    import pyarrow.parquet as pq

    read, real = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a, **k: (read.append(a[1]), real(*a, **k))[1])
    rows = list_parquet(groups, parquet("rows.parquet")).items
    assert read == []
    for i in range(200):
        assert rows[i] == encoded(i)
        assert len(rows._held) <= 2
    assert len(read) == len(set(read)) == 20


def test_many_threads_in_any_order_get_the_right_rows(groups):
    rows = list_parquet(groups, parquet("rows.parquet")).items
    order = np.random.default_rng(0).permutation(200)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(rows.__getitem__, order)) == [encoded(i) for i in order]
    with pytest.raises(IndexError):
        rows[200]


def test_a_missing_column_or_file_is_named(table):
    with pytest.raises(InputError, match=r"has the columns image, label, split; the YAML asks for image, klass"):
        list_parquet(table, parquet(label="klass"))
    with pytest.raises(InputError, match=r"the YAML asks for picture, label, split"):
        list_parquet(table, parquet(image="picture", split="train"), flat=True)
    with pytest.raises(MissingError, match="there is nothing at"):
        list_parquet(table, parquet("none.*.parquet"))


def test_an_ood_set_needs_no_labels(tmp_path):
    pq.write_table(pa.table({"image": [encoded(5)]}), tmp_path / "bare.parquet")
    found = list_parquet(tmp_path, parquet("bare.parquet"), flat=True)
    assert (found.names, reds(found)) == (None, [5])
    with pytest.raises(InputError, match="the YAML asks for image, label"):
        list_parquet(tmp_path, parquet("bare.parquet"))
    numbered(tmp_path / "withheld.parquet", [-1, -1])
    assert list_parquet(tmp_path, parquet("withheld.parquet"), flat=True).names is None


def test_numbers_are_named_by_what_hugging_face_wrote(tmp_path):
    numbered(tmp_path / "n.parquet", [7, 0])
    assert list_parquet(tmp_path, parquet("n.parquet")).names == ["7", "0"]
    numbered(tmp_path / "hf.parquet", [2, 0, 1], ["tench", "shark", "ray"])
    assert list_parquet(tmp_path, parquet("hf.parquet")).names == ["ray", "tench", "shark"]
    assert list_parquet(tmp_path, parquet("hf.parquet", numbered=True)).names == ["2", "0", "1"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [([0, -1], r"label -1.*withheld"), ([0, 3], "label 3; there are names for 0 to 2"), ([0, None], "column label")],
)
def test_numbers_without_a_name_are_refused(tmp_path, labels, said):
    numbered(tmp_path / "hf.parquet", labels, ["tench", "shark", "ray"])
    with pytest.raises(InputError, match=rf"hf\.parquet.*{said}"):
        list_parquet(tmp_path, parquet("hf.parquet"))


def test_a_row_without_a_picture_is_named(tmp_path):
    pq.write_table(pa.table({"image": [encoded(0), None], "label": ["a", "b"]}), tmp_path / "n.parquet")
    found = list_parquet(tmp_path, parquet("n.parquet"))
    assert found.items[1] is None
    with pytest.raises(InputError, match=r"n\.parquet, row 1 cannot be read as a picture"):
        decode(found.items, found.places, SIDE)


def test_a_damaged_parquet_file_is_named(groups, table):
    found = list_parquet(groups, parquet("rows.parquet"))
    path = groups / "rows.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 3000 + whole[3004:])  # the pictures of the first groups
    with pytest.raises(InputError, match=r"rows\.parquet cannot be read as a parquet file"):
        found.items[0]
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"rows\.parquet cannot be read as a parquet file"):
        list_parquet(groups, parquet("rows.parquet"))


# -- tar


def tar(path: str = "train-*.tar", **given) -> Tar:
    return Tar(kind="tar", path=path, **given)


def pack(path: Path, members: dict[str, bytes], mode: str = "w", **how) -> Path:
    with tarfile.open(path, mode, **how) as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    """Three shards of two pictures, the label before or behind its picture."""
    for shard in range(3):
        a, b = 2 * shard, 2 * shard + 1
        members = {f"{a:04}.jpg": encoded(a, "PNG"), f"{a:04}.cls": f"{a}\n".encode(), f"{a:04}.json": b"{}",
                   f"sub.d/{a:04}.cls": b"other", f"sub.d/{a:04}.PNG": encoded(b), "._0.jpg": b"macOS"}  # fmt: skip
        pack(tmp_path / f"train-{shard:06}.tar", members)
    return tmp_path


def test_tar_files_give_pictures_and_the_labels_beside_them(shards):
    found = list_tar(shards, tar())
    assert (found.names, reds(found)) == (["0", "other", "2", "other", "4", "other"], [0, 1, 2, 3, 4, 5])
    assert found.places[1] == f"{shards / 'train-000000.tar'}, sub.d/0000.PNG"
    assert found.files == tuple(str(shards / f"train-00000{i}.tar") for i in range(3))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(found.items.__getitem__, range(6))) == [encoded(i) for i in range(6)]


def test_a_range_in_braces_is_spelled_out_and_none_of_it_may_lack(shards):
    assert list_tar(shards, tar("train-{000001..000002}.tar")).names == ["2", "other", "4", "other"]
    with pytest.raises(MissingError, match=r"nothing at .*train-000003\.tar"):
        list_tar(shards, tar("train-{000000..000146}.tar"))
    with pytest.raises(MissingError, match=r"train-\{2\.\.1\}\.tar"):
        list_tar(shards, tar("train-{2..1}.tar"))


def test_a_path_with_brackets_is_no_pattern_where_it_is_a_file(shards):
    (shards / "train-000001.tar").rename(shards / "set[1].tar")
    assert list_tar(shards, tar("set[1].tar")).names == ["2", "other"]


def test_a_picture_without_a_label_is_named_unless_none_is_needed(shards):
    with pytest.raises(InputError, match=r"train-000000\.tar holds no txt beside '0000'"):
        list_tar(shards, tar(label="txt"))
    found = list_tar(shards, tar(label="txt"), flat=True)
    assert (found.names, reds(found)) == (None, [0, 1, 2, 3, 4, 5])


def test_long_names_of_pax_and_gnu_are_read(tmp_path):
    name = "n01440764/" + "x" * 150
    for i, how in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        pack(tmp_path / f"train-{i}.tar", {f"{name}.JPEG": encoded(i), f"{name}.cls": b"tench"}, format=how)
    found = list_tar(tmp_path, tar())
    assert (found.names, reds(found)) == (["tench", "tench"], [0, 1])


def test_a_compressed_tar_file_is_to_be_unpacked(shards):
    whole = (shards / "train-000000.tar").read_bytes()
    (shards / "train-000000.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(InputError, match=r"train-000000\.tar cannot be read as a plain tar file.*gunzip"):
        list_tar(shards, tar())


def test_a_tar_file_cut_off_anywhere_is_named(tmp_path):
    path = pack(tmp_path / "train-0.tar", {"0.png": encoded(0), "0.cls": b"a", "1.png": encoded(1), "1.cls": b"b"})
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))  # the last label; zeros to the end of its block and two blocks of them follow
    assert list_tar(tmp_path, tar()).names == ["a", "b"]
    for cut in [*range(0, end, 100), *range(0, end + 1, 512), end]:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"train-0\.tar cannot be read .*copy or download it again"):
            list_tar(tmp_path, tar())


def test_a_key_with_two_labels_and_a_tar_file_without_pictures_are_refused(tmp_path):
    pack(tmp_path / "train-0.tar", {"0.png": encoded(0), "0.cls": b"a"})
    with tarfile.open(tmp_path / "train-0.tar", "a") as packed:
        member = tarfile.TarInfo("0.cls")
        member.size = 1
        packed.addfile(member, io.BytesIO(b"b"))
    with pytest.raises(InputError, match="0 has two labels, 'a' and 'b'"):
        list_tar(tmp_path, tar())
    pack(tmp_path / "none.tar", {"0.txt": b"x"})
    with pytest.raises(InputError, match=r"none\.tar holds no picture"):
        list_tar(tmp_path, tar("none.tar"))


def test_each_kind_is_listed_by_its_own(pictures, table, shards):
    assert len(list_pictures(pictures, folder("other"), flat=True)) == 6
    assert list_pictures(table, parquet()).names == list_parquet(table, parquet()).names
    assert list_pictures(shards, tar()).places == list_tar(shards, tar()).places
