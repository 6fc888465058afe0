"""What a recipe is once it is read: a model, a seed, and steps with gates."""

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
    """The model a chain begins with."""

    path: str
    """A folder, relative ones from the recipe's; or an id on the hub."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """One entry under `steps:`, as written: its options are not yet held against the stage."""

    stage: str
    name: str
    options: dict[str, Any]
    gate: Mapping[str, Bound] = field(default_factory=dict)
    """Bounds on metrics of the step; the chain stops where one is not met."""
    where: str
    """`file:line` of the entry, the nearest one where several recipes write it."""
    lines: Mapping[str, str] = field(default_factory=dict)
    """`file:line` of each key: `learning_rate`, `adapter.r`, `data.0.path`, `gate.eval_loss`."""

    def at(self, option: str) -> str:
        """Where `option` is written, or else the nearest thing around it."""
        while option and option not in self.lines:
            option = option.rpartition(".")[0]
        return self.lines.get(option, self.where)


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """A chain as its author wrote it, with `extends`, overrides and variables worked in."""

    name: str
    description: str = ""
    model: ModelSpec | None
    model_where: str
    """`file:line` of `model:`, or of the recipe where there is none."""
    seed: int
    steps: tuple[StepSpec, ...]
    path: Path | None
    """The file it was read from, or None for one made in Python."""
    folder: Path
    """Relative paths start here, also those that a recipe it extends has written."""
    errors: tuple[AlignerError, ...] = field(default=(), compare=False, repr=False)
    """What was wrong with it, where it was read all the same so that a check finds the rest as well."""

    @property
    def where(self) -> str:
        """How a complaint about the whole recipe names it."""
        return str(self.path) if self.path else "recipe"

    def to_yaml(self) -> str:
        """The recipe in one file, which reads back as the same name, model, seed and steps."""
        sheet: dict[str, Any] = {"name": self.name}
        if self.description:
            sheet["description"] = self.description
        sheet["seed"] = self.seed
        if self.model and self.model.revision is None:
            sheet["model"] = self.model.path
        elif self.model:
            sheet["model"] = {"path": self.model.path, "revision": self.model.revision}
        sheet["steps"] = [_entry(step) for step in self.steps]
        return yaml.dump(
            _escaped(sheet), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
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
    """Quotes whatever our reading, or that of YAML 1.1, would not take as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = isinstance(scalar(text), str) and text.isprintable()
    except ValueError:
        plain = False
    # In double quotes everything unusual is escaped: line ends, tabs, marks that cannot be seen.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
