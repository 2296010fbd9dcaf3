"""Maps of runs: whose features they show, what is said of each picture, and what cannot stand side by side."""

import os
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from reprog_kit import map_panels, map_plots
from reprog_kit.explore_settings import UmapSettings
from reprog_kit.map_panels import FeatureMaps
from reprog_kit.map_sources import shown_runs
from reprog_kit.parameters import InputError
from reprog_kit.runs import train_run
from reprog_kit.settings import TrainSettings

QUICK = {"epochs": 2, "batch_size": 8, "warmup_steps": 1, "device": "cpu", "precision": "fp32"}
METHODS = ("reprogrammer", "linear_probe", "fine_tune")


@pytest.fixture(scope="module")
def trained(pictures, tower, tmp_path_factory):
    """Runs of three methods on the colours, the reprogrammer trained last but one."""
    folder = tmp_path_factory.mktemp("maps")
    file = folder / "colours.yaml"
    file.write_text(
        "side: 16\n"
        "id: {train: {kind: folder, path: train}, validation: 0.2, test: {kind: folder, path: test}}\n"
        "shift: {dim: {kind: folder, path: shift}}\n"
        "ood: {other: {kind: folder, path: other}, blocks: {kind: generated, name: pixelate, of: test}}\n"
    )
    where = {"dataset": str(file), "model": tower("vit"), "data_root": str(pictures), "runs": str(folder / "runs")}
    own = {"reprogrammer": {"padding": 4, "image_lr": 0.05}, "fine_tune": {"lr": 1e-3}}
    runs = {m: train_run(TrainSettings.build(method=m, **where, **QUICK, **own.get(m, {}))) for m in METHODS}
    for second, run in enumerate(runs.values()):
        os.utime(run.folder / "program.safetensors", (second, second))
    return file, runs


@pytest.fixture
def build(trained, monkeypatch):
    """Return a function that makes maps without UMAP: the first two features are the map."""
    monkeypatch.setattr(map_panels, "feature_map", lambda features, settings: features[:, :2])
    file, runs = trained
    folder = str(runs["reprogrammer"].folder.parent)
    return lambda **given: FeatureMaps(
        UmapSettings.build(**{"dataset": str(file), "runs": folder, "neighbours": 3, **given})
    )


def test_a_linear_probe_shares_zero_shots_map_and_a_reprogrammer_brings_its_residual(build):
    maps = build(alpha=0.5)
    assert [panel.methods for panel in maps.panels] == [
        ("zero-shot", "linear probe"), ("reprogrammer",), ("residual",), ("fine-tuning",),
    ]  # fmt: skip
    assert maps.set == "dim" and len(maps.pictures) == 9
    plain, own, mixed, _ = (panel.features_MD for panel in maps.panels)
    half = (plain + own) / 2
    np.testing.assert_allclose(mixed, half / np.linalg.norm(half, axis=1, keepdims=True), atol=1e-5)


def test_the_numbers_are_those_of_the_known_classes(build):
    maps = build(overlay="other", count=7)
    assert len(maps.pictures) == 7 and (maps.labels_M[7:] == -1).all() and len(maps.labels_M) == 13
    assert np.bincount(maps.pictures.labels_N).tolist() == [3, 2, 2]  # classes in turn
    assert set(maps.sets_M) == {"dim", "other"}
    for panel in maps.panels:
        want = silhouette_score(panel.features_MD[:7], maps.labels_M[:7], metric="cosine")
        assert panel.silhouette == pytest.approx(want)
        want = silhouette_score(panel.map_M2[:7], maps.labels_M[:7])
        assert panel.map_silhouette == pytest.approx(want)
        assert 0 <= panel.apart <= 1
    table = maps.table()
    assert list(table.index) == ["zero-shot = linear probe", "reprogrammer", "residual", "fine-tuning"]
    assert table["features", "silhouette"].iloc[1] == f"{maps.panels[1].silhouette:.2f}"
    assert ("OOD", "OOD among its 3 nearest, %") in table
    assert "6 of other" in maps.describe() and "at best" in maps.describe()


def test_answers_and_scores_are_those_of_the_evaluation(build):
    maps = build(score="energy", overlay=["blocks"])
    evaluation = next(e for e in maps.evaluations if "residual" in e.methods)
    said = maps.answers["residual"]
    dim, blocks = evaluation.sets["dim"][1], evaluation.sets["blocks"][1]
    np.testing.assert_array_equal(said.answers_M[:9], evaluation.logits("residual", dim).argmax(axis=1))
    np.testing.assert_allclose(said.scores_M[9:], evaluation.scores("residual", blocks, "energy")[:], rtol=1e-6)
    np.testing.assert_array_equal(maps.picture(0), dim.images_NHWC[0])
    np.testing.assert_array_equal(maps.picture(9), blocks.images_NHWC[0])
    with pytest.raises(IndexError):
        maps.picture(len(maps.labels_M))


def test_the_newest_run_of_each_method_is_shown_or_those_that_are_named(trained, build):
    file, runs = trained
    folder = str(runs["reprogrammer"].folder.parent)
    found = shown_runs(UmapSettings.build(dataset=str(file), runs=folder))
    assert [run.settings.method for run in found] == ["linear_probe", "reprogrammer", "fine_tune"]
    names = f"{runs['fine_tune'].name},{runs['reprogrammer'].name}"
    assert [panel.name for panel in build(runs_shown=names).panels] == [
        "zero-shot", "fine-tuning", "reprogrammer", "residual",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no run of demo in .* -p dataset demo"):
        shown_runs(UmapSettings.build(runs=folder))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"set": "dimm"}, r"set = 'dimm' is refused\. Did you mean 'dim'\? Known: test, dim\."),
        ({"set": "other"}, "set = 'other' is refused"),
        ({"overlay": ["dim"]}, r"overlay = 'dim' is refused.*Known: other, blocks."),
    ],
)
def test_sets_that_are_not_there_are_refused(build, given, message):
    with pytest.raises(InputError, match=message):
        build(**given)


def test_runs_of_another_backbone_cannot_stand_beside_each_other(build, trained, tower):
    made = trained[1]["reprogrammer"].settings
    other = train_run(made.model_copy(update={"model": tower("quick")}))
    os.utime(other.folder / "program.safetensors", (0, 0))
    with pytest.raises(InputError, match="differ in classes or in the backbone"):
        build(runs_shown=[trained[1]["reprogrammer"].name, other.name])


def test_one_class_alone_has_no_silhouette_and_that_is_said(build):
    maps = build()
    maps.pictures = maps.pictures.take(np.flatnonzero(maps.pictures.labels_N == 0).repeat(3))
    assert all(np.isnan(panel.silhouette) and panel.purity == 1 for panel in maps.panels)
    assert "no silhouette" in maps.describe() and (maps.table()["features", "silhouette"] == "–").all()
    assert "no silhouette" in map_plots.finding(maps)


def _points(figure):
    return [trace for trace in figure.data if trace.customdata is not None]


def test_the_figure_draws_every_picture_once_a_panel_and_marks_wrong_answers(build):
    maps = build(overlay="other")
    figure = map_plots.feature_maps(maps)
    texts = map_plots.hover_texts(maps)
    for number, panel in enumerate(maps.panels):
        axis = f"x{number + 1 if number else ''}"
        traces = [trace for trace in _points(figure) if (trace.xaxis or "x") == axis]
        drawn = np.concatenate([trace.customdata for trace in traces])
        assert sorted(drawn.tolist()) == list(range(15))
        wrong = set(np.flatnonzero(maps.answers[panel.methods[-1]].answers_M != maps.labels_M)) & set(range(9))
        white = set()
        for trace in traces:
            np.testing.assert_array_equal(np.stack([trace.x, trace.y], axis=1), panel.map_M2[trace.customdata])
            assert list(trace.text) == [texts[i] for i in trace.customdata]
            if not isinstance(trace.marker.color, str):
                white |= {i for i, shade in zip(trace.customdata, trace.marker.color) if shade == "#FFFFFF"}
        assert white == wrong
        assert f"silhouette {panel.silhouette:.2f}" in figure.layout.annotations[number].text
    shown = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert shown == ["blue", "green", "red", "other (OOD)", "white inside: wrong answer"]
    assert figure.layout.title.text.replace("<br>", " ") == map_plots.finding(maps)


def test_hover_names_class_answers_and_scores(build):
    maps = build(overlay="other")
    text, outside = (map_plots.hover_texts(maps)[i] for i in (0, 12))
    said = maps.answers["reprogrammer"]
    assert text.startswith(f"<b>{maps.classes[maps.labels_M[0]]}</b> (dim)")
    assert f"reprogrammer: {maps.classes[said.answers_M[0]]}" in text and f"MSP {said.scores_M[0]:.3g}" in text
    assert (" ✗" in text) == any(a.answers_M[0] != maps.labels_M[0] for a in maps.answers.values())
    assert outside.startswith("<b>other</b> (OOD)") and "✗" not in outside


def test_of_many_classes_the_ten_most_frequent_are_named(build):
    maps = build()
    maps.classes = tuple(f"c{i}" for i in range(14))
    labels = np.repeat(np.arange(14), [1, 1, 1, 1, *[2] * 10])
    maps.pictures = replace(maps.pictures, labels_N=labels)
    groups = map_plots._groups(maps)
    assert [name for name, _, _ in groups] == ["4 other classes", *(f"c{i}" for i in range(4, 14))]
    assert groups[0][1].tolist() == [0, 1, 2, 3] and groups[0][2] == map_plots.REST
    assert len({style for _, _, style in groups}) == 11


def test_the_finding_names_the_widest_apart_and_calls_small_differences_alike(build):
    maps = build()
    plain, own, *_ = maps.panels
    maps.panels = (replace(plain, silhouette=0.2, purity=0.7), replace(own, silhouette=0.3, purity=0.6))
    assert map_plots.finding(maps) == (
        "dim: classes stand apart most for reprogrammer (silhouette 0.30, zero-shot 0.20); "
        "purest neighbours: zero-shot, 70.0%"
    )
    maps.panels = (maps.panels[0], replace(own, silhouette=0.21, purity=0.8))
    assert "alike in all features (silhouette 0.20 to 0.21); purest neighbours: reprogrammer" in map_plots.finding(maps)


def test_the_explorer_shows_the_picture_that_was_pointed_at(build, monkeypatch):
    from traitlets import TraitError

    from reprog_kit.map_widgets import MapExplorer, map_explorer

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    maps = build(overlay="other")
    assert type(map_explorer(maps)).__name__ == "Figure"
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    explorer = map_explorer(maps)
    assert isinstance(explorer, MapExplorer) and explorer.chosen == 0
    before = explorer.image.value
    trace = next(trace for trace in explorer.figure.data if trace.customdata is not None and 4 in trace.customdata)
    point = list(trace.customdata).index(4)
    explorer._pointed(trace, type("Points", (), {"point_inds": [point]}), None)
    assert explorer.chosen == 4 and explorer.image.value != before
    assert map_plots.hover_texts(maps)[4] in explorer.text.value
    rings = [(ring.x[0], ring.y[0]) for ring in explorer._rings]
    np.testing.assert_array_equal(rings, [panel.map_M2[4] for panel in maps.panels])
    with pytest.raises(TraitError, match="there are 15 pictures"):
        explorer.chosen = 15


def test_a_small_picture_is_enlarged_with_its_pixels_square():
    import io

    from PIL import Image

    from reprog_kit.map_widgets import enlarged

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    found = np.asarray(Image.open(io.BytesIO(enlarged(pixels, 100))))
    np.testing.assert_array_equal(found, pixels.repeat(7, axis=0).repeat(7, axis=1))
