"""params/cifar10.yaml as it is, on small files in the true formats: each set found, mapped by name, and scored."""

import shutil

import numpy as np
import pytest
from cifar_tree import CLASSES, RED, write_tree

from reprog_kit.data_doctor import doctor
from reprog_kit.datasets import BenchmarkData
from reprog_kit.evaluation import Evaluation
from reprog_kit.files import read_rows
from reprog_kit.results import score
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    write_tree(root / "data")
    return root


@pytest.fixture(scope="module")
def settings(tree):
    return TrainSettings.build(
        dataset="cifar10", model="mini", data_root=str(tree / "data"), runs=str(tree / "runs"), epochs=1,
        warmup_steps=1, batch_size=32, device="cpu",
    )  # fmt: skip


def test_every_set_is_found(settings):
    found = doctor(settings)
    sets = {one.name: one for one in found.sets}
    assert all(one.found for one in sets.values())
    assert sets["stl10"].classes == "9 of 10, by name"
    assert (sets["train"].pictures, sets["stl10"].pictures, sets["cifar10_c"].pictures) == (200, 40, 15 * 5 * 40)
    assert {one.in_train for one in sets.values() if one.in_train is not None} == {0}
    assert "its files are not the published ones (their checksums differ)." in sets["train"].problems


def test_every_label_is_the_class_that_is_painted(settings):
    data = BenchmarkData.of(settings)
    sets = {"train": data.train, "validation": data.validation, "test": data.test, **data.shift}
    assert set(data.shift) == {"cifar10_1", "cifar10_2", "stl10", "cifar10_c"}
    for name, found in sets.items():
        images = np.asarray(found.images_NHWC)
        assert images.shape[1:] == (32, 32, 3), name
        assert images[:, 16, 16, 0].tolist() == [RED[CLASSES[label]] for label in found.labels_N], name
    assert len(data.shift["stl10"]) == 36  # without its four monkeys
    assert (len(data.train), len(data.validation)) == (180, 20)
    assert {len(found) for found in data.ood.values()} == {20, 40}


@pytest.mark.slow
def test_a_run_is_trained_and_scored_on_every_set(settings):
    run = train_run(settings.model_copy(update={"limit": 60}))
    evaluation = Evaluation(EvaluateSettings.build(run=str(run.folder), runs=settings.runs, resamples=0))
    rows = score(evaluation)
    names = {name for name, _, _ in evaluation.data.specs()}
    assert {row["set"] for row in rows if row["role"] in ("id", "shift", "ood")} == names - {"train"}
    assert not [row for row in rows if "without" in row["variant"]]


@pytest.mark.slow
def test_sets_that_are_skipped_stand_in_the_ledger_with_the_figure(settings, tree, tmp_path):
    root = shutil.copytree(tree / "data", tmp_path / "data")
    shutil.rmtree(root / "iSUN")
    (root / "cifar10_2" / "cifar102_test.npz").unlink()
    quick = {"limit": 40, "data_root": str(root), "runs": str(tmp_path / "runs"), "missing_sets": "skip"}
    run = train_run(settings.model_copy(update={**quick, "method": "zero_shot"}))
    evaluation = Evaluation(EvaluateSettings.build(run=str(run.folder), runs=quick["runs"], resamples=0))
    score(evaluation)
    assert "without cifar10_2, isun, which are not there" in evaluation.describe()
    said = {row["variant"] for row in read_rows(run.folder / "results.jsonl")}
    without = "without cifar10_2, isun"
    assert said == {f"limit 40, {without}", f"limit 40, prompt ensemble, {without}"}
