"""The data doctor: what is there, what is missing, what is wrong with it, and what to do, in order."""

import shutil

import numpy as np
import pytest
from PIL import Image

from reprog_kit import data_doctor as module
from reprog_kit.__main__ import main
from reprog_kit.data_doctor import doctor
from reprog_kit.parameters import InputError
from reprog_kit.settings import TrainSettings


@pytest.fixture
def root(pictures, tmp_path):
    """The pictures of the colours, to be spoiled; the test pictures are others than those of train."""
    copied = shutil.copytree(pictures, tmp_path / "data")
    for path in (copied / "test").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 2 + 3).save(path)
    return copied


@pytest.fixture
def examine(benchmark_file, root, tmp_path):
    """Return a function that examines the colours, changed as asked."""

    def run(decode: bool = False, **changes):
        return doctor(benchmark_file(**changes), str(root), str(tmp_path / "runs"), decode)

    return run


def by_name(found) -> dict:
    return {one.name: one for one in found.sets}


def folder(path: str, **more) -> dict:
    return {"kind": "folder", "path": path, **more}


def test_a_healthy_benchmark_is_described_set_by_set(examine, root):
    found = examine()
    sets = by_name(found)
    assert found.healthy
    assert {name: (one.role, one.pictures, one.classes) for name, one in sets.items()} == {
        "train": ("id", 30, "3 of 3, by name"),
        "test": ("id", 12, "3 of 3, by name"),
        "dim": ("shift", 9, "3 of 3, by name"),
        "other": ("ood", 6, ""),
    }
    assert found.classes == ("blue", "green", "red")
    assert sets["dim"].where == "shift"
    assert len(found.steps) == 1
    assert found.steps[0].startswith("python -m reprog_kit reproduce ")
    assert f" -p data_root {root} " in found.steps[0]


def test_samples_are_of_many_classes_with_the_names_that_stand_in_the_captions(examine):
    one = by_name(examine())["test"]
    assert len(one.samples) == 8
    for pixels, name in one.samples:
        assert pixels.shape == (16, 16, 3)
        assert ("red", "green", "blue")[pixels.mean(axis=(0, 1)).argmax()] == name
    assert {name for _, name in one.samples} == {"red", "green", "blue"}


def test_pictures_that_stand_in_train_are_counted_by_their_pixels(examine, root):
    """The twins have another name, another file format and so other bytes."""
    for i in range(2):
        Image.open(root / "train" / "red" / f"{i:02}.png").save(root / "test" / "red" / f"twin{i}.bmp")
    Image.open(root / "train" / "red" / "03.png").save(root / "other" / "twin.bmp")
    found = examine()
    seen = [
        {Image.open(path).convert("RGB").tobytes() for path in (root / part).rglob("*.*")} for part in ("train", "test")
    ]
    assert by_name(found)["test"].in_train == len(seen[0] & seen[1]) == 2
    assert (by_name(found)["other"].in_train, by_name(found)["dim"].in_train) == (1, 0)
    assert by_name(found)["train"].in_train is None
    assert "2 of its pictures stand in the training pictures too" in by_name(found)["test"].problems[0]
    assert not found.healthy


def test_what_is_missing_is_said_with_where_it_lives_and_the_way_on(examine, root):
    shutil.rmtree(root / "other")
    found = examine(ood={"other": folder("other", home="https://example.org/other", layout="other/*.png")})
    assert not by_name(found)["other"].found
    assert found.steps[0] == (f"other lives at https://example.org/other. What must stand below {root}: other/*.png")
    assert "-p missing_sets skip" in found.steps[-1]


def test_what_can_be_fetched_is_one_command(examine, root):
    got = {"urls": ["http://127.0.0.1:9/x.zip"]}
    found = examine(ood={"a": folder("a", download=got), "b": folder("b", download=got), "c": folder("c")})
    assert "reprog_kit download" in found.steps[0]
    assert found.steps[0].endswith("# fetches a, b")
    assert found.steps[1] == f"c: put it at {root / 'c'}, or correct its path in the YAML."


def test_without_training_pictures_there_is_no_command_to_train(examine, root):
    shutil.rmtree(root / "train")
    found = examine()
    assert not any("reproduce" in step for step in found.steps)
    assert "doctor" in found.steps[-1]
    assert not by_name(found)["train"].found
    assert found.classes == ()
    assert "MISSING" in str(found)


def test_a_data_root_that_is_not_there_is_the_first_thing_to_do(benchmark_file, tmp_path):
    found = doctor(benchmark_file(), str(tmp_path / "nowhere"), str(tmp_path))
    assert found.steps[0].startswith(f"Make the data root {tmp_path / 'nowhere'}")


def test_other_counts_than_the_published_are_a_problem(examine):
    found = examine(shift={"dim": folder("shift", count=10)})
    assert by_name(found)["dim"].problems == ["9 pictures; the published set has 10. Get it again."]
    assert "9 of 10" in str(found)
    assert examine(shift={"dim": folder("shift", count=9)}).healthy


def test_unknown_classes_are_a_problem_and_the_rest_goes_on(examine):
    found = examine(shift={"dim": folder("shift", classes={"red": "pink"})})
    assert "does not have: 'pink'" in by_name(found)["dim"].problems[0]
    assert by_name(found)["other"].found
    assert by_name(found)["dim"].in_train is None


def test_numbers_and_ids_are_told_apart_from_names(examine, root):
    for number, name in enumerate(("blue", "green", "red")):
        shutil.copytree(root / "shift" / name, root / "numbers" / str(number))
        shutil.copytree(root / "shift" / name, root / "ids" / f"n0{number}")
    numbers = {"numbers": folder("numbers", numbered=True), "ids": folder("ids")}
    sets = by_name(examine(shift=numbers, classes=["blue", "green", "red"], class_ids=["n00", "n01", "n02"]))
    assert (sets["numbers"].classes, sets["ids"].classes) == ("3 of 3, by number", "3 of 3, by id")
    assert [name for _, name in sets["numbers"].samples] == [name for _, name in sets["ids"].samples]


def test_bad_pictures_are_named_and_left_out_of_the_rest(examine, root):
    (root / "test" / "red" / "00.png").write_bytes(b"x")
    (root / "test" / "blue" / "03.png").write_bytes(b"")
    one = by_name(examine())["test"]
    assert one.problems[0].startswith("2 pictures cannot be read:")
    assert len(one.samples) == 7  # the first red one is among the eight that were chosen
    assert one.in_train == 0


def test_many_pictures_are_decoded_only_when_asked(examine, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_AT_ONCE", 20)
    found = examine()
    assert by_name(found)["test"].in_train is None
    assert any("--decode" in step and "57 pictures" in step for step in found.steps)
    assert not list((tmp_path / "runs").rglob("*.pixels"))
    found = examine(decode=True)
    assert by_name(found)["test"].in_train == 0
    assert len(list((tmp_path / "runs" / "cache" / "pictures").glob("*.pixels"))) == 4
    assert not any("--decode" in step for step in found.steps)


def test_a_quick_look_decodes_nothing(benchmark_file, root, tmp_path):
    settings = TrainSettings.build(
        dataset=benchmark_file(), method="zero_shot", data_root=str(root), runs=str(tmp_path / "runs"), limit=4
    )
    found = doctor(settings)
    assert by_name(found)["test"].in_train is None
    assert not any("reproduce" in step for step in found.steps)  # settings are a training that has begun
    assert not list((tmp_path / "runs").rglob("*.pixels"))


def test_damage_in_the_cache_is_found_and_mended(examine, tmp_path):
    examine(decode=True)
    file = max((tmp_path / "runs" / "cache" / "pictures").glob("*.pixels"), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    file.write_bytes(bytes(16 * 16 * 3) + whole[16 * 16 * 3 :])
    assert by_name(examine(decode=True))["train"].problems[0].startswith("1 decoded pictures were damaged")
    assert file.read_bytes() == whole
    assert examine(decode=True).healthy


def test_generated_sets_are_there_and_compared_too():
    found = doctor("demo")
    assert found.healthy
    assert {one.in_train for one in found.sets if one.name not in ("train", "validation")} == {0}


def test_the_page_shows_names_and_pictures_and_nothing_of_html_in_a_name(examine):
    shown = examine(caption="a <b> {}", shift={"<i>": folder("shift")})._repr_html_()
    assert shown.count("<img src='data:image/png;base64,") == 4
    assert "<td style='text-align:left;vertical-align:top'>&lt;i&gt;</td>" in shown


def test_the_command_says_what_is_wrong_by_its_exit_status(benchmark_file, root, tmp_path, capsys):
    given = [benchmark_file(), "-p", "data_root", str(root), "-p", "runs", str(tmp_path / "runs")]
    assert main(["doctor", *given]) == 0
    assert (tmp_path / "runs" / "doctor-colours.html").read_text().startswith("<!doctype html>")
    assert "doctor-colours.html" in capsys.readouterr().out
    shutil.rmtree(root / "other")
    assert main(["doctor", *given]) == 1
    assert main(["doctor", "no_such"]) == 2
    assert "unknown dataset 'no_such'" in capsys.readouterr().err


def test_download_fetches_what_is_missing_and_says_what_it_could_not(tmp_path, root, benchmark_file, served, capsys):
    served_from, address = served
    shutil.make_archive(str(served_from / "later"), "zip", root, "other")
    shutil.rmtree(root / "other")
    dead = {"urls": ["http://127.0.0.1:9/x.zip"]}
    ood = {
        "other": folder("other", download={"urls": [f"{address}/later.zip"]}),
        "gone": folder("gone", download=dead, home="https://example.org/gone"),
    }
    given = [benchmark_file(ood=ood), "-p", "data_root", str(root), "-p", "runs", str(tmp_path / "runs")]
    assert main(["download", *given]) == 1
    said = capsys.readouterr().out
    assert "gone lives at https://example.org/gone" in said
    assert len(list((root / "other").iterdir())) == 6
    assert np.count_nonzero([line.startswith("other ") and " found " in line for line in said.splitlines()]) == 1


def test_commands_keep_the_paths_that_were_given(examine, root, tmp_path):
    found = examine()
    given = f"colours.yaml -p data_root {root} -p runs {tmp_path / 'runs'}"
    assert given in found.steps[-1]


def test_only_what_the_yaml_takes_is_counted(examine):
    """Also of an OOD set with classes."""
    one = by_name(examine(ood={"colours": folder("shift", drop=["red"])}))["colours"]
    assert (one.pictures, one.taken, one.classes) == (9, 6, "2 of its own")
    assert ("6 taken of 9") in str(examine(ood={"colours": folder("shift", drop=["red"])}))


def test_without_train_the_other_sets_are_there_but_not_examined(examine, root):
    """Without `classes`, the class names are the folders of train."""
    shutil.rmtree(root / "train")
    found = examine(shift={"dim": folder("shift"), "noisy": {"kind": "generated", "name": "noise", "of": "test"}})
    sets = by_name(found)
    assert {name: one.found for name, one in sets.items()} == {
        "train": False, "test": True, "dim": True, "noisy": True, "other": True,
    }  # fmt: skip
    assert sets["dim"].problems == [f"cannot be examined yet: there is nothing at {root / 'train'}."]
    assert not any(step.startswith("noisy") for step in found.steps)
    assert "its classes are the folders of train, not there yet" in str(found)


def test_corruptions_without_their_library_are_one_command(examine, monkeypatch):
    def absent():
        raise InputError("not installed")

    monkeypatch.setattr("reprog_kit.made_sets.library", absent)
    found = examine(shift={"weather": {"kind": "corrupted", "names": ["fog"]}})
    assert not by_name(found)["weather"].found
    assert found.steps[0].endswith('pip install -e ".[corruptions]".')


def test_a_misspelt_class_is_answered_with_the_nearest(examine):
    one = by_name(examine(ood={"colours": folder("shift", drop=["rde"])}))["colours"]
    assert one.problems[0].startswith("has no class 'rde', which the YAML's classes or drop name. Did you mean 'red'?")
