"""How a benchmark's YAML says where one set of pictures is found; a `kind` each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Download(_Spec):
    """Where a set is to be had without a person: files, or a data set class of torchvision that fetches its own."""

    urls: tuple[str, ...] = ()
    md5: tuple[str, ...] = Field((), description="one a file, or none")
    torchvision: str | None = Field(None, description="a class of torchvision.datasets")
    options: dict[str, str | int | bool] = Field({}, description="what that class takes, such as split")
    into: str = Field("", description="folder below the data root; archives are unpacked there")

    @model_validator(mode="after")
    def _check(self) -> Download:
        if bool(self.urls) == bool(self.torchvision):
            raise ValueError("give urls, or the name of a torchvision class")
        if self.md5 and len(self.md5) != len(self.urls):
            raise ValueError("md5 needs one checksum a file")
        return self


class _Found(_Spec):
    """What `reprog_kit doctor` compares a set with, and tells those who do not have it; it changes no result."""

    count: int | None = Field(None, description="pictures that the published set holds")
    home: str | None = Field(None, description="where the set lives")
    layout: str | None = Field(None, description="what stands where below the data root, once it is unpacked")
    download: Download | None = None


class _Named(_Found):
    """How the set's own class names, or numbers, become the benchmark's."""

    classes: dict[str, str] | None = Field(None, description="the set's class name -> ours; others are left out")
    drop: tuple[str, ...] = Field((), description="the set's classes that are left out")
    numbered: bool = Field(False, description="the set's class names are the benchmark's label numbers, from 0")


class Generated(_Spec):
    """Pictures that `reprog_kit.generated` draws, or makes from another set of the benchmark (``of``)."""

    kind: Literal["generated"]
    name: str
    of: Literal["test", "validation", "train"] | None = None
    strength: float | None = None
    split: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Generated:
        if self.of is None and self.strength is not None:
            raise ValueError("strength belongs to a set that is made `of` another")
        if self.of is not None and self.split is not None:
            raise ValueError("split belongs to a set that is drawn, not to one made `of` another")
        return self


class Folder(_Named):
    """One folder a class, as torchvision's ImageFolder reads it; an OOD set may be a flat folder of pictures."""

    kind: Literal["folder"]
    path: str
    devkit: str | None = Field(None, description="folder of the ILSVRC devkit, which labels a flat validation folder")


class Parquet(_Named):
    """Parquet files (a path or a glob) with a column of encoded pictures and one of class names or numbers.

    Numbers are named by what Hugging Face's `datasets` writes into the file, where it did.
    """

    kind: Literal["parquet"]
    path: str
    split: str | None = Field(None, description="take the rows whose column `split` says this")
    image: str = "image"
    label: str = "label"


class Tar(_Named):
    """Tar files (a path or a glob) as webdataset lays them out: `key.jpg` beside `key.cls`."""

    kind: Literal["tar"]
    path: str
    label: str = Field("cls", description="ending of the member that holds the class name or number")


class Arrays(_Named):
    """A .npy of uint8 pictures (N, H, W, 3) with a .npy of numbers, or one .npz with both."""

    kind: Literal["arrays"]
    path: str
    labels: str | None = Field(None, description="the .npy of numbers; none: an OOD set, or path is an .npz")
    image: str = Field("images", description="of an .npz, the name of the pictures")
    label: str = Field("labels", description="of an .npz, the name of the numbers")
    names: tuple[str, ...] | None = Field(None, description="class names in the order of the set's own numbers")


class Torchvision(_Named):
    """A data set class of torchvision, by its name, that reads arrays or lists files."""

    kind: Literal["torchvision"]
    name: str
    path: str = Field("", description="the root folder that the class gets, below the data root")
    split: str = Field("train", description="train, test, or what the class calls its parts")


class Corrupted(_Found):
    """Corruptions of a set at severities 1 to 5, made on the fly by the library imagecorruptions-imaug."""

    kind: Literal["corrupted"]
    of: Literal["test", "validation", "train"] = "test"
    names: tuple[str, ...] = Field(min_length=1)
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = (1, 2, 3, 4, 5)
    per_picture: int = Field(1, ge=1, description="how many of the variants each picture gets, where they are made")
    published: str | None = Field(None, description="folder of the published .npy files, taken whole if it is there")


SetSpec = Annotated[Generated | Folder | Parquet | Tar | Arrays | Torchvision | Corrupted, Field(discriminator="kind")]
# What is said about a set and decides no picture.
NO_PICTURE = {"count", "home", "layout", "download"}
