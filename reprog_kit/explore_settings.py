"""The settings of the notebooks that explore: what is swept, ablated and mapped."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, field_validator

from .parameters import NotebookSettings
from .settings import Detector, as_seeds


def as_names(value: Any) -> Any:
    """Return what stands for several names: a list, or text such as "letters,noise" from a command line."""
    return [part.strip() for part in value.strip("[]() ").split(",")] if isinstance(value, str) else value


class SweepSettings(NotebookSettings):
    """Along which weights a run is swept: alpha of a reprogrammer, WiSE-FT's of a fine-tuned one."""

    run: str = Field("newest", description="a run's folder or its name in runs/; newest: the one trained last")
    seeds: tuple[int, ...] | None = Field(None, description="which seeds of that run; default: all that were trained")
    score: Detector = Field("msp", description="the ID score shown in the figures")
    steps: int = Field(101, ge=2, description="alphas from 0 to 1; the released 0.4 is always among them")
    wise_weights: int = Field(
        11, ge=2, description="weights of WiSE-FT from 0 to 1, a pass over the pictures each; 0.5 is among them"
    )
    bank: int = Field(5000, ge=1, description="training pictures behind the detectors on features (knn, mahalanobis)")
    batch_size: int = Field(256, ge=1, description="pictures a forward pass")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    data_root: str | None = Field(None, description="folder of the pictures; default: as in training")
    missing_sets: Literal["stop", "skip"] | None = Field(None, description="about a set not there; as in training")
    runs: str = Field("runs", description="folder of the run folders")

    _seeds = field_validator("seeds", mode="before")(as_seeds)


class UmapSettings(NotebookSettings):
    """Which pictures are mapped, in whose features, and how."""

    dataset: str = Field("demo", description="a benchmark's name in params/, or the path of its YAML")
    runs_shown: tuple[str, ...] | None = Field(None, description="runs, by name; default: the newest of each method")
    set: str | None = Field(None, description="what is mapped: test or a shift set; default: the first of these")
    overlay: tuple[str, ...] = Field((), description="OOD sets that are laid over")
    count: int = Field(500, ge=5, description="at most so many pictures of the set, and as many of all OOD sets")
    neighbours: int = Field(15, ge=2, description="how many nearest pictures UMAP and the k-NN purity look at")
    min_dist: float = Field(0.1, ge=0, le=1, description="how close UMAP may put two pictures")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="the distance between features")
    seed: int = Field(1, ge=0, description="of the map")
    alpha: float | None = Field(None, ge=0, le=1, description="the residual's share of zero-shot; default: the run's")
    score: Detector = Field("msp", description="the ID score shown with each picture")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    data_root: str | None = Field(None, description="folder of the pictures; default: as in training")
    missing_sets: Literal["stop", "skip"] | None = Field(None, description="about a set not there; as in training")
    runs: str = Field("runs", description="folder of the run folders")

    _names = field_validator("runs_shown", "overlay", mode="before")(as_names)


class AblationSettings(NotebookSettings):
    """Which paddings are trained, with which seeds; everything else is as the benchmark has it."""

    dataset: str = Field("demo", description="a benchmark's name in params/, or the path of a YAML")
    model: str | None = Field(None, description="mini, a name open_clip knows, hf-hub:… or local-dir:…")
    pretrained: str | None = Field(None, description="open_clip's tag of the weights, a checkpoint's path, or 'random'")
    paddings: tuple[NonNegativeInt, ...] | None = Field(None, description="px, 0 to half the canvas; None: about seven")
    seeds: tuple[NonNegativeInt, ...] = Field((1,), description="a run each at every padding")
    image_size: Literal["shrink"] | None = Field(None, description="shrink: the border lies beside the picture")
    program: Literal["both", "image"] | None = Field(None, description="with or without the text program")
    epochs: int | None = Field(None, ge=1, description="passes over the training pictures")
    batch_size: int | None = Field(None, ge=2, description="pictures a step")
    warmup_steps: int | None = Field(None, ge=0, description="steps of linear warm-up before the cosine")
    limit: int | None = Field(None, ge=1, description="at most so many pictures of each set (a quick look)")
    score: Detector = Field("msp", description="the ID score behind FPR95 and AUROC")
    resamples: int = Field(200, ge=0, description="bootstrap resamples behind each interval")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    data_root: str | None = Field(None, description="folder of the pictures; default $REPROG_DATA, else data/")
    bad_pictures: Literal["stop", "skip"] | None = Field(None, description="what to do about one that cannot be read")
    missing_sets: Literal["stop", "skip"] | None = Field(None, description="what to do about a set that is not there")
    runs: str = Field("runs", description="folder of the run folders")

    _lists = field_validator("paddings", "seeds", mode="before")(as_seeds)


class ExploreSettings(NotebookSettings):
    """What the workbench starts with; its sliders and menus go on from there."""

    dataset: str = Field("demo", description="a benchmark's name in params/, or the path of a YAML")
    model: str | None = Field(None, description="mini, a name open_clip knows, hf-hub:… or local-dir:…")
    pretrained: str | None = Field(None, description="open_clip's tag of the weights, a checkpoint's path, or 'random'")
    runs_shown: tuple[str, ...] | None = Field(None, description="runs, by name; default: the newest of each method")
    limit: int | None = Field(None, ge=1, description="at most so many pictures of each set (a quick look)")
    padding: int | None = Field(None, ge=0, description="px of border at which the slider starts; the benchmark's")
    budget: float = Field(60, gt=0, description="seconds that a training may take; fewer epochs, or pictures, fit it")
    alpha: float | None = Field(None, ge=0, le=1, description="where its slider starts; default: validation's choice")
    score: Detector = Field("msp", description="the ID score at the start")
    steps: int = Field(101, ge=2, description="alphas from 0 to 1; the released 0.4 is always among them")
    bank: int = Field(5000, ge=1, description="training pictures behind the detectors on features (knn, mahalanobis)")
    batch_size: int = Field(256, ge=1, description="pictures a forward pass")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    data_root: str | None = Field(None, description="folder of the pictures; default $REPROG_DATA, else data/")
    bad_pictures: Literal["stop", "skip"] | None = Field(None, description="what to do about one that cannot be read")
    missing_sets: Literal["stop", "skip"] | None = Field(None, description="what to do about a set that is not there")
    runs: str = Field("runs", description="folder of the run folders")

    _names = field_validator("runs_shown", mode="before")(as_names)


class BenchmarkSettings(NotebookSettings):
    """What is measured against the plain way, and how often."""

    models: tuple[str, ...] = Field(("mini", "ViT-B-32"), description="mini, or names that open_clip knows")
    pretrained: str = Field("random", description="weights of the others: random (speed is the same), or a tag")
    precisions: tuple[Literal["fp32", "bf16"], ...] = Field(
        ("fp32", "bf16"), description="of ours; the plain's is fp32"
    )
    classes: int = Field(10, ge=2, description="captions in training and evaluation")
    many_classes: int = Field(1000, ge=2, description="captions of the second evaluation, as ImageNet has them")
    many_batches: int = Field(4, ge=1, description="its batches; of the plain way one is timed")
    side: int = Field(32, ge=1, description="px of the pictures before they are enlarged")
    batch_size: int = Field(128, ge=2, description="pictures a step")
    steps: int = Field(1, ge=1, description="steps, or batches, of each round")
    rounds: int = Field(3, ge=1, description="rounds, the two ways in turns; one more ahead is not counted")
    growth: int = Field(512, ge=2, description="training pictures that are doubled to see how cost grows")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @field_validator("models", "precisions", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return as_names(value)
