"""A recipe in Python, loaded from a file or built from stage classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aligner import chain
from aligner.api.checked_recipe import CheckedRecipe
from aligner.api.plugins import make_host
from aligner.api.recipe_preview import RecipePreview
from aligner.api.result import Result
from aligner.chain import Event
from aligner.errors import ErrorGroup, PluginError
from aligner.host import Host
from aligner.preview import PreviewRequest
from aligner.recipe import ModelSpec, RecipeSpec, read_recipe, recipe_from
from aligner.stage import Stage

if TYPE_CHECKING:
    from aligner.models.live_model import LiveModel

Start = str | os.PathLike[str] | tuple[Any, Any]
"""A folder, a Hub id, or a pair of a live transformers model and its tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage in a recipe with its own name or a gate.

    >>> from aligner.testing import Nothing
    >>> Step(stage=Nothing(), name="first", gate={"loss": "< 2.5"}).name
    'first'
    """

    stage: Stage[Any]
    name: str | None = None
    """Name of the step; None means the stage's name."""
    gate: Mapping[str, str] = field(default_factory=dict)
    """Bounds on metrics of the step, as in a recipe: `{"eval_loss": "< 2.5"}`."""


class Recipe:
    """A chain of steps to check and run.

    Args:
        steps: Stages with their options, `DPO(DPOOptions(data="pairs.jsonl"))`, or `Step`s.
        model: Base model: a folder, a Hub id, or a pair of live model and tokenizer. None if the first
            step creates a model. A live model is saved at the first check, and the first run trains
            the object in place. Later runs start from the saved copy. The tokenizer is saved too, and
            not changed.
        revision: Commit, tag or branch of a Hub id.
        name: Name of the run's folder.
        seed: Seed of every random number of the chain.
        folder: Folder that relative paths in options start from; the current folder by default.
        plugins: Plugins besides the installed ones. A local stage class needs no plugin.

    Raises:
        RecipeError: A name, a gate or the seed is invalid.
        ErrorGroup: There are several errors.
    """

    def __init__(
        self,
        steps: Sequence[Stage[Any] | Step],
        *,
        model: Start | None = None,
        revision: str | None = None,
        name: str = "recipe",
        description: str = "",
        seed: int = 0,
        folder: str | os.PathLike[str] = ".",
        plugins: Iterable[object] = (),
    ) -> None:
        listed = [step if isinstance(step, Step) else Step(stage=step) for step in steps]
        tree: dict[str, Any] = {"name": name, "description": description, "seed": seed}
        if model is not None and not isinstance(model, tuple):
            tree["model"] = {"path": os.fspath(model)}
            tree["model"] |= {"revision": revision} if revision else {}
        tree["steps"] = [_entry(step) for step in listed]
        self.spec: RecipeSpec = recipe_from(tree, folder=Path(folder).absolute())
        """The parsed recipe."""
        self._stages = tuple(step.stage for step in listed)
        self._plugins = tuple(plugins)
        self._live_model = _live_model(model)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        set: Sequence[str] = (),
        model: Start | None = None,
        plugins: Iterable[object] = (),
    ) -> Recipe:
        """Read a recipe file.

        Args:
            set: Overrides `STEP.OPTION=VALUE`, as with `--set`.
            model: Base model instead of the recipe's.
            plugins: Plugins besides the installed ones.

        Raises:
            RecipeError: The recipe has an error; the message names file and line.
            ErrorGroup: It has several errors.
        """
        recipe = cls.__new__(cls)
        recipe.spec = read_recipe(path, overrides=set)
        if model is not None and not isinstance(model, tuple):
            recipe.spec = replace(recipe.spec, model=ModelSpec(path=os.fspath(model)))
        recipe._stages, recipe._plugins, recipe._live_model = (), tuple(plugins), _live_model(model)
        return recipe

    def check(
        self, *, runs: str | os.PathLike[str] = "runs", host: Host | None = None
    ) -> CheckedRecipe:
        """Check the whole chain without loading weights.

        Args:
            runs: Folder of all runs. A live model is saved in it.
            host: The plugins to use; by default the installed ones and the recipe's.

        Raises:
            AlignerError: The chain has an error.
            ErrorGroup: It has several; all of them are listed.
        """
        host = make_host(self._plugins, self._stages) if host is None else host
        folder = Path(runs).absolute()
        checked = chain.check(chain.link(self._start(folder), host), host, runs=folder)
        for stage, step in zip(self._stages, checked.chain.steps, strict=bool(self._stages)):
            options = stage.options
            dumped = options.model_dump(mode="json", exclude_unset=True)
            if type(options).model_validate(dumped) != options:
                raise PluginError(
                    f"the options of step {step.name!r} change when saved and read back",
                    where=step.where,
                    hint="`model_dump(mode='json', exclude_unset=True)` must keep every option",
                )
        return CheckedRecipe(inner=checked, host=host, runs=folder, given=self._live_model)

    def preview(
        self,
        *,
        steps: Sequence[str] = (),
        rows: Sequence[int | str] = (1, 2),
        held_out: bool = False,
        runs: str | os.PathLike[str] = "runs",
        host: Host | None = None,
    ) -> RecipePreview:
        """Return rows token by token, as the model gets them, without loading weights.

        Args:
            steps: Names of the steps to preview; all by default.
            rows: Rows by number, counted from 1, or by file and line: `talks.jsonl:17`.
            held_out: Preview validation rows instead of training rows.
            runs: Folder of all runs. A live model and prepared data are saved in it.
            host: The plugins to use; by default the installed ones and the recipe's.

        Raises:
            AlignerError: No step can be previewed. Errors of single steps are in
                `RecipePreview.errors`.
        """
        host = make_host(self._plugins, self._stages) if host is None else host
        folder = Path(runs).absolute()
        linked = chain.link(self._start(folder), host)
        request = PreviewRequest(
            rows=tuple(rows), required=tuple(rows) != (1, 2), held_out=held_out
        )
        preview = chain.preview(linked, host, request, steps=steps, runs=folder)
        if not preview.steps:
            ErrorGroup.raise_if_any(preview.errors)
        return RecipePreview(preview)

    def run(
        self,
        *,
        runs: str | os.PathLike[str] = "runs",
        name: str | None = None,
        until: str | None = None,
        start_from: str | None = None,
        fresh: bool = False,
        show: bool = True,
        on_event: Callable[[Event], None] | None = None,
        host: Host | None = None,
    ) -> Result:
        """Check the chain and run every step that has not finished yet; see `CheckedRecipe.run`."""
        checked = self.check(runs=runs, host=host)
        return checked.run(
            name=name,
            until=until,
            start_from=start_from,
            fresh=fresh,
            show=show,
            on_event=on_event,
        )

    def _start(self, folder: Path) -> RecipeSpec:
        """Return the recipe with the path of its live model, which is saved first."""
        if self._live_model is None:
            return self.spec
        start = self._live_model.saved(folder / ".models")
        return replace(self.spec, model=ModelSpec(path=str(start)))

    def to_yaml(self) -> str:
        """Return the recipe as YAML for `aligner run`, without a live model."""
        return self.spec.to_yaml()

    def __repr__(self) -> str:
        steps = ", ".join(step.name for step in self.spec.steps)
        return f"Recipe({self.spec.name!r}: {steps})"


def _entry(step: Step) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": step.stage.name}
    if step.name is not None:
        entry["as"] = step.name
    if step.gate:
        entry["gate"] = dict(step.gate)
    options: dict[str, Any] = step.stage.options.model_dump(mode="json", exclude_unset=True)
    return entry | options


def _live_model(model: Start | None) -> LiveModel | None:
    if not isinstance(model, tuple):
        return None
    from aligner.models.live_model import LiveModel  # loads torch

    return LiveModel(*model)
