"""A chain that was checked: what it will do, to read or to run."""

from __future__ import annotations

import io
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
from aligner.terminal.console import console_on, is_live, show
from aligner.terminal.forecast import forecast
from aligner.terminal.plan_table import planned
from aligner.terminal.progress import Display, PlainLines, Silent, shown_live
from aligner.terminal.progress_state import Following

if TYPE_CHECKING:
    from aligner.models.live_model import Given

_WIDTH = 100
"""Columns of the table, wherever it is read."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Checked:
    """What `Recipe.check` found out. Printed, it is the table of `aligner check`."""

    inner: chain.CheckedChain
    host: Host = field(repr=False)
    runs: Path
    """Folder of all runs."""
    given: Given | None = field(default=None, repr=False)
    """The live model that the chain begins with, if any."""

    @property
    def plans(self) -> Mapping[str, Plan]:
        """What each step will do, by its name."""
        links = self.inner.chain.steps
        return {link.name: plan for link, plan in zip(links, self.inner.plans, strict=True)}

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
        """Run every step that is not done already.

        Args:
            name: Name of the run; the recipe's own where None.
            until: Stop after this step.
            start_from: Run again from this step on; what is before it must have finished.
            fresh: Run every step again.
            show: Show progress: drawn in place on a terminal, as lines of text anywhere else.
            on_event: Hears each event. What it raises stops the run.

        Raises:
            AlignerError: A step failed, a gate does not hold, or the run was stopped; what had
                finished is kept, and the same call goes on from there.
        """
        model_cache = ModelCache()
        if self.given is not None:
            self.given.lend(model_cache)
        names = [link.name for link in self.inner.chain.steps]
        if until in names:
            names = names[: names.index(until) + 1]
        with _display(names, show=show) as display:

            def tell(event: Event) -> None:
                display.tell(event)
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
                on_event=tell,
            )
        return Result.of(outcome)

    def __str__(self) -> str:
        answers = forecast(self.inner, self.runs, name=self.inner.chain.recipe.name)
        drawn = io.StringIO()
        console = console_on(drawn)
        console.width = _WIDTH
        show(console, planned(self.inner, answers, console, everything=False))
        return drawn.getvalue().rstrip("\n")

    __repr__ = __str__


@contextmanager
def _display(names: list[str], *, show: bool) -> Iterator[Display]:
    console: Console = console_on()
    following = Following(names)
    if not show or processes.rank() != 0:
        yield Silent()
    elif is_live(console):
        with shown_live(console, following) as display:
            yield display
    else:
        yield PlainLines(console, following)
