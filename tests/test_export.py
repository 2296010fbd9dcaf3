"""A classifier as one graph: torch's and onnxruntime's answers are the classifier's own, for every tower and method."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reprog_kit import export
from reprog_kit.baselines import FineTune, LinearProbe
from reprog_kit.classifier import Classifier
from reprog_kit.detection import SCORES
from reprog_kit.parameters import InputError
from reprog_kit.reprogrammer import Reprogrammer
from reprog_kit.zero_shot import ZeroShot

CLASSES = ("cat", "dog", "a man", "sky")
CAPTIONS = [f"a photo of a {name}" for name in CLASSES]
SIDE = 24  # smaller than every canvas, so that pictures are resized


def classifier(method: ZeroShot, name: str = "reprogrammer", alpha: float = 0.0, side: int = SIDE) -> Classifier:
    """Return a method as `load` would, without a file."""
    backbone = method.backbone
    about = {
        "model": backbone.name, "pretrained": backbone.pretrained, "backbone": backbone.fingerprint,
        "classes": list(CLASSES), "picture_side": side, "settings": {"method": name, "precision": "fp32"},
    }  # fmt: skip
    return Classifier(method, about, alpha)


def pictures(n: int, side: int = SIDE) -> np.ndarray:
    """Return blocks of colour with hard edges, so that a bicubic resize overshoots, under a little noise."""
    draw = np.random.default_rng(n)
    blocks = draw.choice([0, 255], (n, side // 4, side // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return np.clip(blocks + draw.integers(-20, 20, blocks.shape), 0, 255).astype(np.uint8)


def stirred(method: ZeroShot) -> ZeroShot:
    """Move every trained number a little, as training does, away from values that would hide a mistake."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in method.program_state().items():
            if value.is_floating_point() and name != "head_scale":
                value.add_(0.05 * value.abs().mean().clamp_min(0.1) * torch.randn_like(value))
    return method


def answers(path, images: np.ndarray) -> tuple[list[np.ndarray], dict]:
    """Run an exported file; return what it says, and what it says of itself."""
    if path.suffix == ".pt2":
        extra = {"about.json": ""}
        program = torch.export.load(path, extra_files=extra)
        with torch.no_grad():
            return [t.numpy() for t in program.module()(torch.from_numpy(images))], json.loads(extra["about.json"])
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape[0]) for i in session.get_inputs()] == [("images", "N")]
    assert [(o.name, o.shape[0]) for o in session.get_outputs()] == [("probabilities", "N"), ("id_score", "N")]
    about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
    return session.run(None, {"images": images}), about


@pytest.fixture(params=[".pt2", ".onnx"])
def file(request, tmp_path):
    """A name of either kind."""
    if request.param == ".onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    return tmp_path / f"graph{request.param}"


def assert_the_graph_agrees(made: Classifier, file, score: str = "msp", within: float = 1e-4) -> None:
    """Export, and compare for batches of several sizes; logits are 100 times cosines, which agree to about 1e-7."""
    assert made.export(file, score) == file
    for n in (1, 2, 7):
        images = pictures(n, made.picture_side)
        said, ((probabilities, scores), about) = made(images, score), answers(file, images)
        assert probabilities.dtype == np.float32 and probabilities.shape == (n, len(CLASSES)) and scores.shape == (n,)
        assert np.abs(probabilities - said.probabilities).max() <= within
        assert np.allclose(scores, said.scores, rtol=1e-5, atol=within)
    assert about["classes"] == list(CLASSES) and about["picture_side"] == made.picture_side


@pytest.mark.parametrize("kind", ["vit", "quick", "resnet", "custom", "last"])
def test_the_graph_of_a_reprogrammer_agrees_for_every_tower(backbones, kind, file):
    assert_the_graph_agrees(
        classifier(stirred(Reprogrammer(backbones(kind), CAPTIONS, padding=4, image_size=28))), file
    )


def test_the_graph_of_a_coca_tower_agrees(backbones, file):
    assert_the_graph_agrees(classifier(Reprogrammer(backbones("coca"), CAPTIONS, "image", padding=4)), file)


def test_the_graph_of_mini_agrees(mini, file):
    method = stirred(Reprogrammer(mini, CAPTIONS, padding=8, image_size=48))
    assert_the_graph_agrees(classifier(method, alpha=0.4), file)


def test_the_graph_of_a_residual_agrees(tiny, file):
    method = stirred(Reprogrammer(tiny, CAPTIONS, padding=4, image_size=20))
    assert_the_graph_agrees(classifier(method, alpha=0.4), file, "energy")


@pytest.mark.parametrize(("side", "alpha"), [(32, 0.4), (72, 0.0), (24, 1.0)])
def test_the_graph_agrees_whether_pictures_are_resized_or_not(tiny, side, alpha, tmp_path):
    made = classifier(stirred(Reprogrammer(tiny, CAPTIONS, padding=4)), alpha=alpha, side=side)
    assert_the_graph_agrees(made, tmp_path / "graph.pt2")


def biased(backbone) -> LinearProbe:
    """Return a probe whose bias decides as much as its weights."""
    method = stirred(LinearProbe(backbone, CAPTIONS))
    with torch.no_grad():
        method.weights_CD.mul_(30)
        method.bias_C.copy_(torch.tensor([1.0, -0.5, 0.3, 2.0]))
    return method


def test_the_graph_of_a_probe_with_a_bias_agrees(tiny, file):
    assert_the_graph_agrees(classifier(biased(tiny), "linear_probe"), file, "mcm")


@pytest.mark.parametrize("score", SCORES)
def test_the_graph_agrees_on_every_score(tiny, score, tmp_path):
    assert_the_graph_agrees(classifier(biased(tiny), "linear_probe"), tmp_path / "graph.pt2", score)


def test_the_graph_of_a_fine_tuned_tower_agrees(backbones, file):
    assert_the_graph_agrees(classifier(stirred(FineTune(backbones("resnet"), CAPTIONS)), "fine_tune"), file, "energy")


def test_every_score_has_its_twin_in_tensors():
    assert set(export.SCORES) == set(SCORES)


@pytest.mark.parametrize(("side", "to"), [(16, 32), (24, 17), (32, 224), (100, 30), (7, 7)])
def test_two_matrices_are_torchs_resize(side, to):
    x = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    matrix = export.resize_matrix(side, to)
    expected = F.interpolate(x[None], (to, to), mode="bicubic", antialias=True)[0]
    assert (matrix @ x @ matrix.T - expected).abs().max() <= 1e-5
    assert (matrix.sum(dim=1) - 1).abs().max() <= 1e-6  # a picture of one colour keeps it


def test_the_text_tower_stays_out_of_the_file(tiny, file):
    classifier(Reprogrammer(tiny, CAPTIONS, padding=4)).export(file)
    image_tower = sum(v.nbytes for v in tiny.clip.visual.state_dict().values())
    table = tiny.token_table.nbytes
    assert image_tower <= file.stat().st_size <= image_tower + 1_000_000 < table


def test_the_classifier_is_what_it_was_after_an_export(tiny, tmp_path):
    made = classifier(stirred(Reprogrammer(tiny, CAPTIONS, padding=4)), alpha=0.4)
    before, images = made(pictures(3)), pictures(3)
    made.export(tmp_path / "a.pt2")
    assert np.array_equal(made(images).probabilities, before.probabilities)
    assert not made.method.backbone.clip.visual.conv1.weight.requires_grad


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(tiny, tmp_path, monkeypatch):
    made = classifier(Reprogrammer(tiny, CAPTIONS, padding=4))
    for name in ("graph", "graph.pt", "graph.ONNX"):
        with pytest.raises(InputError, match=r"the name ends in \.pt2 .* or in \.onnx"):
            made.export(tmp_path / name)
    with pytest.raises(InputError, match=r"score = 'knn' is refused\. Known: msp"):
        made.export(tmp_path / "graph.pt2", score="knn")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnx and onnxscript: pip install onnx onnxscript onnxruntime\. "):
        made.export(tmp_path / "graph.onnx")

    def breaks(*args, **kwargs):
        raise RuntimeError("data-dependent\nand much more")

    monkeypatch.setattr(torch.export, "export", breaks)
    with pytest.raises(InputError, match=r"cannot export this image tower \(RuntimeError: data-dependent\)\.$"):
        made.export(tmp_path / "graph.pt2")
    assert list(tmp_path.iterdir()) == []
