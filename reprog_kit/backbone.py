"""A frozen text-image encoder from open_clip, and the embedded `mini`.

Shapes: B pictures, S the canvas' side in px, T captions, L tokens of the longest caption, V rows of a token table,
D embedding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import socket
import threading
import warnings
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub.constants as hub
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .machine import pick_device
from .parameters import InputError, nearest
from .towers import quicken

MINI = Path(__file__).parent / "assets" / "mini"
# Held while token rows and positions are swapped: a training in the background may share the backbone.
_SWAPPING = threading.RLock()


class Backbone(nn.Module):
    """A frozen text-image encoder: no weight collects a gradient, dropout and batch statistics are off.

    Attributes
    ----------
    name, pretrained : str
        As they were asked for.
    side : int
        Side of the square canvas in px.
    scale : float
        The trained logit scale (100 in CLIP).
    """

    def __init__(self, clip: nn.Module, tokenizer, name: str, pretrained: str | None):
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.name, self.pretrained, self.tokenizer = name, pretrained, tokenizer
        cfg = open_clip.get_model_preprocess_cfg(clip)
        height, width = cfg["size"] if isinstance(cfg["size"], tuple | list) else (cfg["size"], cfg["size"])
        if height != width:
            raise InputError(f"model = {name!r} wants {height} x {width} px; only square canvases can be reprogrammed.")
        self.side, self.scale = int(height), float(clip.logit_scale.detach().exp())
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(cfg["std"]).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode whatever a surrounding module asks for."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every weight, the activation (QuickGELU or not), mean, std and side, hexadecimal."""
        digest = hashlib.sha256()
        activations = sorted({type(m).__name__ for m in self.clip.modules() if "GELU" in type(m).__name__})
        digest.update(json.dumps([activations, self.side, self.mean.tolist(), self.std.tolist()]).encode())
        for key, value in sorted(self.clip.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def text_tower(self) -> nn.Module:
        """Where the text tower's parts are: a plain CLIP keeps them on itself, the others in `.text`."""
        return self.clip if hasattr(self.clip, "token_embedding") else self.clip.text

    @property
    def text_pool(self) -> str | None:
        """How the text tower picks its feature: argmax (at the end-of-text token), first, last, eos."""
        return getattr(self.text_tower, "text_pool_type", getattr(self.text_tower, "pool_type", None))

    @property
    def open_text(self) -> bool:
        """Whether token rows and positions can be swapped: not in towers of other libraries, nor in CoCa's."""
        return hasattr(self.text_tower, "token_embedding") and getattr(self.text_tower, "cls_emb", None) is None

    @property
    def token_table(self) -> Tensor:
        """The token embedding, (V, width)."""
        if not self.open_text:
            raise InputError(f"model = {self.name!r} has no open token table; program = 'image' works with it.")
        with _SWAPPING:
            return self.text_tower.token_embedding.weight

    @property
    def positions(self) -> Tensor:
        """The positional embedding of the text tower, (context length, width)."""
        with _SWAPPING:
            return self.text_tower.positional_embedding

    def encode_image(self, pixels_BCSS: Tensor) -> Tensor:
        """Return unit features (B, D) of pixels in [0, 1] that fill the canvas."""
        normalised = (pixels_BCSS - self.mean) / self.std
        return F.normalize(self.clip.encode_image(normalised).float(), dim=-1)

    def tokenize(self, captions: list[str]) -> Tensor:
        """Return token numbers (T, L). Behind the longest caption is cut off what causal attention never looks at."""
        tokens = self.tokenizer(captions)
        causal = getattr(self.text_tower, "attn_mask", None) is not None
        if self.text_pool == "argmax" and causal and self.open_text:
            tokens = tokens[:, : int(tokens.argmax(dim=-1).max()) + 1]
        return tokens.to(self.device)

    def encode_text(self, tokens_TL: Tensor, rows_VW: Tensor | None = None, bias_LW: Tensor | None = None) -> Tensor:
        """Return unit features (T, D) of tokens, through the backbone's own token rows and positions or given ones."""
        tower = self.text_tower
        if not self.open_text:
            return self(tokens_TL)
        length, prefix = tokens_TL.shape[1], "clip." if tower is self.clip else "clip.text."
        with _SWAPPING:
            swapped = {f"{prefix}positional_embedding": self.positions[:length] if bias_LW is None else bias_LW}
            if rows_VW is not None:
                swapped[f"{prefix}token_embedding.weight"] = rows_VW
            if getattr(tower, "attn_mask", None) is not None:
                swapped[f"{prefix}attn_mask"] = tower.attn_mask[:length, :length]
            return functional_call(self, swapped, (tokens_TL,))

    def forward(self, tokens_TL: Tensor) -> Tensor:
        """Encode text; `encode_text` swaps embeddings in by calling this functionally."""
        return F.normalize(self.clip.encode_text(tokens_TL).float(), dim=-1)


def load_backbone(
    model: str = "mini", pretrained: str | None = None, device: str = "auto", seed: int = 0, quick: bool = True
) -> Backbone:  # fmt: skip
    """Load a frozen encoder.

    Parameters
    ----------
    model : str
        ``mini``, a name from ``open_clip.list_models()``, ``hf-hub:owner/name`` or ``local-dir:folder``.
    pretrained : str, optional
        A tag of open_clip, the path of a checkpoint, or ``random`` (weights drawn with `seed`; for measuring speed).
        ``mini``, ``hf-hub:`` and ``local-dir:`` bring their own.
    device : str
        ``auto`` is CUDA where there is one, else Apple's MPS, else the CPU.
    quick : bool
        Bring the towers into a quicker form (`reprog_kit.towers`); without it they are as open_clip has them.

    Raises
    ------
    InputError
        For an unknown name or tag, a broken file, or weights that are neither here nor to be had.
    """
    place, source = pick_device(device), f"local-dir:{MINI}" if model == "mini" else model
    carries_own = source.startswith(("hf-hub:", "local-dir:"))
    _check_names(model, pretrained, carries_own)
    tag = open_clip.get_pretrained_cfg(model, pretrained) if not carries_own else {}
    # Only a tag or a hub name may go to the network; a folder or a file never waits for it.
    calm = _quiet_and_quick(network=bool(tag) or source.startswith("hf-hub:"))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), calm:
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            clip = open_clip.create_model(
                source,
                pretrained=None if carries_own or pretrained == "random" else pretrained,
                # open_clip only warns when weights trained with QuickGELU meet a config without it.
                force_quick_gelu=bool(tag.get("quick_gelu", False)),
                require_pretrained=pretrained != "random",
                load_weights=pretrained != "random",
            )
            tokenizer = open_clip.get_tokenizer(source)
        except Exception as error:
            raise InputError(_no_weights(model, pretrained, tag, error)) from error
    found = Backbone(quicken(clip) if quick else clip, tokenizer, model, pretrained)
    return found.to(place, memory_format=torch.channels_last)


def _check_names(model: str, pretrained: str | None, carries_own: bool) -> None:
    if carries_own:
        if pretrained not in (None, "random"):
            raise InputError(
                f"pretrained = {pretrained!r} is refused: model = {model!r} brings its own weights. Leave it out."
            )
        return
    names = open_clip.list_models()
    if model not in names:
        raise InputError(
            f"unknown model {model!r}.{nearest(model, ['mini', *names])} "
            "Use mini, hf-hub:owner/name, local-dir:FOLDER, or a name from open_clip.list_models()."
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None:
        raise InputError(
            f"model = {model!r} needs pretrained: one of {', '.join(tags)}, a checkpoint's path, or random."
        )
    if pretrained != "random" and pretrained not in tags and not Path(pretrained).is_file():
        raise InputError(
            f"pretrained = {pretrained!r} is neither a file nor a tag of {model}.{nearest(pretrained, tags)} "
            f"Tags: {', '.join(tags)}."
        )


def _no_weights(model: str, pretrained: str | None, tag: dict, error: Exception) -> str:
    where = f"huggingface.co/{tag['hf_hub']}" if tag.get("hf_hub") else tag.get("url") or model
    name = f"{model}-quickgelu" if tag.get("quick_gelu") and not model.endswith("-quickgelu") else model
    file = f"give the file (-p model {name} -p pretrained /path/to/weights.safetensors) or " if tag else "give "
    reason = str(error).strip().split("\n", 1)[0]
    return (
        f"the weights of model = {model!r}, pretrained = {pretrained!r} could not be loaded "
        f"({type(error).__name__}: {reason:.200}).\nWithout a network, fetch them elsewhere from {where} and {file}"
        "a folder with open_clip_config.json and open_clip_model.safetensors (-p model local-dir:/path/to/folder)."
    )


@contextlib.contextmanager
def _quiet_and_quick(network: bool):
    """Silence open_clip's logging, and use the hub's cache alone where the hub is out of reach (retries take 46 s)."""
    disabled, offline = logging.root.manager.disable, hub.HF_HUB_OFFLINE
    host = urlsplit(hub.ENDPOINT).hostname
    if network and not getproxies():
        try:
            socket.create_connection((host, 443), timeout=3).close()
        except OSError:
            hub.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        hub.HF_HUB_OFFLINE = offline
