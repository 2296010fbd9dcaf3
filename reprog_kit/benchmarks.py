"""A benchmark is data: a YAML that names the ID, shift and OOD sets, the class names and the caption."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .parameters import InputError
from .settings import find_params, read_yaml
from .specs import SetSpec


class InDistribution(BaseModel):
    """The ID set: train, test, and a validation set of its own or a share held out of train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: SetSpec
    validation: SetSpec | Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: SetSpec


class Benchmark(BaseModel):
    """What one YAML in params/ says.

    Attributes
    ----------
    name : str
        The file's stem.
    classes : tuple of str, optional
        Class names in label order; without them, the sorted names of the train set.
    caption : str
        The sentence about a picture, with ``{}`` for the class name.
    side : int
        Side in px at which pictures are held (shorter side resized, centre-cropped).
    templates : tuple of str
        Sentences, as ``caption`` is, of the zero-shot prompt ensemble; none: there is no ensemble.
    settings, methods, recipes : dict
        Defaults of `reprog_kit.settings.TrainSettings`: for all, for a method under the default recipe, for a recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    title: str = ""
    description: str = ""
    classes: tuple[str, ...] | None = None
    caption: str = "a photo of a {}"
    templates: tuple[str, ...] = ()
    side: int = Field(gt=0)
    id: InDistribution
    shift: dict[str, SetSpec] = {}
    ood: dict[str, SetSpec] = {}
    settings: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}
    recipes: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _check(self) -> Benchmark:
        for sentence in (self.caption, *self.templates):
            if sentence.count("{}") != 1 or sentence.count("{") != 1:
                raise ValueError(
                    f"caption {sentence!r} must hold {{}} once, where the class name goes, and no other brace"
                )
        if self.classes and len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"class names stand twice: {sorted({c for c in self.classes if self.classes.count(c) > 1})}"
            )
        for name in ("train", "validation", "test"):
            if name in self.shift or name in self.ood:
                raise ValueError(f"{name!r} is the name of an ID set; call the shift or OOD set otherwise")
            if getattr(getattr(self.id, name), "of", None):
                raise ValueError(f"the ID set {name!r} cannot be made of another set")
        both = set(self.shift) & set(self.ood)
        if both:
            raise ValueError(f"a set is either shift or OOD, not both: {sorted(both)}")
        return self

    def captions(self, classes: tuple[str, ...], template: str | None = None) -> list[str]:
        """Return one caption a class, in label order; from another template than ``caption`` if one is given."""
        found = [(template or self.caption).replace("{}", name.replace("_", " ")) for name in classes]
        if len(set(found)) < len(found):
            raise InputError(f"several classes have one caption: {sorted({c for c in found if found.count(c) > 1})}.")
        return found

    def data_key(self) -> dict[str, Any]:
        """Return what decides the pictures and captions: everything but titles and default settings."""
        rest = {"title", "description", "templates", "settings", "methods", "recipes"}
        return self.model_dump(mode="json", exclude=rest)


def load_benchmark(dataset: str) -> Benchmark:
    """Read a benchmark by name or by the path of its YAML.

    Raises
    ------
    InputError
        If there is no such file, or something in it is unknown, missing or of the wrong kind.
    """
    path = find_params(dataset)
    try:
        return Benchmark(**{"name": Path(path).stem, **read_yaml(path)})
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r:.60})" for e in error.errors()]
        raise InputError(f"{path} does not describe a benchmark:\n" + "\n".join(lines)) from None
