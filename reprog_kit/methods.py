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


def build(backbone: Backbone, classes: tuple[str, ...], captions: list[str], settings: TrainSettings) -> ZeroShot:
    """Return the untrained method that the settings ask for."""
    return METHODS[settings.method].from_settings(backbone, classes, captions, settings)
