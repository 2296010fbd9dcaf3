"""Every method by the name that settings and ledger use."""

from __future__ import annotations

from .backbone import Backbone
from .baselines import L2SP, LPFT, FineTune, LinearProbe
from .coop import CoOp
from .reprogrammer import Reprogrammer
from .settings import TrainSettings
from .zero_shot import ZeroShot

METHODS: dict[str, type[ZeroShot]] = {
    "zero_shot": ZeroShot,
    "reprogrammer": Reprogrammer,
    "linear_probe": LinearProbe,
    "fine_tune": FineTune,
    "lp_ft": LPFT,
    "l2_sp": L2SP,
    "coop": CoOp,
}
# What follows from a run at a weight, and is scored with it.
FOLLOWS = {"reprogrammer": ("residual",), "fine_tune": ("wise_ft",)}


def build(backbone: Backbone, classes: tuple[str, ...], captions: list[str], settings: TrainSettings) -> ZeroShot:
    """Return the untrained method that the settings ask for."""
    return METHODS[settings.method].from_settings(backbone, classes, captions, settings)


def scored_methods(method: str, ensemble: bool) -> tuple[str, ...]:
    """Return what an evaluation of a method's run scores, with or without a prompt ensemble beside zero-shot."""
    return tuple(dict.fromkeys(("zero_shot", *(("prompt_ensemble",) * ensemble), method, *FOLLOWS.get(method, ()))))
