"""A notebook's parameters cell, read and refused: the base of every settings model, and the error for people.

A parameters cell starts with the line ``# parameters`` and holds literals only; papermill writes its own cell,
``# Parameters``, behind it. A value of None means "not set here".
"""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, what is allowed, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the message alone: the stack is ours, the mistake is not in it."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]


def nearest(name: str, known: Iterable) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or nothing."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


class NotebookSettings(BaseModel):
    """The base of every notebook's settings: frozen, refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true/false is no value for it")
        return value

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what stands below the notebook's own values; subclasses read their YAML here."""
        return {}

    @classmethod
    def build(cls, **given: Any) -> Self:
        """Return the settings for these values; None means "not set".

        Raises
        ------
        InputError
            For an unknown name (with the nearest known one), a wrong type or a value out of range.
        """
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if name not in cls.model_fields:
                guess, known = nearest(name, cls.model_fields), ", ".join(cls.model_fields)
                raise InputError(f"unknown parameter {name!r}.{guess} Known: {known}.")
        try:
            return cls(**{**cls.defaults(given), **given})
        except ValidationError as error:
            raise InputError(cls._explain(error)) from None

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Return the settings of the notebook whose ``globals()`` these are; see `notebook_parameters`."""
        return cls.build(**notebook_parameters(namespace))

    def _repr_html_(self) -> str:
        """Show every value, also those that the YAML or the recipe gave, folded away in a notebook."""
        fields = type(self).model_fields
        cells = [(name, escape(str(value)), fields[name].description or "") for name, value in self]
        rows = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in cells)
        return f"<details><summary>every setting of this run</summary><table>{rows}</table></details>"

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        lines = []
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else ""
            field = cls.model_fields.get(name)
            if field is None:
                lines.append(f"unknown parameter {name!r}.{nearest(name, cls.model_fields)}")
                continue
            hint = nearest(item["input"], get_args(field.annotation)) if item["type"] == "literal_error" else ""
            message = item["msg"].removeprefix("Value error, ")
            meaning = f" ({name}: {field.description})" if field.description else ""
            lines.append(f"{name} = {item['input']!r} is refused: {message}.{hint}{meaning}")
        return "\n".join(lines)


def notebook_parameters(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names that the parameters cell, and papermill's cell behind it, assign.

    Parameters
    ----------
    namespace : mapping
        ``globals()`` of the notebook. IPython keeps the source of the cells that ran in ``In``; only the last
        ``# parameters`` cell and what papermill injected behind it count, so variables of later cells never do.
        Without ``In`` every public plain value is a parameter.
    """
    cells: list[str] = list(namespace.get("In", []))
    heads = [cell.lstrip().split("\n", 1)[0].strip() for cell in cells]
    starts = [i for i, head in enumerate(heads) if head.startswith("# parameters")]
    if not starts:
        return {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_") and isinstance(value, int | float | str | list | dict)
        }
    start = starts[-1]
    chosen = [cells[start], *(c for c, h in zip(cells[start:], heads[start:]) if h == "# Parameters")]
    names: dict[str, None] = {}
    for node in ast.walk(ast.parse("\n".join(chosen))):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names.update({t.id: None for t in targets if isinstance(t, ast.Name)})
    return {name: namespace[name] for name in names if name in namespace}


def in_jupyterlab() -> bool:
    """Say whether a Jupyter server started this kernel (it names the session); papermill and scripts do not."""
    return "JPY_SESSION_NAME" in os.environ
