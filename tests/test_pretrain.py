"""Pre-training of `mini`: data, captions, glyphs, loss, schedule, exact resume, and a folder that open_clip loads."""

import io
import math
import random

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from reprog_kit import pretrain, pretrain_data, pretrain_optim, pretrain_step
from reprog_kit.glyphs import draw_glyphs
from reprog_kit.parameters import InputError

RECIPE = {
    "packs": [
        {"file": "things.*.parquet", "split": "train", "style": "photo", "skip": ["rubbish"], "repeat": 2},
        {"file": "told.parquet", "style": "caption"},
    ],
    "templates": {
        "photo": ["a photo of a {}", "{}"],
        "digit": ["the digit {}"],
        "letter": ["the letter {}"],
        "caption": ["{}"],
    },
    "renamed": {"car_side": "car, automobile"},
    "coarse_share": 0.5,
    "coarse": {"ship, boat": ["lifeboat", "ketch"], "dog": ["terrier"]},
}


def _picture(colour: tuple[int, int, int], side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    labels = ["lifeboat", "car_side", "rubbish", "Irish terrier, terrier"] * 6
    shades = [(10 * i, 255 - 10 * i, 60 * (i % 4)) for i in range(24)]
    table = {
        "image": [_picture(c, side=32 if i == 0 else 64) for i, c in enumerate(shades)],
        "label": labels,
        "split": ["train"] * 20 + ["val"] * 4,
    }
    pq.write_table(pa.table(table), folder / "things.0.parquet")
    told = {"image": [_picture((9, 9, 9))], "captions": [["A black square .", "Nothing to see ."]]}
    pq.write_table(pa.table(told), folder / "told.parquet")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


@pytest.fixture(scope="module")
def corpus(root):
    return pretrain_data.read_corpus(root, RECIPE)


def _settings(root, out, **given):
    small = {"epochs": 2, "batch_size": 16, "glyphs": 17, "sides": [32], "sides_from": [0.0], "device": "cpu"}
    return pretrain.PretrainSettings.build(params=str(root / "recipe.yaml"), out=str(out), **{**small, **given})


def test_corpus_takes_the_split_leaves_out_the_skipped_and_splits_names(corpus):
    assert corpus.counts() == {"photo": 15, "caption": 1}
    assert corpus.repeats_N.tolist() == [2] * 15 + [1]
    assert [names for _, names in corpus.classes] == [
        ("lifeboat",),
        ("car", "automobile"),
        ("Irish terrier", "terrier"),
        ("A black square .", "Nothing to see ."),
    ]
    # The second picture kept is row 1 of the pack, and its colour is the pack's.
    assert corpus.images_N3SS.shape == (16, 3, 64, 64)
    assert corpus.images_N3SS[1, :, 5, 5].tolist() == [10, 245, 60]


def test_limit_spreads_over_the_pack_and_a_missing_folder_is_named(root, tmp_path):
    _, rows = pretrain_data.read_pack(root / "things.0.parquet", "train", limit=3)
    assert [row["label"] for row in rows] == ["lifeboat", "rubbish", "Irish terrier, terrier"]
    with pytest.raises(InputError, match="data_root"):
        pretrain_data.read_corpus(tmp_path, RECIPE)


def test_captions_are_distinct_and_one_a_class(corpus):
    captioner = pretrain_data.Captioner(corpus.classes, RECIPE)
    seen = set()
    for seed in range(40):
        labels = torch.tensor([0, 1, 2, 1, 0, 3])
        captions, target = captioner(labels, random.Random(seed))
        assert len(set(captions)) == len(captions) == 4
        assert target.tolist() == [0, 1, 2, 1, 0, 3]
        seen |= set(captions)
    assert {"a photo of a boat", "ship", "a photo of a lifeboat", "a photo of a dog", "A black square ."} <= seen


def test_every_text_covers_every_token_of_the_captions(corpus):
    captioner, tokenize = pretrain_data.Captioner(corpus.classes, RECIPE), open_clip.SimpleTokenizer(context_length=16)
    known = set(tokenize(captioner.every_text()).flatten().tolist())
    for seed in range(40):
        captions, _ = captioner(torch.arange(4), random.Random(seed))
        assert set(tokenize(captions).flatten().tolist()) <= known


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Irish terrier", ("dog",)),
        ("lifeboat", ("ship", "boat")),
        ("terrierist", ()),
        ("Ketch", ("ship", "boat")),
    ],
)
def test_hypernyms_match_whole_last_words(name, expected):
    assert pretrain_data.hypernyms((name,), RECIPE["coarse"]) == expected


def test_a_seed_draws_the_same_glyphs_and_classes_look_different():
    pytest.importorskip("matplotlib")
    images, chars = draw_glyphs(400, seed=3)
    again, same = draw_glyphs(400, seed=3)
    assert torch.equal(images, again) and chars == same
    assert not torch.equal(images[:9], draw_glyphs(9, seed=4)[0])
    assert images.shape == (400, 3, 64, 64) and images.dtype == torch.uint8
    assert 0.7 < np.mean([c.isdigit() for c in chars]) < 0.9
    # Ink, whatever the tone: how far a pixel is from the paper, the commonest value on the edge.
    grey = images.float().mean(1)
    paper = torch.stack([g[0, :].median() for g in grey])[:, None, None]
    ink = (grey - paper).abs()
    means = torch.stack([ink[[c == d for c in chars]].mean(0) for d in "0123456789"])
    assert (torch.pdist(means.flatten(1) / means.flatten(1).norm(dim=1, keepdim=True)) > 0.1).all()
    assert (ink.amax((1, 2)) > 25).all(), "a glyph is blank"


def test_augment_keeps_range_and_never_flips_a_glyph():
    half = torch.zeros(64, 3, 64, 64, dtype=torch.uint8)
    half[..., 32:] = 255  # dark on the left
    generator = torch.Generator().manual_seed(0)
    x = pretrain_data.augment(half, torch.arange(64) < 32, 40, generator)
    assert x.shape == (64, 3, 40, 40) and x.min() >= 0 and x.max() <= 1
    dark_left = (x[..., :8].mean((1, 2, 3)) <= x[..., -8:].mean((1, 2, 3))).tolist()
    assert all(dark_left[:32]) and not all(dark_left[32:])
    assert half.float().mean() == 127.5, "the pictures in memory were changed"


def test_loss_agrees_with_a_slow_loop():
    logits, target = torch.randn(7, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 0, 2, 1])
    rows = logits.tolist()
    image = sum(-rows[b][t] + math.log(sum(math.exp(v) for v in rows[b])) for b, t in enumerate(target.tolist())) / 7
    caption = 0.0
    for c in range(3):
        total = math.log(sum(math.exp(row[c]) for row in rows))
        own = [total - row[c] for row, t in zip(rows, target.tolist(), strict=True) if t == c]
        caption += sum(own) / len(own) / 3
    assert pretrain_step.contrastive_loss(logits, target, 0.3).item() == pytest.approx(image + 0.3 * caption, abs=1e-12)


def test_schedule_rises_stays_and_falls_to_zero(root, tmp_path):
    settings = _settings(root, tmp_path, sides=[40, 64], sides_from=[0, 0.75], warmup=0.1, decay_from=0.5)
    factors, sides = zip(*(pretrain.schedule(p, settings) for p in (0, 0.05, 0.1, 0.5, 0.75, 1)), strict=True)
    assert factors == pytest.approx((0, 0.5, 1, 1, 0.5, 0))
    assert sides == (40, 40, 40, 40, 64, 64)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24)])
def test_orthogonal_brings_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, before, right = torch.linalg.svd(matrix, full_matrices=False)
    after = pretrain_optim.orthogonal(matrix)
    values = (left.T @ after @ right.T).diagonal()
    assert before.max() / before.min() > 2
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_resumed_run_ends_as_an_unbroken_one_and_open_clip_loads_it(corpus, root, tmp_path):
    pytest.importorskip("matplotlib")
    whole, parts = _settings(root, tmp_path / "whole"), _settings(root, tmp_path / "parts")
    records = list(pretrain.pretrain(corpus, whole))
    broken = pretrain.pretrain(corpus, parts)
    next(broken)
    broken.close()  # killed after the first checkpoint
    assert not (tmp_path / "parts" / "open_clip_model.safetensors").exists()
    resumed = list(pretrain.pretrain(corpus, parts))
    assert [r["epoch"] for r in records] == [1, 2] and [r["epoch"] for r in resumed] == [2]
    assert resumed[0]["loss"] == records[1]["loss"]
    files = [tmp_path / name / "open_clip_model.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len((tmp_path / "parts" / "history.jsonl").read_text().splitlines()) == 2

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'whole'}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'whole'}")(["a photo of a car"])
    assert tokens.shape == (1, 16) and model.encode_text(tokens).shape == (1, 256)
    assert model.encode_image(transform(Image.new("RGB", (50, 70)))[None]).shape == (1, 256)
    table = model.token_embedding.weight
    used = table[tokens[0, :7]]
    assert (used.norm(dim=1) > 0).all() and (table.norm(dim=1) > 0).sum() < 100, "rows of unused tokens are not zero"


def test_zero_shot_accuracy_reads_a_pack_and_the_digits(monkeypatch, root):
    entries = [
        {"name": "things", "set": "things.*.parquet", "split": "train", "template": "a photo of a {}"},
        {"name": "digits", "set": "digits", "template": "the digit {}"},
    ]
    encoder = pretrain.new_encoder(["a photo of a car"])
    encoder.clip.eval()
    monkeypatch.setattr(pretrain, "load_backbone", lambda *_, **__: encoder)
    found = pretrain.zero_shot_accuracy("any", entries, root, limit=20)
    assert [(f["set"], f["classes"], f["n"]) for f in found] == [("things", 4, 20), ("digits", 10, 20)]
    assert all(0 <= f["accuracy"] <= 100 for f in found)
