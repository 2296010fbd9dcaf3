"""params/imagenet.yaml as it is, on a tree in the true layout: every set found, mapped, trained on and scored."""

import numpy as np
import pytest
from imagenet_tree import WNIDS, write_tree

from reprog_kit.data_doctor import doctor
from reprog_kit.datasets import BenchmarkData
from reprog_kit.evaluation import Evaluation
from reprog_kit.results import score
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    write_tree(root / "data")
    return root


@pytest.fixture(scope="module")
def settings(tree):
    return TrainSettings.build(
        dataset="imagenet", model="mini", data_root=str(tree / "data"), runs=str(tree / "runs"),
        epochs=1, warmup_steps=1, batch_size=64, limit=150, device="cpu",
    )  # fmt: skip


def test_every_set_is_found_with_its_classes(settings):
    sets = {one.name: one for one in doctor(settings).sets}
    assert {name: one.classes for name, one in sets.items() if one.role != "ood"} == {
        "train": "1000 of 1000, by id",
        "test": "1000 of 1000, by id",
        "imagenet_v2": "1000 of 1000, by number",
        "imagenet_v2_threshold": "1000 of 1000, by number",
        "imagenet_v2_top": "1000 of 1000, by number",
        "imagenet_a": "200 of 1000, by id",
        "imagenet_r": "200 of 1000, by id",
        "imagenet_sketch": "1000 of 1000, by id",
    }
    assert {name: one.pictures for name, one in sets.items() if one.role == "ood"} == {
        "inaturalist": 200, "sun": 200, "places": 200, "dtd": 94,
    }  # fmt: skip
    assert all("the published set has" in problem for one in sets.values() for problem in one.problems)


def test_labels_are_those_of_the_true_layout(settings):
    data = BenchmarkData.of(settings.model_copy(update={"limit": None}))
    listed = {name: data.listed(name, role, spec) for name, role, spec in data.specs() if role != "ood"}
    assert listed["test"].labels_N.tolist() == list(
        range(1000)
    )  # by the devkit, whose own numbers are in another order
    for name in ("train", "imagenet_a", "imagenet_sketch"):
        folders = [place.split("/")[-2] for place in listed[name].listing.places]
        assert [WNIDS[label] for label in listed[name].labels_N] == folders
    folders = [int(place.split("/")[-2]) for place in listed["imagenet_v2"].listing.places]
    assert listed["imagenet_v2"].labels_N.tolist() == folders
    assert data.captions[WNIDS.index("n04008634")] == "a photo of a projectile"
    assert len(set(data.captions)) == 1000


@pytest.mark.slow
def test_a_run_is_trained_and_scored_on_every_set(settings, monkeypatch):
    run = train_run(settings)
    assert run.finished
    yaml = TrainSettings.build(dataset="imagenet")
    assert (yaml.model, yaml.pretrained, yaml.padding) == ("ViT-B-32", "openai", 16)
    evaluation = Evaluation(EvaluateSettings.build(run=str(run.folder), runs=settings.runs, resamples=0))
    # 80 templates of 1,000 classes take a minute here; what they give is tested elsewhere.
    monkeypatch.setattr(evaluation, "methods", tuple(m for m in evaluation.methods if m != "prompt_ensemble"))
    monkeypatch.delitem(evaluation._models, "prompt_ensemble")
    encoded, real = [], type(evaluation.method.backbone).encode_text
    monkeypatch.setattr(
        type(evaluation.method.backbone), "encode_text", lambda *given: (encoded.append(len(given[1])), real(*given))[1]
    )
    rows = score(evaluation)
    assert encoded == [1000, 1000]  # the captions once for the program, once for zero-shot, whatever is scored
    assert {row["set"] for row in rows if row["role"] != "cost"} == {name for name, _, _ in evaluation.data.specs()} - {
        "train"
    }
    assert {row["method"] for row in rows} == {"zero_shot", "reprogrammer", "residual"}
    for name in ("imagenet_a", "imagenet_r"):
        data = evaluation.data.shift[name]
        assert len(data.covered) == 200
        answers = evaluation.logits("reprogrammer", data).argmax(axis=1)
        assert set(answers.tolist()) <= set(data.covered)  # scored over its own classes, not over 1,000
    assert np.isfinite([row["value"] for row in rows]).all()
