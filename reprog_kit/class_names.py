"""Class names, folder names and prompt templates that a YAML names rather than spells out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .parameters import InputError, nearest

_FORMS = "a list, a text file (one a line), open_clip:NAME or timm:NAME"


def resolve(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a benchmark's YAML with its lists spelled out.

    Parameters
    ----------
    content : dict
        ``classes``, ``class_ids`` and ``templates`` are each a list or the name of one (`name_list`); ``classes`` may
        also map the sets' names of the classes to ours, or be a file whose lines hold both with a tab between.
        ``rename`` gives single classes another name, by their class id or by their name.
    folder : Path
        Where relative paths start: the YAML's.

    Raises
    ------
    InputError
        For a list that is not there, or a rename of a class that is not.
    """
    found = dict(content)
    for key in ("classes", "class_ids", "templates"):
        if isinstance(found.get(key), str):
            found[key] = name_list(key, found[key], folder)
    classes = found.get("classes")
    if isinstance(classes, list) and any("\t" in str(line) for line in classes):
        classes = dict(str(line).split("\t", 1) for line in classes if "\t" in str(line))
        if len(classes) < len(found["classes"]):
            raise InputError("classes: every line of the file needs a tab between folder name and class name, or none.")
    if isinstance(classes, dict):
        if "class_ids" in found:
            raise InputError("classes maps the sets' names to ours already; leave class_ids out.")
        found["class_ids"], classes = [str(k) for k in classes], list(classes.values())
    if classes is not None:
        found["classes"] = _renamed(classes, found.get("class_ids") or [], found.pop("rename", None) or {})
    return found


def name_list(key: str, name: str, folder: Path) -> list[str]:
    """Return the list of that name.

    Parameters
    ----------
    key : str
        What it is for, in a message.
    name : str
        A text file, one entry a line; ``open_clip:NAME``, a list of `open_clip.zero_shot_metadata`, class names or
        templates; ``timm:NAME``, the folder names (WordNet ids) of a label set that timm ships, in label order.
    """
    source, _, rest = name.partition(":")
    if source == "open_clip":
        from open_clip import zero_shot_metadata

        known = [k for k in dir(zero_shot_metadata) if k.isupper()]
        if rest in known:
            return [entry("{}") if callable(entry) else entry for entry in getattr(zero_shot_metadata, rest)]
        raise InputError(
            f"{key} = {name!r}: open_clip has no {rest!r}.{nearest(rest, known)} Known: {', '.join(known)}."
        )
    if source == "timm":
        from timm.data import ImageNetInfo

        try:
            return list(ImageNetInfo(rest).label_names())
        except (AssertionError, KeyError, ValueError):
            raise InputError(
                f"{key} = {name!r}: timm has no label set {rest!r}. Known: imagenet-1k and others."
            ) from None
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"{key} = {name!r}: there is no file {path}. Give {_FORMS}.")
    return [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _renamed(classes: list[str], ids: list[str], rename: dict[str, str]) -> list[str]:
    """Return class names after `rename`."""
    unknown = sorted(set(rename) - set(ids) - set(classes))
    if unknown:
        raise InputError(f"rename: no class has the id or the name {unknown[0]!r}.")
    keys = ids if len(ids) == len(classes) else classes
    return [rename.get(key, rename.get(name, name)) for key, name in zip(keys, classes)]
