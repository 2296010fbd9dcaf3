"""Pre-training of `mini`, the text-image encoder that ships with the project; notebooks/pretrain_mini.ipynb runs it.

Shape suffixes: B pictures of a batch, N pictures in all, C distinct captions, L tokens, D embedding, S the canvas.
"""

from __future__ import annotations

import json
import logging
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save
from torch import nn

from .backbone import Backbone, load_backbone
from .files import write_whole
from .generated import DIGIT_NAMES, DIGIT_SPLITS, digits
from .listings import list_parquet
from .pretrain_data import CANVAS, Captioner, Corpus, augment, names_of, with_glyphs
from .pretrain_optim import load_checkpoint, optimizers_of, save_checkpoint
from .pretrain_step import Towers, train_step
from .settings import NotebookSettings, in_project, read_yaml
from .sources import decode
from .specs import Parquet

logger = logging.getLogger(__name__)
CONFIG = {
    "model_cfg": {
        "embed_dim": 256,
        # A tower that pools by averaging can be trained on smaller pictures than it is used on.
        "vision_cfg": {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": CANVAS},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


class PretrainSettings(NotebookSettings):
    """What a pre-training run may set, beside the lists of packs, names and templates in its YAML."""

    params: str = Field("params/pretrain_mini.yaml", description="the YAML of the recipe")
    data_root: str | None = Field(None, description="folder of the parquet packs; default $REPROG_DATA, else data/")
    out: str = Field("runs/pretrain_mini", description="folder of the checkpoint, the history and the model")
    epochs: int = Field(7, ge=1, description="passes over the data")
    batch_size: int = Field(512, ge=8, description="pictures a step")
    glyphs: int = Field(12000, ge=1, description="digits and letters drawn anew for each epoch")
    sides: list[int] = Field([CANVAS], description="px of the training crops, one after the other")
    sides_from: list[float] = Field([0.0], description="share of the run from which on each side is used")
    muon_lr: float = Field(0.03, gt=0, description="Muon's step on the matrices of both towers")
    adam_lr: float = Field(2e-3, gt=0, description="AdamW's step on all other numbers")
    weight_decay: float = Field(0.05, ge=0, description="decoupled, on Muon's matrices only")
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the run in which the steps grow")
    decay_from: float = Field(0.4, ge=0, lt=1, description="share of the run from which on they shrink to zero")
    caption_weight: float = Field(0.3, ge=0, description="of the caption-to-image loss; image-to-caption has 1")
    limit: int | None = Field(None, ge=1, description="at most so many pictures of each file (a quick look)")
    seed: int = Field(0, ge=0, description="of initial values, order, captions, augmentation and glyphs")
    threads: int = Field(2, ge=1, le=2, description="parts of a batch that go through the image tower side by side")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `settings` of the recipe's YAML."""
        return read_recipe(given.get("params", "params/pretrain_mini.yaml")).get("settings") or {}


def read_recipe(params: str) -> dict[str, Any]:
    """Return the YAML with packs, names and templates."""
    return read_yaml(in_project(params))


def new_encoder(texts: Sequence[str], seed: int = 0, device: str = "cpu") -> Backbone:
    """Return an encoder with new weights that learns.

    The rows of tokens that none of the texts holds start at zero and, having no gradient, stay there: 11 of the
    file's 24 MB, which pack to nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "open_clip_config.json").write_text(json.dumps(CONFIG))
        logging.disable(logging.WARNING)  # open_clip warns that there are no weights: that is the point
        try:
            encoder = load_backbone(f"local-dir:{folder}", "random", device, seed)
        finally:
            logging.disable(logging.NOTSET)
    encoder.clip.requires_grad_(True)
    unused = torch.ones(len(encoder.token_table), dtype=torch.bool)
    unused[encoder.tokenizer(list(texts)).unique()] = False
    encoder.token_table.data[unused] = 0
    return encoder


def schedule(progress: float, settings: PretrainSettings) -> tuple[float, int]:
    """Return the factor of the step sizes and the side of the crops in px, at a share 0-1 of the run.

    The factor is level between its rise and its fall, so that a run can be given more or fewer epochs on the way.
    """
    up = progress / settings.warmup if settings.warmup else 1.0
    down = (1 - progress) / (1 - settings.decay_from)
    sides = zip(settings.sides, settings.sides_from, strict=True)
    return min(1.0, up, down), [side for side, start in sides if progress >= start][-1]


def batches(corpus: Corpus, settings: PretrainSettings, epoch: int) -> Iterator[tuple]:
    """Yield (images_BCHW, captions, target_B, factor) of an epoch, made a batch ahead in a thread."""
    # All chance comes from the epoch's own generators: a checkpoint need not hold their state.
    generator = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
    rng = random.Random(settings.seed * 1000 + epoch)
    corpus = with_glyphs(corpus, min(settings.glyphs, settings.limit or settings.glyphs), rng.randrange(2**31))
    captioner, glyph_N = Captioner(corpus.classes, read_recipe(settings.params)), corpus.is_glyph()
    order = torch.arange(len(corpus.labels_N)).repeat_interleave(corpus.repeats_N)
    split = order[torch.randperm(len(order), generator=generator)].split(settings.batch_size)
    # A short last batch has noisy batch statistics and few captions to tell apart.
    split = [rows for rows in split if len(rows) == len(split[0])]

    def make(i: int) -> tuple:
        factor, side = schedule((epoch + i / len(split)) / settings.epochs, settings)
        captions, target_B = captioner(corpus.labels_N[split[i]], rng)
        images_BCHW = augment(corpus.images_N3SS[split[i]], glyph_N[split[i]], side, generator)
        return images_BCHW, captions, target_B, factor

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, 0)
        for i in range(len(split)):
            batch = ahead.result()
            ahead = pool.submit(make, i + 1) if i + 1 < len(split) else ahead
            yield batch


def train_epoch(towers: Towers, optimizers, corpus: Corpus, settings: PretrainSettings, epoch: int) -> dict:
    """Train one epoch, `epoch` counting from 0; return its record."""
    started, steps, pictures = time.perf_counter(), [], 0
    for images_BCHW, captions, target_B, factor in batches(corpus, settings, epoch):
        steps.append(train_step(towers, optimizers, images_BCHW, captions, target_B, factor, settings))
        pictures += len(target_B)
        if len(steps) % 20 == 0:
            loss, accuracy = np.mean(steps[-20:], axis=0)
            logger.info("epoch %d step %d loss %.3f accuracy %.3f", epoch + 1, len(steps), loss, accuracy)
    loss, accuracy = np.mean(steps, axis=0).tolist()
    record = {
        "epoch": epoch + 1,
        "side": schedule(epoch / settings.epochs, settings)[1],
        "loss": loss,
        "accuracy": accuracy,
        "pictures": pictures,
    }
    return record | {"seconds": round(time.perf_counter() - started, 1)}


def pretrain(corpus: Corpus, settings: PretrainSettings) -> Iterator[dict]:
    """Train epoch by epoch, going on from a checkpoint in `settings.out`; yield each epoch's record."""
    recipe, out = read_recipe(settings.params), in_project(settings.out)
    texts = Captioner(with_glyphs(corpus, 1, 0).classes, recipe).every_text()
    encoder = new_encoder(texts, settings.seed, settings.device)
    optimizers = optimizers_of(encoder.clip, settings.muon_lr, settings.adam_lr, settings.weight_decay)
    checkpoint, history = out / "checkpoint.safetensors", out / "history.jsonl"
    done = load_checkpoint(checkpoint, encoder.clip, optimizers) if checkpoint.exists() else 0
    encoder.clip.train()
    towers = Towers(encoder, settings.threads)
    records = history.read_text().splitlines()[:done] if done and history.exists() else []
    for epoch in range(done, settings.epochs):
        record = train_epoch(towers, optimizers, corpus, settings, epoch)
        records.append(json.dumps(record))
        write_whole(history, "\n".join(records) + "\n")
        save_checkpoint(checkpoint, encoder.clip, optimizers, epoch + 1)
        yield record
    write_model(encoder.clip, out)


def write_model(clip: nn.Module, folder: Path) -> Path:
    """Write fp16 weights and configuration, so that open_clip loads "local-dir:<folder>"; return the folder."""
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in clip.state_dict().items()}
    write_whole(folder / "open_clip_model.safetensors", save(tensors))
    write_whole(folder / "open_clip_config.json", json.dumps(CONFIG, indent=1) + "\n")
    return folder


def read_evaluation(entry: Mapping[str, Any], root: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read the pictures of an entry of the YAML's `evaluate`.

    Returns
    -------
    images_NSSC : ndarray of uint8, on the canvas of 64 px
    labels_N : ndarray of int64
    names : list of str
        A class's first synonym, in label order.
    """
    if entry["set"] == "digits":
        parts = [digits(CANVAS, split) for split in DIGIT_SPLITS]
        return *(np.concatenate(column) for column in zip(*parts, strict=True)), list(DIGIT_NAMES)
    listing = list_parquet(root, Parquet(kind="parquet", path=entry["set"], split=entry["split"]))
    known = sorted(set(listing.names))
    labels_N = np.searchsorted(known, listing.names)
    return decode(listing.items, listing.places, CANVAS), labels_N, [names_of(label)[0] for label in known]


@torch.no_grad()
def zero_shot_accuracy(model: str, entries: Sequence[Mapping[str, Any]], root: Path, limit: int | None = None) -> list:
    """Measure zero-shot top-1 accuracy on a canvas of 64 px, one template a set and no ensemble.

    Parameters
    ----------
    model : str
        As `load_backbone` takes it: "mini", "local-dir:<folder>", ...
    entries : sequence of mapping
        The YAML's `evaluate`: name, set (a parquet glob below root, or "digits"), split, template.
    limit : int, optional
        Use so many pictures of each set, evenly spread.

    Returns
    -------
    list of dict
        set, classes, n (pictures), accuracy (percent) and the template.
    """
    encoder, records = load_backbone(model, device="cpu"), []
    for entry in entries:
        images_NSSC, labels_N, names = read_evaluation(entry, root)
        keep = np.linspace(0, len(labels_N) - 1, min(limit or len(labels_N), len(labels_N))).round().astype(int)
        images_NCSS = torch.from_numpy(images_NSSC[keep]).permute(0, 3, 1, 2)
        text_CD = encoder.encode_text(encoder.tokenize([entry["template"].format(name) for name in names]))
        found_N = torch.cat([(encoder.encode_image(x / 255) @ text_CD.T).argmax(1) for x in images_NCSS.split(256)])
        accuracy = 100 * float((found_N.numpy() == labels_N[keep]).mean())
        records.append({"set": entry["name"], "classes": len(names), "n": len(keep),
                        "accuracy": accuracy, "template": entry["template"]})  # fmt: skip
    return records
