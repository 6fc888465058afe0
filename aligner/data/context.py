"""Where a stage stands when it asks for data: relative paths start there, and complaints point there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aligner.registry import Registry


class DataContext(Protocol):
    """`aligner.PlanContext` and `aligner.StepContext` both are one."""

    @property
    def recipe_folder(self) -> Path: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def memo(self) -> dict[str, Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def cache(self) -> Path | None:
        """Where prepared data is kept for later processes; None keeps it for this one alone."""
        ...

    @property
    def past(self) -> Mapping[str, Any]:
        """What earlier steps left, a `ModelState` each, or will leave, an `SlotForecast` for each slot."""
        ...

    def at(self, option: str) -> str: ...


@dataclass(frozen=True)
class OptionContext:
    """The same place, for data that a step calls by another option than `data`."""

    place: DataContext
    data: str
    """The option that names the data: `prompts`, or `mix.data` inside another."""

    @property
    def recipe_folder(self) -> Path:
        return self.place.recipe_folder

    @property
    def registry(self) -> Registry:
        return self.place.registry

    @property
    def memo(self) -> dict[str, Any]:
        return self.place.memo

    @property
    def seed(self) -> int:
        return self.place.seed

    @property
    def cache(self) -> Path | None:
        return self.place.cache

    @property
    def past(self) -> Mapping[str, Any]:
        return self.place.past

    def at(self, option: str) -> str:
        name, dot, rest = option.partition(".")
        if name == "data":
            return self.place.at(f"{self.data}{dot}{rest}")
        within = self.data.rpartition(".")[0]
        return self.place.at(f"{within}.{option}" if within else option)
