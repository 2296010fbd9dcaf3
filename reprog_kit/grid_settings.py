"""What makes a grid of runs: methods, seeds and paddings as lists, and where the runs are to be computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeInt, field_validator

from .explore_settings import as_names
from .parameters import InputError, NotebookSettings, nearest
from .recipes import not_of
from .settings import TrainSettings, as_seeds

Method = Literal["zero_shot", "reprogrammer", "linear_probe", "fine_tune", "lp_ft", "l2_sp", "coop"]
METHODS = get_args(Method)
SEEDS = (1, 2, 3)
# What is evaluated with a run, and needs none of its own.
_COMES_WITH = {"wise_ft": "fine_tune", "residual": "reprogrammer"}
_ONE_OR_MANY = {"method": "methods", "seed": "seeds", "padding": "paddings"}


class GridSettings(NotebookSettings):
    """Which runs make the grid, and by what they are computed; every other parameter is one of `TrainSettings`."""

    methods: tuple[Method, ...] = Field(METHODS, description="or all; wise_ft and residual come with their runs")
    seeds: tuple[NonNegativeInt, ...] = Field(SEEDS, description="a run each; zero-shot has one")
    paddings: tuple[NonNegativeInt, ...] | None = Field(None, description="px, a run of the reprogrammer each")
    engine: Literal["local", "ray"] = Field("local", description="processes of this machine, or a Ray cluster")
    workers: int | None = Field(None, ge=1, description="runs at a time here; default: a GPU each, or its cores")
    cores: int = Field(2, ge=1, description="CPU cores that a run gets")

    _lists = field_validator("seeds", "paddings", mode="before")(as_seeds)

    @field_validator("methods", mode="before")
    @classmethod
    def _methods(cls, value: Any) -> Any:
        names = METHODS if value == "all" else [_COMES_WITH.get(name, name) for name in as_names(value)]
        if unknown := [name for name in names if name not in METHODS] or ([] if names else [""]):
            raise ValueError(
                f"{unknown[0]!r} is no method.{nearest(unknown[0], METHODS)} Known: all, {', '.join(METHODS)}"
            )
        return tuple(dict.fromkeys(names))

    @classmethod
    def sort(cls, dataset: str, whole: bool, given: Mapping[str, Any]) -> tuple[GridSettings, dict[str, Any]]:
        """Return the grid that parameters ask for, and those that are left, which are of every run.

        Parameters
        ----------
        whole : bool
            Without a list of methods or seeds take all methods, and seeds 1, 2, 3; else what a single run has.

        Raises
        ------
        InputError
            For a value that is refused, or one beside its list, such as seed beside seeds.
        """
        given = {name: value for name, value in given.items() if value is not None}
        mine = {name: given.pop(name) for name in cls.model_fields if name in given}
        if unknown := [name for name in given if name not in TrainSettings.model_fields]:
            known = (*cls.model_fields, *TrainSettings.model_fields)
            raise InputError(
                f"unknown parameter {unknown[0]!r}.{nearest(unknown[0], known)} Known: {', '.join(known)}."
            )
        for one, many in _ONE_OR_MANY.items():
            if one in given and many in mine:
                raise InputError(f"{one} and {many} are both given; leave one of them out.")
            if one in given:
                mine[many] = (given.pop(one),)
        if not whole:
            usual = TrainSettings.defaults({"dataset": dataset})
            single = {name: usual.get(name, TrainSettings.model_fields[name].default) for name in ("method", "seed")}
            mine = {"methods": (single["method"],), "seeds": usual.get("seeds") or (single["seed"],)} | mine
        return cls.build(**mine), given

    def each(self, dataset: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the parameters of every run: all methods and paddings with the first seed, then with the next.

        What a method has no use for is not among its own.
        """
        found = []
        for number, seed in enumerate(self.seeds):
            for method in self.methods if not number else [name for name in self.methods if name != "zero_shot"]:
                own = {name: value for name, value in given.items() if name not in not_of(method)}
                for padding in (self.paddings or (None,)) if method == "reprogrammer" else (None,):
                    width = {} if padding is None else {"padding": padding}
                    found.append({"dataset": dataset, **own, "method": method, "seed": seed, **width})
        return found

    def useless(self, given: Mapping[str, Any]) -> list[str]:
        """Return those parameters that no method of the grid has a use for."""
        wide = {"paddings"} if self.paddings and "reprogrammer" not in self.methods else set()
        return sorted(wide | {name for name in given if all(name in not_of(method) for method in self.methods)})


def asks_for_a_grid(given: Mapping[str, Any]) -> bool:
    """Say whether parameters are about many runs; seeds alone are not: one method's share its page."""
    return bool(given.keys() & {"methods", "paddings", "engine", "workers", "cores"})
