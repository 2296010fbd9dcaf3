"""A program file as a classifier: what it says of pictures is what the evaluation says, and its graph says the same."""

import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.special import softmax

import reprog_kit
from reprog_kit.backbone import load_backbone
from reprog_kit.classifier import Prediction, load
from reprog_kit.detection import SCORES
from reprog_kit.evaluation import Evaluation
from reprog_kit.features import encode, head
from reprog_kit.parameters import InputError
from reprog_kit.programs import load_program, save_program
from reprog_kit.reprogrammer import Reprogrammer
from reprog_kit.run_folders import Run
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings

OWN = {
    "zero_shot": {},
    "reprogrammer": {"padding": 4, "image_size": 24, "image_lr": 0.05, "text_lr": 0.005},
    "linear_probe": {},
    "fine_tune": {"lr": 1e-2},
    "lp_ft": {"lr": 1e-2},
    "l2_sp": {"lr": 1e-2},
    "coop": {"contexts": 2, "lr": 1.0},
}


@pytest.fixture(scope="module")
def trained(tower, pictures, tmp_path_factory):
    """Return a function from a method to a run of it, trained once."""
    folder, made = tmp_path_factory.mktemp("classifier"), {}
    (folder / "colours.yaml").write_text(
        "side: 16\n"
        "id: {train: {kind: folder, path: train}, validation: 0.4, test: {kind: folder, path: test}}\n"
        "ood: {other: {kind: folder, path: other}}\n"
    )
    where = {
        "dataset": str(folder / "colours.yaml"), "model": tower("vit"), "data_root": str(pictures),
        "runs": str(folder / "runs"), "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    steps = {"epochs": 2, "batch_size": 6, "warmup_steps": 1, "keep": "last"}

    def train(method: str) -> Run:
        if method not in made:
            own = OWN[method] if method == "zero_shot" else {**steps, **OWN[method]}
            made[method] = train_run(TrainSettings.build(**where, method=method, **own))
        return made[method]

    return train


def evaluation(run: Run, **given) -> Evaluation:
    return Evaluation(EvaluateSettings(run=str(run.folder), runs=str(run.folder.parent), device="cpu", **given))


@pytest.mark.parametrize("method", OWN)
def test_a_classifier_says_what_the_evaluation_says(trained, pictures, method):
    run = trained(method)
    found, classifier = evaluation(run), load(run.folder, "cpu")
    test, files = found.data.test, sorted((pictures / "test").glob("*/*.png"))
    logits = found.logits(method, test)
    for images in (test.images_NHWC, files):  # as the benchmark holds them, and as they lie on the disk
        said = classifier(images)
        assert said.classes == classifier.classes == ("blue", "green", "red")
        assert list(said.labels) == [said.classes[i] for i in logits.argmax(axis=1)]
        assert np.abs(said.probabilities - softmax(logits, axis=1)).max() <= 1e-6
        assert np.abs(said.features - found.features(method, test)).max() <= 1e-6
        for score in SCORES:
            assert np.allclose(classifier(images, score).scores, found.scores(method, test, score), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_a_residual_classifier_says_what_the_evaluation_says(trained, alpha):
    run = trained("reprogrammer")
    found, classifier = evaluation(run, alpha=alpha), load(run.folder, "cpu", alpha)
    said = classifier(found.data.test.images_NHWC, "energy")
    assert np.abs(said.probabilities - softmax(found.logits("residual", found.data.test), axis=1)).max() <= 1e-6
    assert np.abs(said.scores - found.scores("residual", found.data.test, "energy")).max() <= 1e-6


def test_a_residual_whose_recipe_does_not_renormalise_is_left_as_it_comes(trained, tiny):
    classifier = load(trained("reprogrammer").folder, alpha=0.4, backbone=tiny)
    about = {**classifier.about, "settings": {**classifier.about["settings"], "renormalise": False}}
    plain = type(classifier)(classifier.method, about, 0.4)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert np.allclose(np.linalg.norm(classifier(images).features, axis=1), 1, atol=1e-6)
    assert (np.linalg.norm(plain(images).features, axis=1) < 0.999).all()


def test_a_classifier_is_features_and_a_head(trained, tiny):
    file = trained("reprogrammer").folder / "program.safetensors"
    method, images = load_program(file, tiny), np.full((2, 16, 16, 3), 90, np.uint8)
    weights, features = head(method, "fp32").weights_CD, encode(method, images)
    with torch.no_grad():
        expected = (100 * torch.from_numpy(features) @ torch.from_numpy(weights).T).softmax(dim=1)
    assert np.abs(load(file, backbone=tiny)(images).probabilities - expected.numpy()).max() <= 1e-6


@pytest.mark.parametrize("method", ["fine_tune", "lp_ft", "l2_sp"])
def test_a_fine_tuned_tower_is_restored_bit_for_bit(trained, tiny, method):
    run = trained(method)
    with safe_open(run.folder / "program.safetensors", "pt") as file:
        stored = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    restored = load(run.folder, "cpu").method
    tower = restored.tuned.clip.visual.state_dict()
    assert {k.removeprefix("visual.") for k in stored if k.startswith("visual.")} == set(tower)
    assert all(torch.equal(tower[k], stored[f"visual.{k}"]) for k in tower)
    assert any(not torch.equal(tower[k], v) for k, v in tiny.clip.visual.state_dict().items())
    assert torch.equal(restored.weights_CD, stored["weights_CD"]) and torch.equal(restored.bias_C, stored["bias_C"])


def test_many_pictures_are_classified_by_the_batch_to_the_same_answer(trained):
    classifier = load(trained("reprogrammer").folder, "cpu", 0.4)
    images = np.random.default_rng(0).integers(0, 256, (11, 20, 25, 3), dtype=np.uint8)
    whole, parts = classifier(images), classifier(images, batch_size=3)
    assert len(parts) == 11 and list(whole.labels) == list(parts.labels)
    assert np.abs(whole.probabilities - parts.probabilities).max() <= 1e-4  # the last bits of a cosine, times 100


def test_a_prediction_is_shown_as_a_table(trained):
    said = load(trained("zero_shot").folder, "cpu")(np.zeros((2, 16, 16, 3), np.uint8), "energy")
    assert isinstance(said, Prediction)
    table = said.table()
    assert list(table.columns) == ["label", "probability", "ID score (energy)"] and len(table) == 2
    assert table["probability"].tolist() == said.probabilities.max(axis=1).tolist()
    assert said.labels[0] in repr(said) and said.labels[0] in said._repr_html_()
    with pytest.raises(AttributeError):
        said.score = "msp"


def test_a_program_is_found_by_file_by_folder_and_from_another_folder(trained, tiny, tmp_path, monkeypatch):
    run = trained("reprogrammer")
    monkeypatch.setattr("reprog_kit.settings.project_root", lambda: run.folder.parent.parent)
    monkeypatch.chdir(tmp_path)
    for path in (run.folder, str(run.folder), run.folder / "program.safetensors", f"runs/{run.name}"):
        assert repr(reprog_kit.load(path, backbone=tiny)).startswith("<reprogrammer on local-dir:")


def test_the_precision_of_the_training_is_kept(trained):
    assert load(trained("reprogrammer").folder, "cpu").about["settings"]["precision"] == "fp32"


def test_what_cannot_be_loaded_is_refused(trained, backbones, tiny, tmp_path):
    folder = trained("reprogrammer").folder
    with pytest.raises(InputError, match=r"there is no program at .*nowhere: give a program\.safetensors, or a run"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no program at"):
        load(tmp_path)
    (tmp_path / "text.safetensors").write_text("no program")
    with pytest.raises(InputError, match="is no whole program file"):
        load(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match="belongs to another backbone"):
        load(folder, backbone=backbones("quick"))
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"alpha = .* is refused: it is the share of the zero-shot features"):
            load(folder, alpha=alpha, backbone=tiny)
    for alpha in (0.0, 0.4):
        with pytest.raises(InputError, match="is a linear_probe, and only a reprogrammer has a residual"):
            load(trained("linear_probe").folder, alpha=alpha)
    with pytest.raises(InputError, match=r"score = 'enrgy' is refused\. Did you mean 'energy'\? Known: msp, mcm"):
        load(folder, backbone=tiny)(np.zeros((1, 16, 16, 3), np.uint8), score="enrgy")


def test_weights_that_changed_since_training_are_refused(trained, tower, tmp_path):
    run, moved = trained("reprogrammer"), tmp_path / "tower"
    shutil.copytree(tower("vit").removeprefix("local-dir:"), moved)
    other = load_backbone(f"local-dir:{moved}", device="cpu")
    assert load(run.folder, backbone=other).classes  # the same weights at another place
    shutil.copy(tower("quick").removeprefix("local-dir:") + "/open_clip_config.json", moved)
    with pytest.raises(InputError, match="belongs to another backbone"):
        load(run.folder, backbone=load_backbone(f"local-dir:{moved}", device="cpu"))


@pytest.mark.slow
def test_a_program_for_ten_classes_of_vit_b_32_is_a_few_hundred_kilobytes(tmp_path):
    backbone = load_backbone("ViT-B-32", "random", "cpu")
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    method = Reprogrammer(backbone, [f"a photo of a {name}" for name in classes], padding=16)
    settings = TrainSettings(model="ViT-B-32", pretrained="random", padding=16)
    save_program(tmp_path / "program.safetensors", method, settings, classes, 32, 1)
    border = 3 * (224**2 - 192**2)
    size = (tmp_path / "program.safetensors").stat().st_size
    print(f"{size} bytes, {method.trainable_numbers()} numbers, {border} of them on the border")
    assert 4 * method.trainable_numbers() <= size <= 4 * method.trainable_numbers() + 4096
    assert size < 400_000
