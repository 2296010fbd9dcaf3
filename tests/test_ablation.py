"""The padding ablation: its grid, what is reused, its rows against the ledgers, its figures and the slider's view."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from reprog_kit import ablation
from reprog_kit.ablation import COLUMNS, ablate, grid, spread_widths
from reprog_kit.ablation_plots import padding_curves, width_pictures
from reprog_kit.ablation_tables import covered_share, finding, on_axis, padding_estimates, padding_table
from reprog_kit.explore_settings import AblationSettings
from reprog_kit.image_program import ImageProgram, border_mask
from reprog_kit.padding_view import example_pictures, nearest_width, png, trained_programs, view
from reprog_kit.padding_widgets import PaddingSlider, padding_slider
from reprog_kit.parameters import InputError
from reprog_kit.programs import load_program
from reprog_kit.run_folders import find_run
from reprog_kit.style import COLOURS

SIDE = 32  # of the tiny canvas
YAML = {"settings": {"epochs": 2, "batch_size": 8, "warmup_steps": 1, "padding": 4, "precision": "fp32"}}


@pytest.fixture
def asked(benchmark_file, pictures, tower, tmp_path):
    """Return a function that builds an ablation over the tiny colours."""

    def build(**given) -> AblationSettings:
        where = {"model": tower("vit"), "data_root": str(pictures), "runs": str(tmp_path / "runs"), "device": "cpu"}
        dataset = benchmark_file(**{**YAML, **given.pop("yaml", {})})
        return AblationSettings.build(**{**where, "dataset": dataset, "resamples": 5, **given})

    return build


@pytest.fixture
def trainings(monkeypatch):
    """The settings of every training, counted."""
    seen, real = [], ablation.train_run
    monkeypatch.setattr(ablation, "train_run", lambda each: seen.append(each) or real(each))
    return seen


@pytest.fixture
def evaluations(monkeypatch):
    """The runs of every evaluation, counted."""
    seen, real = [], ablation.score
    monkeypatch.setattr(ablation, "score", lambda evaluation: seen.append(evaluation.run.name) or real(evaluation))
    return seen


def made_up(paddings=(0, 4, 8), seeds=(1, 2), canvas=SIDE, own=4, shrink=False) -> pd.DataFrame:
    """Return rows whose values say where they come from."""
    sets = [("test", "id"), ("dim", "shift"), ("noisy", "shift"), ("other", "ood"), ("more", "ood")]
    rows = []
    for padding in paddings:
        for seed in seeds:
            for m, method in enumerate(("zero_shot", "reprogrammer", "residual")):
                for i, (name, role) in enumerate(sets):
                    of = ["fpr_at_95_id_recall", "auroc"] if role == "ood" else ["accuracy"]
                    for metric in of:
                        value = 0.5 + 0.02 * i
                        value += (
                            0 if method == "zero_shot" else 0.1 * m + 0.01 * padding - 0.001 * padding**2 + 0.002 * seed
                        )
                        rows.append({
                            "padding": padding, "image_size": canvas - 2 * padding if shrink else canvas, "seed": seed,
                            "set": name, "role": role, "method": method, "metric": metric,
                            "score": "msp" if role == "ood" else None, "value": value, "low": value - 0.02,
                            "high": value + 0.02, "n": 100, "run": f"r{padding}-s{seed}", "canvas": canvas,
                            "benchmark_padding": own,
                        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize(
    ("side", "own", "widths"),
    [
        (64, 4, [0, 4, 11, 16, 21, 27, 32]),
        (224, 16, [0, 16, 37, 56, 75, 93, 112]),
        (64, 1, [0, 1, 5, 11, 16, 21, 27, 32]),  # the ends stay
        (64, 0, [0, 5, 11, 16, 21, 27, 32]),
    ],
)
def test_without_paddings_about_seven_are_spread_over_the_canvas(side, own, widths):
    assert spread_widths(side, own) == widths


def test_the_grid_is_every_width_with_one_seed_then_with_the_next_and_else_the_benchmark(asked):
    runs = grid(asked(paddings=[8, 0], seeds=[3, 1]), SIDE)
    assert [(run.padding, run.seed) for run in runs] == [(0, 3), (8, 3), (0, 1), (8, 1)]
    assert {(run.method, run.epochs, run.image_size, run.program) for run in runs} == {
        ("reprogrammer", 2, None, "both")
    }
    assert all(run.resume for run in runs)


def test_a_picture_that_shrinks_stands_inside_the_border_and_stops_before_nothing_is_left(asked):
    runs = grid(asked(paddings=[0, 4, 15], image_size="shrink"), SIDE)
    assert [(run.padding, run.image_size) for run in runs] == [(0, 32), (4, 24), (15, 2)]
    spread = grid(asked(image_size="shrink"), SIDE)
    assert all(run.image_size == SIDE - 2 * run.padding >= 1 for run in spread)
    assert 4 in [run.padding for run in spread] and 16 not in [run.padding for run in spread]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"paddings": [0, 17]}, r"paddings = \[0, 17\] is refused: 17 px do not fit. .* 32 px 0 to 16 px can be had"),
        ({"paddings": [16], "image_size": "shrink"}, r"16 px leave nothing of a picture that shrinks. .* 0 to 15 px"),
        ({"paddings": [0], "program": "image"}, "with program = 'image' it is zero-shot, and nothing is left to train"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(asked, trainings, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        ablate(asked(**given))
    assert not trainings and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"paddings": [4, 4]}, r"paddings = \[4, 4\] is refused: 4 is there twice"),
        ({"seeds": "1,1"}, "1 is there twice"),
        ({"paddings": [-1]}, "paddings = -1 is refused"),
        ({"paddings": []}, "give the paddings as a list"),
        ({"program": "text"}, "'both' or 'image'"),
        ({"pading": 4}, "Did you mean 'padding"),
    ],
)
def test_settings_refuse_what_is_no_ablation(given, message):
    with pytest.raises(InputError, match=message):
        AblationSettings.build(**given)


def test_the_image_program_alone_has_no_run_at_0_and_says_so(asked, trainings, capsys):
    rows = ablate(asked(paddings=[0, 4], program="image", epochs=1))
    assert [each.padding for each in trainings] == [4] and set(rows["padding"]) == {4}
    assert "padding 0 is left out" in capsys.readouterr().out


def test_rows_are_the_ledgers_and_a_second_time_nothing_is_trained_or_evaluated(asked, trainings, evaluations, capsys):
    settings = asked(paddings=[0, 4], seeds=[1, 2], epochs=1)
    rows = ablate(settings)
    assert len(trainings) == len(evaluations) == 4
    assert "4 of 4: padding 4, seed 2: trained for 1 epochs" in capsys.readouterr().out
    for name, part in rows.groupby("run"):
        run = find_run(name, settings.runs)
        ledger = [row for row in run.results if row["role"] != "cost"]
        assert len(ledger) == len(part)
        keys = ("method", "set", "role", "metric", "score", "seed", "value", "low", "high", "n")
        assert [tuple(row[k] for k in keys) for row in ledger] == [
            tuple(None if pd.isna(row[k]) else row[k] for k in keys) for row in part.to_dict("records")
        ]
        assert set(part["padding"]) == {run.settings.padding} and set(part["image_size"]) == {SIDE}
    assert set(rows["benchmark_padding"]) == {4} and set(rows["canvas"]) == {SIDE}

    pd.testing.assert_frame_equal(ablate(settings), rows)
    assert len(trainings) == len(evaluations) == 4
    assert "1 of 4: padding 0, seed 1: reused; ID accuracy" in capsys.readouterr().out


def test_rows_at_another_alpha_stay_out_and_a_run_without_rows_is_only_evaluated(asked, trainings, evaluations):
    settings = asked(paddings=[4], epochs=1)
    rows = ablate(settings)
    run = find_run(rows["run"].iloc[0], settings.runs)
    other = [{**row, "variant": f"{row['variant']}, alpha 0.3"} for row in run.results if row["method"] == "residual"]
    run.add_results([{**row, "value": 0.123} for row in other])
    pd.testing.assert_frame_equal(ablate(settings), rows)
    (run.folder / "results.jsonl").unlink()
    again = ablate(settings)
    assert (len(trainings), len(evaluations)) == (1, 2)
    pd.testing.assert_frame_equal(again, rows)


def test_a_stop_ends_with_what_is_done_and_the_next_call_goes_on(asked, trainings, monkeypatch, capsys):
    import reprog_kit.runs as module

    settings, whole, real = asked(paddings=[0, 4, 8]), [], module.train

    def stopped(method, fit, validation, made, *rest):
        for epoch in real(method, fit, validation, made, *rest):
            yield epoch
            if made.padding == 4:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", stopped)
        rows = ablate(settings)
    assert set(rows["padding"]) == {0}
    assert "Stopped: 1 of 3 runs are done" in capsys.readouterr().out
    monkeypatch.setattr(module, "train", lambda *a: whole.append(a[4]) or real(*a))
    rows = ablate(settings)
    assert set(rows["padding"]) == {0, 4, 8}
    assert [each.padding for each in trainings] == [0, 4, 4, 8]
    assert [state is not None for state in whole] == [True, False]  # the first goes on from its checkpoint


def test_nothing_done_is_refused_by_name():
    with pytest.raises(InputError, match="no run of the ablation is done"):
        padding_estimates(pd.DataFrame(columns=list(COLUMNS)))


def test_axes_are_means_over_sets_in_each_seed_then_over_seeds():
    rows = made_up()
    found = padding_estimates(rows)
    part = on_axis(found, "shift accuracy", "reprogrammer")
    assert list(part.index) == [0, 4, 8]
    for padding in (0, 4, 8):
        of = rows[(rows["padding"] == padding) & (rows["role"] == "shift") & (rows["method"] == "reprogrammer")]
        seeds = [np.mean([v for v, s in zip(of["value"], of["seed"]) if s == seed]) for seed in (1, 2)]
        assert part["value"][padding] == pytest.approx(np.mean(seeds))
        assert part["std"][padding] == pytest.approx(np.std(seeds, ddof=1))
    assert list(on_axis(found, "AUROC", "zero_shot").index) == [0]
    assert list(on_axis(padding_estimates(made_up(shrink=True)), "AUROC", "zero_shot").index) == [0, 4, 8]


def test_curves_hold_the_rows_and_zero_shot_is_flat():
    rows = made_up()
    figure = padding_curves(rows)
    for i, (role, metric) in enumerate(
        [("id", "accuracy"), ("shift", "accuracy"), ("ood", "fpr_at_95_id_recall"), ("ood", "auroc")], start=1
    ):
        axis = "y" if i == 1 else f"y{i}"
        for method, label in (("reprogrammer", "reprogrammer"), ("residual", "residual"), ("zero_shot", "zero-shot")):
            (line,) = [t for t in figure.data if t.yaxis == axis and t.name == label]
            of = rows[(rows["role"] == role) & (rows["metric"] == metric) & (rows["method"] == method)]
            means = 100 * of.groupby("padding")["value"].mean()
            np.testing.assert_allclose(line.y, means if method != "zero_shot" else means.iloc[[0, 0]])
            assert line.line.color == COLOURS[method]
            assert list(line.x) == ([0, 4, 8] if method != "zero_shot" else [0, 8])
    (band,) = [t for t in figure.data if t.name == "reprogrammer ± std" and t.yaxis == "y"]
    of = rows[(rows["role"] == "id") & (rows["method"] == "reprogrammer")].groupby("padding")["value"]
    high, low = 100 * (of.mean() + of.std()), 100 * (of.mean() - of.std())
    np.testing.assert_allclose(band.y, [*high, *low[::-1]])
    for name in ("dim", "noisy"):
        (line,) = [t for t in figure.data if t.name == name]
        of = rows[(rows["set"] == name) & (rows["method"] == "reprogrammer")]
        np.testing.assert_allclose(line.y, 100 * of.groupby("padding")["value"].mean())
    assert figure.layout.xaxis.ticktext == ("0<br>0%", "4<br>44%", "8<br>75%")
    assert {shape.x0 for shape in figure.layout.shapes} == {4}


def test_one_seed_has_no_bands_and_one_width_no_best():
    figure = padding_curves(made_up(seeds=(1,)))
    assert not any(t.fill == "toself" for t in figure.data)
    assert "Reprogrammer, 1 seed: ID accuracy at 4 px" in finding(made_up(paddings=(4,), seeds=(1,)))
    padding_curves(made_up(paddings=(4,), seeds=(1,)))


def test_the_finding_says_where_it_is_best_and_whether_seeds_can_tell():
    text = finding(made_up(paddings=(0, 4, 5, 8)))  # 0.01 p - 0.001 p^2 peaks at 5, by 0.1 points over 4
    assert text.startswith(
        "Reprogrammer, 2 seeds: ID accuracy best at 5 px (62.8%, 0.1 points above the benchmark's 4 px"
    )
    assert "no difference that the seeds could tell" in text
    assert "best at 4 px (62.7%), the benchmark's width" in finding(made_up())
    same = made_up().assign(value=0.5)
    assert "ID accuracy best at 0 px (50.0%, as the benchmark's 4 px)" in finding(same)
    assert "above the worst, 0 px" in finding(made_up(paddings=(0, 2, 3)))


def test_the_table_has_a_line_a_width_and_zero_shot_once():
    table = padding_table(made_up())
    assert list(table.index)[:3] == [("zero-shot", "–"), ("reprogrammer", 0), ("reprogrammer", 4)]
    assert table.loc[("reprogrammer", 4), "ID accuracy"] == "62.7 ± 0.1" and len(table) == 7
    assert len(padding_table(made_up(shrink=True))) == 9


def test_covered_share_counts_pixels():
    for padding in (0, 3, 16):
        assert covered_share(padding, 32) == pytest.approx(border_mask(32, padding).float().mean().item())


def programs(side=SIDE, widths=(0, 4, 16)) -> dict[int, np.ndarray]:
    """Return random borders, channels last."""
    made = {w: ImageProgram(side, w, 1.0, torch.Generator().manual_seed(w)).perturbation().detach() for w in widths}
    return {w: added.permute(1, 2, 0).numpy() for w, added in made.items()}


@pytest.mark.parametrize(("padding", "nearest"), [(0, 0), (1, 0), (2, 4), (4, 4), (9, 4), (10, 16), (14, 16), (16, 16)])
@pytest.mark.parametrize("shrink", [False, True])
def test_the_view_against_a_slow_composition(padding, nearest, shrink):
    if shrink and padding == 16:
        padding, nearest = 15, 16
    rng, added = np.random.default_rng(padding), programs()
    picture = rng.integers(70, 180, (20, 20, 3), dtype=np.uint8)  # PIL cuts overshoot off between its two passes
    shown = view(picture, added, padding, shrink)
    assert shown.nearest == nearest == nearest_width(padding, added)

    size = SIDE - 2 * padding if shrink else SIDE
    resized = np.array(Image.fromarray(picture).resize((size, size), Image.BICUBIC)).astype(int)
    edge_SS = np.minimum.outer(*[np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1])] * 2)
    largest = np.abs(added[nearest][edge_SS < padding]).max(initial=0.0) or 1 / 255
    for y in range(SIDE):
        for x in range(SIDE):
            value = added[nearest][y, x] if min(y, x, SIDE - 1 - y, SIDE - 1 - x) < padding else np.zeros(3)
            at = (y - (SIDE - size) // 2, x - (SIDE - size) // 2)
            inside = 0 <= at[0] < size and 0 <= at[1] < size
            under = resized[at] if inside else np.zeros(3)
            seen = np.clip(under + 255 * value, 0, 255)
            assert np.abs(shown.reprogrammed_SSC[y, x] - seen).max() <= 2  # 8-bit resize against floats
            assert np.abs(shown.program_SSC[y, x] - 127.5 * (value / largest + 1)).max() <= 1
    whole = np.array(Image.fromarray(picture).resize((SIDE, SIDE), Image.BICUBIC)).astype(int)
    assert np.abs(shown.picture_SSC - whole).max() <= 1


def test_the_caption_says_what_is_shown_where_no_run_has_the_width():
    picture, added = np.zeros((8, 8, 3), np.uint8), programs()
    said = {padding: view(picture, added, padding).caption for padding in (0, 1, 2, 4, 9, 14)}
    assert said[0] == "0 px: no border; the text program alone was trained"
    assert said[1] == "1 px: the nearest run has 0 px, so there is no border to show"
    assert said[2] == "2 px: the nearest run has 4 px, shown are its outer 2"
    assert said[4] == "4 px, as trained"
    assert said[9] == "9 px: the nearest run has 4 px, shown is its border; nothing was trained further in"
    assert said[14] == "14 px: the nearest run has 16 px, shown are its outer 14"


def test_png_is_enlarged_by_whole_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    read = np.array(Image.open(io.BytesIO(png(pixels))))
    np.testing.assert_array_equal(read, pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_the_slider_shows_the_nearest_run_and_refuses_what_is_off_the_canvas():
    pictures = {name: np.full((8, 8, 3), grey, np.uint8) for name, grey in (("dark", 40), ("light", 200))}
    slider = PaddingSlider(pictures, programs(widths=(0, 4, 8)), padding_table(made_up()), 4)
    assert (slider.padding, slider.nearest, slider.caption) == (4, 4, "4 px, as trained")
    before = {name: image.value for name, image in slider._images.items()}
    slider.padding = 7
    assert slider.nearest == 8 and slider._images["reprogrammed_SSC"].value != before["reprogrammed_SSC"]
    assert slider._images["picture_SSC"].value == before["picture_SSC"]
    assert "62.8" not in slider._table.value and "61.9" in slider._table.value  # of 8 px
    slider.picture = "light"
    assert slider._images["picture_SSC"].value == png(np.full((SIDE, SIDE, 3), 200, np.uint8))
    for name, value, message in (("padding", 17, "0 to 16 px"), ("picture", "none", "no picture")):
        with pytest.raises(TraitError, match=message):
            setattr(slider, name, value)


def test_headless_the_slider_is_a_figure_at_the_benchmarks_width(asked, monkeypatch):
    settings = asked(paddings=[0, 8], epochs=1)
    rows = ablate(settings)
    figure = padding_slider(rows, settings)
    assert len(figure.layout.images or figure.data) == 3
    assert figure.layout.title.text.startswith("4 px: the nearest run has 8 px, shown are its outer 4")
    added = trained_programs(rows, settings)
    run = find_run(rows[rows["padding"] == 8]["run"].iloc[0], settings.runs)
    method = load_program(run.folder / "program.safetensors", ablation.load_backbone(settings.model, None, "cpu"))
    assert set(added) == {0, 8}
    expected = method.image_program.perturbation().detach().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(added[8], expected)
    pictures = example_pictures(ablation.BenchmarkData.of(run.settings))
    assert list(pictures) == ["blue", "green", "red", "dim (shift)"]
    assert all(pixels[..., i].mean() == pixels.mean((0, 1)).max() for pixels, i in zip(pictures.values(), (2, 1, 0)))
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert isinstance(padding_slider(rows, settings), PaddingSlider)


def test_the_figure_names_the_runs_figures():
    shown = view(np.zeros((8, 8, 3), np.uint8), programs(widths=(0, 4)), 4)
    title = width_pictures(shown, padding_table(made_up()), "five").layout.title.text
    assert "ID accuracy 62.7 ± 0.1" in title.replace("<br>", " ")
