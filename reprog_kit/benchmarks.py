"""A benchmark is data: a YAML that names the ID, shift and OOD sets, the class names and the caption."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .class_names import resolve
from .parameters import InputError, nearest
from .settings import find_params, read_yaml
from .specs import NO_PICTURE, SetSpec


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
        Class names in label order; without them, the sorted names of the train set. The YAML may name a list in the
        place of one (here, in class_ids and in templates); see `reprog_kit.class_names.resolve`.
    class_ids : tuple of str, optional
        What the sets' folders are called, in label order, where that is not the class name (WordNet ids).
    caption : str
        The sentence about a picture, with ``{}`` for the class name.
    captions_of : dict
        Whole sentences for single classes, in the place of ``caption``.
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
    class_ids: tuple[str, ...] | None = None
    caption: str = "a photo of a {}"
    captions_of: dict[str, str] = Field({}, alias="captions")
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
        _unique("class names", self.classes or ())
        _unique("class ids", self.class_ids or ())
        if self.class_ids and len(self.class_ids) != len(self.classes or ()):
            raise ValueError(f"there are {len(self.class_ids)} class_ids and {len(self.classes or ())} classes")
        if unknown := sorted(set(self.captions_of) - set(self.classes or self.captions_of)):
            raise ValueError(f"captions name classes that are not among the classes: {unknown}")
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
        if unknown := sorted(set(self.captions_of) - set(classes)):
            raise InputError(f"captions: {unknown[0]!r} is no class of {self.name!r}.{nearest(unknown[0], classes)}")
        own = {} if template else self.captions_of
        usual = template or self.caption
        found = [own.get(name) or usual.replace("{}", name.replace("_", " ")) for name in classes]
        if len(set(found)) < len(found):
            raise InputError(f"several classes have one caption: {sorted({c for c in found if found.count(c) > 1})}.")
        return found

    def data_key(self) -> dict[str, Any]:
        """Return what decides a training's pictures and captions: shift and OOD sets may come later."""
        said = self.model_dump(mode="json", include={"name", "classes", "class_ids", "caption", "captions_of", "side"})
        how = {"mode": "json", "exclude": NO_PICTURE, "exclude_none": True}
        parts = {part: getattr(self.id, part) for part in ("train", "validation", "test")}
        sets = {part: found if isinstance(found, float) else found.model_dump(**how) for part, found in parts.items()}
        return {**said, "id": sets}


def _unique(what: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{what} stand twice: {sorted({n for n in names if names.count(n) > 1})}")


def load_benchmark(dataset: str) -> Benchmark:
    """Read a benchmark by name or by the path of its YAML.

    Raises
    ------
    InputError
        If there is no such file, or something in it is unknown, missing or of the wrong kind.
    """
    path = find_params(dataset)
    try:
        return Benchmark(**{"name": Path(path).stem, **resolve(read_yaml(path), Path(path).parent)})
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r:.60})" for e in error.errors()]
        raise InputError(f"{path} does not describe a benchmark:\n" + "\n".join(lines)) from None
