"""A recipe in Python: read from a file, or built from stages' own classes, or begun with a live model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aligner import chain
from aligner.api.checked import Checked
from aligner.api.plugins import host_with
from aligner.api.previewed import Preview
from aligner.api.result import Result
from aligner.chain import Event
from aligner.errors import ErrorGroup, PluginError
from aligner.host import Host
from aligner.preview import PreviewRequest
from aligner.recipe import ModelSpec, RecipeSpec, read_recipe, recipe_from
from aligner.stage import Stage

if TYPE_CHECKING:
    from aligner.models.live_model import Given

Start = str | os.PathLike[str] | tuple[Any, Any]
"""A folder or hub id, or a live transformers model and its tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage's place in a recipe, where it needs a name of its own or a gate.

    >>> from aligner.testing import Nothing
    >>> Step(stage=Nothing(), name="first", gate={"loss": "< 2.5"}).name
    'first'
    """

    stage: Stage[Any]
    name: str | None = None
    """What the step is called; the stage's name where None."""
    gate: Mapping[str, str] = field(default_factory=dict)
    """Bounds on metrics of the step, written as in a recipe: `{"eval_loss": "< 2.5"}`."""


class Recipe:
    """An ordered chain of steps, ready to be checked and run.

    Args:
        steps: Stages with their options, `DPO(DPOOptions(data="pairs.jsonl"))`, or `Step`s.
        model: What the chain begins with; None where its first step makes one. A live model is
            handed over: it is written down at the first check, and the first run trains that very
            object in place. Later runs begin again from what was written down. The tokenizer is
            written down as well, and left alone.
        revision: Commit, tag or branch of a hub id.
        name: Names the run's folder.
        seed: Decides every random draw of the chain.
        folder: Relative paths in options start here; the current folder by default.
        plugins: To be used besides the installed ones. A stage class that no plugin offers needs
            none: it is taken as it is.

    Raises:
        RecipeError: A name, a gate or the seed is not what it must be.
        ErrorGroup: Several are.
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
        placed = [one if isinstance(one, Step) else Step(stage=one) for one in steps]
        sheet: dict[str, Any] = {"name": name, "description": description, "seed": seed}
        if model is not None and not isinstance(model, tuple):
            sheet["model"] = {"path": os.fspath(model)}
            sheet["model"] |= {"revision": revision} if revision else {}
        sheet["steps"] = [_entry(one) for one in placed]
        self.written: RecipeSpec = recipe_from(sheet, folder=Path(folder).absolute())
        """The recipe as `aligner.recipe` reads it."""
        self._stages = tuple(one.stage for one in placed)
        self._plugins = tuple(plugins)
        self._given = _given(model)

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
            set: `STEP.OPTION=VALUE`, laid over what is written, as with `--set`.
            model: Begin with this one in place of the recipe's.
            plugins: To be used besides the installed ones.

        Raises:
            RecipeError: One thing is wrong with it; it names file and line.
            ErrorGroup: Several things are.
        """
        made = cls.__new__(cls)
        made.written = read_recipe(path, overrides=set)
        if model is not None and not isinstance(model, tuple):
            made.written = replace(made.written, model=ModelSpec(path=os.fspath(model)))
        made._stages, made._plugins, made._given = (), tuple(plugins), _given(model)
        return made

    def check(self, *, runs: str | os.PathLike[str] = "runs", host: Host | None = None) -> Checked:
        """Check the whole chain; no weights are loaded.

        Args:
            runs: Folder of all runs. A live model is written down under it.
            host: The plugins to use; by default the installed ones and the recipe's.

        Raises:
            AlignerError: Something is wrong.
            ErrorGroup: Several things are, all told at once.
        """
        host = host_with(self._plugins, self._stages) if host is None else host
        folder = Path(runs).absolute()
        checked = chain.check(chain.link(self._begun(folder), host), host, runs=folder)
        for stage, link in zip(self._stages, checked.chain.steps, strict=bool(self._stages)):
            if link.stage.options != stage.options:
                raise PluginError(
                    f"the options of step {link.name!r} do not read back as they were given",
                    where=link.where,
                    hint="options must survive `model_dump(mode='json', exclude_unset=True)`",
                )
        return Checked(inner=checked, host=host, runs=folder, given=self._given)

    def preview(
        self,
        *,
        steps: Sequence[str] = (),
        rows: Sequence[int | str] = (1, 2),
        held_out: bool = False,
        runs: str | os.PathLike[str] = "runs",
        host: Host | None = None,
    ) -> Preview:
        """Show rows as the model will get them, token by token; no weights are loaded.

        Args:
            steps: Names of the steps to look at; all by default.
            rows: By number, counted from 1, or by where they are written: `talks.jsonl:17`.
            held_out: Show rows that are measured on, not those that are trained on.
            runs: Folder of all runs. A live model is written down under it, and prepared data kept.
            host: The plugins to use; by default the installed ones and the recipe's.

        Raises:
            AlignerError: Something is wrong, and nothing could be shown; what is wrong with some of
                the steps alone is in `Preview.errors`.
        """
        host = host_with(self._plugins, self._stages) if host is None else host
        folder = Path(runs).absolute()
        linked = chain.link(self._begun(folder), host)
        asked = PreviewRequest(rows=tuple(rows), by_name=tuple(rows) != (1, 2), held_out=held_out)
        shown = chain.preview(linked, host, asked, steps=steps, runs=folder)
        if not shown.steps:
            ErrorGroup.raise_if_any(shown.errors)
        return Preview(shown)

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
        """Check the chain and run every step that is not done already; see `Checked.run`."""
        checked = self.check(runs=runs, host=host)
        return checked.run(
            name=name,
            until=until,
            start_from=start_from,
            fresh=fresh,
            show=show,
            on_event=on_event,
        )

    def _begun(self, folder: Path) -> RecipeSpec:
        """The recipe with a live model written down, where it begins with one."""
        if self._given is None:
            return self.written
        start = self._given.written(folder / ".models")
        return replace(self.written, model=ModelSpec(path=str(start)))

    def to_yaml(self) -> str:
        """The recipe as a file for `aligner run`; a live model is not in it."""
        return self.written.to_yaml()

    def __repr__(self) -> str:
        steps = ", ".join(step.name for step in self.written.steps)
        return f"Recipe({self.written.name!r}: {steps})"


def _entry(step: Step) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": step.stage.name}
    if step.name is not None:
        entry["as"] = step.name
    if step.gate:
        entry["gate"] = dict(step.gate)
    options: dict[str, Any] = step.stage.options.model_dump(mode="json", exclude_unset=True)
    return entry | options


def _given(model: Start | None) -> Given | None:
    if not isinstance(model, tuple):
        return None
    from aligner.models.live_model import Given  # torch waits until there is a live model

    return Given(*model)
