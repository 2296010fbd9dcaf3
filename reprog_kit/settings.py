"""Typed, frozen settings: recipe < params/<benchmark>.yaml < the notebook's parameters cell < papermill."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator

from .parameters import InputError, NotebookSettings, nearest
from .recipes import OWN, RECIPES, not_of

Detector = Literal["msp", "mcm", "max_logit", "energy", "knn", "mahalanobis"]


def project_root() -> Path:
    """Return the folder with ``params/``: here, the one above (a notebook's kernel starts in notebooks/), or ours."""
    for folder in (Path.cwd(), Path.cwd().parent):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parent.parent


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; `InputError` names the file and the line that does not parse."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping (key: value lines); see params/template.yaml.")
    return content


def known_benchmarks() -> list[str]:
    """Return the names of the benchmarks in ``params/``: what says `id`, but for the template that people copy."""
    files = sorted((project_root() / "params").glob("*.yaml"))
    return [p.stem for p in files if p.stem != "template" and re.search(r"^id:", p.read_text("utf-8"), re.M)]


def find_params(dataset: str) -> Path:
    """Return the YAML of a benchmark: a path that exists, or the name of a file in ``params/``.

    Raises
    ------
    InputError
        If there is neither; the message lists the names there are.
    """
    if str(dataset).endswith((".yaml", ".yml")):
        path = Path(dataset).expanduser()
        if path.is_file():
            return path.resolve()
        raise InputError(
            f"dataset = {dataset!r}: there is no file {path.resolve()}. Copy params/template.yaml to start one."
        )
    folder = project_root() / "params"
    known = known_benchmarks()
    if dataset not in known:
        raise InputError(
            f"unknown dataset {dataset!r}.{nearest(dataset, known)} Known in {folder}: {', '.join(known)}; "
            "or give the path of your own YAML."
        )
    return folder / f"{dataset}.yaml"


def as_seeds(value: Any, info: ValidationInfo) -> Any:
    """Return what stands for several seeds or widths: a list, or text such as "0,1,2" from a command line."""
    if isinstance(value, str):
        value = [int(part) for part in value.strip("[]() ").split(",") if part.strip()]
    if isinstance(value, list | tuple) and not value:
        raise ValueError(f"give the {info.field_name} as a list, such as [0, 1, 2]")
    if isinstance(value, list | tuple) and (twice := [one for i, one in enumerate(value) if one in value[:i]]):
        raise ValueError(f"{twice[0]} is there twice")
    return value


class TrainSettings(NotebookSettings):
    """Everything that decides a training run; what a benchmark, a recipe and a notebook may set."""

    dataset: str = Field("demo", description="a benchmark's name in params/, or the path of a YAML")
    method: Literal["reprogrammer", "zero_shot", "linear_probe", "fine_tune", "lp_ft", "l2_sp", "coop"] = Field(
        "reprogrammer", description="what is trained; wise_ft is fine_tune, weighted when it is evaluated"
    )
    model: str = Field("mini", description="mini, a name open_clip knows, hf-hub:… or local-dir:…")
    pretrained: str | None = Field(None, description="open_clip's tag of the weights, a checkpoint's path, or 'random'")
    program: Literal["both", "image", "text"] = Field("both", description="which inputs are reprogrammed")
    padding: int | None = Field(None, ge=0, description="px of border the image program owns, 0 to half the canvas")
    image_size: int | None = Field(None, ge=1, description="px to which the picture is resized on the canvas")
    alpha: float | None = Field(None, ge=0, le=1, description="the residual's share of zero-shot; None: validation's")
    epochs: int = Field(25, ge=1, description="passes over the training pictures (1 where there are no steps)")
    batch_size: int = Field(128, ge=2, description="pictures a step")
    seed: int = Field(1, ge=0, description="of initial values and of the order of the pictures")
    seeds: tuple[int, ...] | None = Field(None, description="several seeds, a run each, in the place of seed")
    recipe: Literal["corrected", "released"] = Field("corrected", description="a named set of the switches below")
    loss: Literal["symmetric", "captions"] = Field("symmetric", description="over the batch's pairs, or over classes")
    twins: Literal["positives", "negatives"] = Field(
        "positives", description="what other pairs of one's class count as"
    )
    focal_gamma: float = Field(0.0, ge=0, description="focal loss' exponent; 0 is cross-entropy")
    focal_alpha: float = Field(1.0, gt=0, description="focal loss' factor")
    init_std: float = Field(0.01, ge=0, description="standard deviation of the border's initial W")
    image_lr: float = Field(5e-3, gt=0, description="Adam's step on the border")
    image_weight_decay: float = Field(0.0, ge=0, description="L2 coupled into Adam's gradient of the border")
    text_lr: float = Field(5e-4, gt=0, description="AdamW's step on token rows and bias")
    text_weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of token rows and bias")
    probe: Literal["lbfgs", "adam"] = Field("lbfgs", description="solved, its strength by validation; or Adam")
    lr: float = Field(3e-5, gt=0, description="step of the optimizer of whatever is no reprogrammer")
    weight_decay: float = Field(0.0, ge=0, description="decay of fine-tuning and of CoOp")
    l2_sp: float = Field(0.01, ge=0, description="weight of the squared distance to the pre-trained weights")
    contexts: int = Field(16, ge=1, description="CoOp's number of context tokens")
    context_init: str | None = Field(None, description="words at which CoOp's contexts start, in the place of chance")
    warmup_steps: int = Field(20, ge=0, description="steps of linear warm-up before the cosine")
    schedule: Literal["cosine", "steps"] = Field("cosine", description="of the rates; steps: halved, a fifth, a tenth")
    keep: Literal["best", "last"] = Field("best", description="the epoch to keep: best on validation, or the last")
    select_on: Literal["validation", "test"] = Field("validation", description="what epoch and alpha are chosen on")
    renormalise: bool = Field(True, description="bring residual features back to unit length")
    score_precision: Literal["fp64", "fp16"] = Field("fp64", description="in which ID scores are computed")
    scored_over: Literal["covered", "all"] = Field("covered", description="the classes in the running for a part set")
    limit: int | None = Field(None, ge=1, description="at most so many pictures of each set (a quick look)")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU that has it, else fp32")
    compile: bool = Field(False, description="torch.compile the image tower")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    processes: int | Literal["auto"] = Field(1, description="how many train one run, a GPU each; auto: all GPUs")
    data_root: str | None = Field(None, description="folder of the pictures; default $REPROG_DATA, else data/")
    stream: bool = Field(False, description="decode pictures anew in every epoch, in the place of a cache on the disk")
    bad_pictures: Literal["stop", "skip"] = Field("stop", description="what to do about one that cannot be read")
    missing_sets: Literal["stop", "skip"] = Field("stop", description="what to do about a shift or OOD set not there")
    runs: str = Field("runs", description="folder of the run folders")
    resume: bool = Field(True, description="go on with an unfinished run and reuse a finished one; false: start anew")

    _seeds = field_validator("seeds", mode="before")(as_seeds)

    @field_validator("processes", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        if value != "auto" and not (str(value).isdecimal() and int(value) >= 1):
            raise ValueError("give a number from 1, or auto")
        return value

    @classmethod
    def build(cls, **given: Any) -> TrainSettings:
        """Return the settings for these values; see `NotebookSettings.build`.

        Raises
        ------
        InputError
            Also for a value that the method has no use for, and for seed beside seeds.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("method") == "wise_ft":
            given["method"] = "fine_tune"
        settings = super().build(**given)
        useless = sorted(set(given) & not_of(settings.method))
        if useless:
            own = ", ".join(sorted(OWN[settings.method])) or "none"
            raise InputError(
                f"{useless[0]} = {given[useless[0]]!r} is refused: method = {settings.method!r} has no use for it. "
                f"Its own settings: {own}."
            )
        if settings.seeds and "seed" in given:
            raise InputError("seed and seeds are both given; leave one of them out.")
        return settings

    def each_seed(self) -> list[TrainSettings]:
        """Return the settings of every run that this asks for."""
        return [self.model_copy(update={"seed": s, "seeds": None}) for s in self.seeds or (self.seed,)]

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return recipe < the benchmark's ``settings`` < its ``methods`` entry, or its ``recipes`` entry.

        What a benchmark says of a method was found with the default recipe; another recipe keeps its own rates.
        """
        content = read_yaml(find_params(given.get("dataset", "demo")))
        own = content.get("settings") or {}
        recipe, method = (given.get(k, own.get(k, cls.model_fields[k].default)) for k in ("recipe", "method"))
        if not isinstance(recipe, str) or recipe not in RECIPES:
            return {}
        usual = recipe == cls.model_fields["recipe"].default
        found = (content.get("methods") or {}).get(method, {}) if usual else {}
        chosen = (content.get("recipes") or {}).get(recipe, {})
        if given.get("model", own.get("model")) != own.get("model"):  # the weights are those of the YAML's model
            own = {name: value for name, value in own.items() if name != "pretrained"}
        layers = [RECIPES[recipe][""], RECIPES[recipe].get(method, {}), own, found, chosen]
        return {name: value for layer in layers for name, value in layer.items()}


class EvaluateSettings(NotebookSettings):
    """What the evaluation of one run needs to know; the rest stands in the run."""

    run: str = Field("newest", description="a run's folder or its name in runs/; newest: the one trained last")
    seeds: tuple[int, ...] | None = Field(None, description="which seeds of that run; default: all that were trained")
    alpha: float | None = Field(
        None, ge=0, le=1, description="share of the zero-shot features; default: the run's, else validation chooses"
    )
    wise_weight: float = Field(0.5, ge=0, le=1, description="WiSE-FT's share of the fine-tuned weights")
    score: Detector = Field("msp", description="the ID score shown in the figures")
    bank: int = Field(5000, ge=1, description="training pictures behind the detectors on features (knn, mahalanobis)")
    resamples: int = Field(200, ge=0, description="bootstrap resamples behind each interval")
    batch_size: int = Field(256, ge=1, description="pictures a forward pass")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    data_root: str | None = Field(None, description="folder of the pictures; default: as in training")
    missing_sets: Literal["stop", "skip"] | None = Field(None, description="about a set not there; as in training")
    runs: str = Field("runs", description="folder of the run folders")

    _seeds = field_validator("seeds", mode="before")(as_seeds)


class ReportSettings(NotebookSettings):
    """Which part of the ledger a report shows."""

    dataset: str = Field("demo", description="a benchmark's name in the ledger, or its YAML")
    score: Detector = Field("msp", description="the ID score behind FPR95 and AUROC")
    variants: bool = Field(True, description="show also lines that differ from the benchmark's defaults")
    runs: str = Field("runs", description="folder of the run folders")
    folder: str | None = Field(None, description="where the exported tables go; default report-<dataset> in runs")


def data_root(given: str | None) -> Path:
    """Return the folder of the pictures: the setting, $REPROG_DATA, or data/ beside params/."""
    chosen = given or os.environ.get("REPROG_DATA")
    return Path(chosen).expanduser() if chosen else project_root() / "data"


def in_project(path: str | os.PathLike) -> Path:
    """Return a path as it is if absolute, else below the project's root, wherever the kernel started."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else project_root() / path
