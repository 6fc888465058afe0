"""Data classes of a recipe: model, seed, and steps with options and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aligner.errors import AlignerError
from aligner.recipe.bound import Bound
from aligner.recipe.tree import scalar
from aligner.recipe.variables import escape


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Initial model of a chain."""

    path: str
    """A folder, relative to the recipe, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """One entry under `steps:`; the options are not validated yet."""

    stage: str
    name: str
    options: dict[str, Any]
    gate: Mapping[str, Bound] = field(default_factory=dict)
    """Bounds on metrics of the step; the chain stops if one is not met."""
    where: str
    """`file:line` of the entry, in the extending recipe if several contain it."""
    lines: Mapping[str, str] = field(default_factory=dict)
    """`file:line` of each key: `learning_rate`, `adapter.r`, `data.0.path`, `gate.eval_loss`."""

    def at(self, option: str) -> str:
        """Return `file:line` of `option`, or of the closest option or step around it."""
        while option and option not in self.lines:
            option = option.rpartition(".")[0]
        return self.lines.get(option, self.where)


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """A recipe with `extends`, overrides and variables resolved."""

    name: str
    description: str = ""
    model: ModelSpec | None
    model_where: str
    """`file:line` of `model:`, or of the recipe if it has no model."""
    seed: int
    steps: tuple[StepSpec, ...]
    path: Path | None
    """The file, or None for a recipe built in Python."""
    folder: Path
    """Base folder of relative paths, those of extended recipes included."""
    errors: tuple[AlignerError, ...] = field(default=(), compare=False, repr=False)
    """Errors of reading, if reading continued so that a check finds further errors."""

    @property
    def where(self) -> str:
        """Return the location for errors about the whole recipe."""
        return str(self.path) if self.path else "recipe"

    def to_yaml(self) -> str:
        """Return the recipe as one YAML file that reads back to the same name, model, seed and steps."""
        content: dict[str, Any] = {"name": self.name}
        if self.description:
            content["description"] = self.description
        content["seed"] = self.seed
        if self.model and self.model.revision is None:
            content["model"] = self.model.path
        elif self.model:
            content["model"] = {"path": self.model.path, "revision": self.model.revision}
        content["steps"] = [_entry(step) for step in self.steps]
        return yaml.dump(
            _escaped(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
        )


def _entry(step: StepSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": step.stage}
    if step.name != step.stage:
        entry["as"] = step.name
    if step.gate:
        entry["gate"] = {metric: str(bound) for metric, bound in step.gate.items()}
    return entry | step.options


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes text which our reader, or YAML 1.1, would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = isinstance(scalar(text), str) and text.isprintable()
    except ValueError:
        plain = False
    # Double quotes escape everything unusual: line ends, tabs, invisible characters.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
