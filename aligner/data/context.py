"""Context in which a stage reads data: start of relative paths, and lines of the recipe for errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aligner.registry import Registry


class DataContext(Protocol):
    """Interface that `aligner.PlanContext` and `aligner.StepContext` share."""

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
        """Folder of prepared data for later processes; None keeps it for this process alone."""
        ...

    @property
    def past(self) -> Mapping[str, Any]:
        """Results of earlier steps: a `ModelState` each, or while planning a `SlotForecast` per slot."""
        ...

    def at(self, option: str) -> str: ...


@dataclass(frozen=True)
class OptionContext:
    """The same context for data that a step names by another option than `data`."""

    context: DataContext
    data: str
    """Option that names the data: `prompts`, or `mix.data` inside another option."""

    @property
    def recipe_folder(self) -> Path:
        return self.context.recipe_folder

    @property
    def registry(self) -> Registry:
        return self.context.registry

    @property
    def memo(self) -> dict[str, Any]:
        return self.context.memo

    @property
    def seed(self) -> int:
        return self.context.seed

    @property
    def cache(self) -> Path | None:
        return self.context.cache

    @property
    def past(self) -> Mapping[str, Any]:
        return self.context.past

    def at(self, option: str) -> str:
        name, dot, rest = option.partition(".")
        if name == "data":
            return self.context.at(f"{self.data}{dot}{rest}")
        within = self.data.rpartition(".")[0]
        return self.context.at(f"{within}.{option}" if within else option)
