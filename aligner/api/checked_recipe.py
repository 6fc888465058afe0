"""A checked recipe: its plans, and the method that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from aligner import chain
from aligner.api.result import Result
from aligner.chain import Event
from aligner.host import Host
from aligner.run import processes
from aligner.stage import Plan
from aligner.state import ModelCache
from aligner.terminal.console import is_live, make_console, render_text
from aligner.terminal.forecast import forecast
from aligner.terminal.plan_table import render_plan
from aligner.terminal.progress import Display, LineDisplay, NoDisplay, live_display
from aligner.terminal.progress_state import ProgressTracker

if TYPE_CHECKING:
    from aligner.models.live_model import LiveModel


@dataclass(frozen=True, kw_only=True, repr=False)
class CheckedRecipe:
    """Result of `Recipe.check`. It prints as the table of `aligner check`."""

    inner: chain.CheckedChain
    host: Host = field(repr=False)
    runs: Path
    """Folder of all runs."""
    given: LiveModel | None = field(default=None, repr=False)
    """The live model that the chain starts from, if any."""

    @property
    def plans(self) -> Mapping[str, Plan]:
        """The plan of each step, by name."""
        steps = self.inner.chain.steps
        return {step.name: plan for step, plan in zip(steps, self.inner.plans, strict=True)}

    def run(
        self,
        *,
        name: str | None = None,
        until: str | None = None,
        start_from: str | None = None,
        fresh: bool = False,
        show: bool = True,
        on_event: Callable[[Event], None] | None = None,
    ) -> Result:
        """Run every step that has not finished yet.

        Args:
            name: Name of the run; None means the recipe's name.
            until: Stop after this step.
            start_from: Run this step and all later steps again; earlier steps must have finished.
            fresh: Run every step again.
            show: Show progress: in place on a terminal, else as lines of text.
            on_event: Called with each event. An exception that it raises stops the run.

        Raises:
            AlignerError: A step failed, a gate was not met, or the run was stopped. Finished steps
                are kept, and the same call resumes the run.
        """
        model_cache = ModelCache()
        if self.given is not None:
            self.given.lend(model_cache)
        names = [step.name for step in self.inner.chain.steps]
        if until in names:
            names = names[: names.index(until) + 1]
        with _display(names, show=show) as display:

            def handle(event: Event) -> None:
                display.on_event(event)
                if on_event is not None:
                    on_event(event)

            outcome = chain.run(
                self.inner,
                self.host,
                runs=self.runs,
                name=name,
                until=until,
                start_from=start_from,
                fresh=fresh,
                model_cache=model_cache,
                on_event=handle,
            )
        return Result.of(outcome)

    def __str__(self) -> str:
        forecasts = forecast(self.inner, self.runs, name=self.inner.chain.recipe.name)
        return render_text(lambda console: render_plan(self.inner, forecasts, console, full=False))

    __repr__ = __str__


@contextmanager
def _display(names: list[str], *, show: bool) -> Iterator[Display]:
    console: Console = make_console()
    tracker = ProgressTracker(names)
    if not show or processes.rank() != 0:
        yield NoDisplay()
    elif is_live(console):
        with live_display(console, tracker) as display:
            yield display
    else:
        yield LineDisplay(console, tracker)
