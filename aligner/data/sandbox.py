"""Run chat templates, which anybody may have written, in transformers' sandbox with time and size bounded."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, cast

from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateError

from aligner.data.bounds import Bounded, compiled
from aligner.data.reading.messages import MalformedRowError

LARGEST = 64
"""A rendered conversation may be this many times as long as what was said, beyond the first megabyte."""
SLOWEST = 10.0
"""Seconds of the processor that one rendering may take before the template is taken to be endless:
on a machine that is busy with other things, none is refused that is not on an idle one."""

Spans = tuple[tuple[int, int], ...]


class Sandboxed:
    """One template, compiled when it is first rendered."""

    def __init__(self, source: str, names: Mapping[str, Any], *, marked: bool) -> None:
        """Args: its text; what it knows besides the turns (`bos_token`, …); whether to say which
        stretches of the text it marks with `{% generation %}`."""
        self._source, self._names, self._marked = source, names, marked
        self._compiled: tuple[JinjaTemplate, dict[str, Any]] | None = None

    def render(
        self, turns: Sequence[Mapping[str, Any]], tools: Any, *, ask: bool
    ) -> tuple[str, Spans]:
        """The text, and where in it the stretches are that the template marks.

        Raises:
            Malformed: the template is wrong, refuses the turns, or writes without end.
        """
        try:
            template, known = self._compiled or self._compile()
            given = {**known, "messages": turns, "tools": tools, "add_generation_prompt": ask}
            text, spans = self._run(template, given)
        except MalformedRowError:
            raise
        except TemplateError as error:
            raise MalformedRowError(f"the chat template refuses it: {_line(error)}") from None
        except (
            TypeError,
            ValueError,
            KeyError,
            ArithmeticError,
            MemoryError,
            RecursionError,
        ) as error:
            said = f"{type(error).__name__}: {_line(error)}"
            raise MalformedRowError(f"the chat template fails on it: {said}") from None
        if len(text) > 1 << 20:
            length = sum(len(str(turn)) for turn in turns) + len(str(tools or ""))
            if len(text) > (1 << 20) + LARGEST * length:
                raise MalformedRowError(
                    f"the chat template makes {len(text)} characters of {length}"
                )
        return text, spans

    def _compile(self) -> tuple[JinjaTemplate, dict[str, Any]]:
        template = compiled(self._source)
        known = {**template.globals, "documents": None, **self._names}
        self._compiled = template, known
        return self._compiled

    def _run(self, template: JinjaTemplate, given: dict[str, Any]) -> tuple[str, Spans]:
        environment = cast(Bounded, template.environment)
        environment.begin((given["messages"], given["tools"]))
        context = template.new_context(given, shared=True)
        blocks: list[str] = []
        spans: list[tuple[int, int]] = []
        with environment.tracked(blocks, spans) if self._marked else nullcontext():
            for block in template.root_render_func(context):
                blocks.append(block)  # the tracker counts what is there by now
                environment.spend(len(block) + 8)
        return "".join(blocks), tuple(spans)


def _line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]


class Watch:
    """Stops a rendering that takes more than `SLOWEST` seconds of its thread's processor time.

    Only the main thread of a process on Unix can be stopped so. Within `over`, watching one rendering
    costs next to nothing: clocks are read at ticks, not at renderings.
    """

    def __init__(self) -> None:
        self._rendering = 0
        """The number of the rendering that is under way, or of the last one."""
        self._depth = 0
        self._alone: AbstractContextManager[None] | None = None
        self._ticking = False
        self._seen = (0, 0.0, 0.0)
        """At the last tick: the rendering, the thread's time, and how much of it that rendering had."""

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            if not self._ticking:
                self._alone = self.over()
                self._alone.__enter__()
            self._rendering += 1

    def __exit__(self, *raised: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            alone, self._alone = self._alone, None
            if alone is not None:
                alone.__exit__(None, None, None)

    @contextmanager
    def over(self) -> Iterator[None]:
        """Watch all renderings in the block, each for itself.

        Raises:
            Malformed: inside the rendering that lasts too long.
        """
        main = threading.current_thread() is threading.main_thread()
        if self._ticking or not main or not hasattr(signal, "setitimer"):
            yield
            return
        start = time.monotonic()
        before = signal.signal(signal.SIGALRM, self._look)
        remaining, again = signal.setitimer(signal.ITIMER_REAL, SLOWEST / 10, SLOWEST / 10)
        self._ticking = True
        try:
            yield
        finally:
            self._ticking = False
            left = max(remaining - (time.monotonic() - start), 1e-6) if remaining else 0.0
            signal.setitimer(signal.ITIMER_REAL, left, again)
            signal.signal(signal.SIGALRM, before)

    def _look(self, number: int, frame: FrameType | None) -> None:
        if not self._depth:
            return
        now, (rendering, then, had) = time.thread_time(), self._seen
        had = had + now - then if rendering == self._rendering else 0.0
        self._seen = (self._rendering, now, had)
        # The first tick of a rendering may come a tenth after its beginning.
        if had >= 0.9 * SLOWEST:
            raise MalformedRowError(f"the chat template has not finished after {SLOWEST:g} seconds")
