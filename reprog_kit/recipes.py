"""The recipes, `released` and `corrected`, and which method has which settings. Data alone."""

from __future__ import annotations

from typing import Any

# What a recipe is: a named set of switches, each of which can also be set alone.
# released: IBM/reprogrammer at commit f107472, and for what it has no code (LP-FT, L2-SP) the paper's figures.
# corrected: twins are positives, plain cross-entropy, no decay towards zero, best epoch on validation, residual
# features on the unit sphere again, scores in double precision; the probe is solved instead of stepped towards.
_TUNING = {"lr": 3e-5, "weight_decay": 0.1}
_CONTEXT = {"lr": 2e-3, "weight_decay": 5e-4, "contexts": 16, "epochs": 50, "schedule": "cosine"}
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "released": {
        "": {"keep": "last", "select_on": "test", "score_precision": "fp16", "scored_over": "all"},
        "reprogrammer": {
            "loss": "symmetric", "twins": "negatives", "focal_gamma": 4.0, "focal_alpha": 0.8,
            "init_std": 1.0, "image_lr": 5e-3, "image_weight_decay": 0.1, "text_lr": 5e-4, "text_weight_decay": 0.1,
            "warmup_steps": 500, "schedule": "cosine", "renormalise": False, "alpha": 0.4,
        },
        "linear_probe": {"probe": "adam", "lr": 1e-2, "schedule": "steps"},
        "fine_tune": {**_TUNING, "schedule": "steps"},
        "lp_ft": {**_TUNING, "schedule": "steps"},
        "l2_sp": {**_TUNING, "schedule": "steps", "l2_sp": 0.01},
        "coop": _CONTEXT,
    },
    "corrected": {
        "": {
            "keep": "best", "select_on": "validation", "score_precision": "fp64", "scored_over": "covered",
            "warmup_steps": 20, "schedule": "cosine",
        },
        "reprogrammer": {
            "loss": "symmetric", "twins": "positives", "focal_gamma": 0.0, "focal_alpha": 1.0,
            "init_std": 0.01, "image_lr": 5e-3, "image_weight_decay": 0.0, "text_lr": 5e-4, "text_weight_decay": 0.0,
            "renormalise": True,
        },
        "linear_probe": {"probe": "lbfgs", "lr": 1e-2},
        "fine_tune": _TUNING,
        "lp_ft": _TUNING,
        "l2_sp": {**_TUNING, "l2_sp": 0.01},
        "coop": _CONTEXT,
    },
}  # fmt: skip
_STEPS = {"epochs", "batch_size", "warmup_steps", "schedule", "keep"}
_HEAD = {*_STEPS, "lr", "weight_decay"}
# The settings that some methods have and others do not; all other settings are everyone's.
OWN: dict[str, set[str]] = {
    "zero_shot": set(),
    "reprogrammer": {
        *_STEPS, "program", "padding", "loss", "twins", "focal_gamma", "focal_alpha", "init_std", "image_lr",
        "image_weight_decay", "text_lr", "text_weight_decay", "renormalise", "alpha",
    },
    "linear_probe": {*_STEPS, "probe", "lr"},
    "fine_tune": _HEAD,
    "lp_ft": _HEAD,
    "l2_sp": {*_HEAD, "l2_sp"},
    "coop": {*_HEAD, "contexts", "context_init"},
}  # fmt: skip


def not_of(method: str) -> set[str]:
    """Return the settings that other methods have and this one does not."""
    return set().union(*OWN.values()) - OWN[method]
