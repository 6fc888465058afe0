"""Follow a chain's events: how each step stands, how fast it goes, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aligner.chain import (
    Event,
    RunFinished,
    StepFailed,
    StepFinished,
    StepProgress,
    StepReused,
    StepStarted,
)
from aligner.errors import Stopped
from aligner.terminal.text import amount, duration, format_metrics

Standing = Literal["waiting", "running", "done", "reused", "stopped", "failed"]

_LIVE_METRICS = 6
"""More do not fit under a bar."""
_SPEED = "tokens_per_second"
_UNSHOWN = frozenset({_SPEED, "num_tokens"})


@dataclass
class Followed:
    """One step of the chain, as a display sees it."""

    number: int
    step: str
    standing: Standing = "waiting"
    summary: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of this moment while it runs, final once it has."""
    seconds: float = 0.0
    """How long it took."""
    began: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = "step"
    first_done: int = 0
    """How much was done when it first reported: what a resumed step had behind it."""
    first_report: float = 0.0
    last_report: float = 0.0

    @property
    def share(self) -> float:
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0

    def left(self, now: float) -> float | None:
        """Seconds to the end at the speed so far; None before that is known."""
        moved, took = self.done - self.first_done, self.last_report - self.first_report
        if moved <= 0 or took <= 0 or self.total <= 0:
            return None
        return max((self.total - self.done) * took / moved - (now - self.last_report), 0.0)

    def position(self) -> str:
        """Where it is: `54/120` steps, or `54/120 rows`."""
        unit = "" if self.unit == "step" else f" {self.unit}s"
        return f"{self.done:,}/{self.total:,}{unit}" if self.total > 0 else ""

    def live_metrics(self) -> list[str]:
        """The metrics of this moment, the loss first, the speed last."""
        shown = {k: v for k, v in self.metrics.items() if k not in _UNSHOWN}
        shown = {k: shown[k] for k in sorted(shown, key=lambda name: name != "loss")}
        parts = format_metrics(dict(list(shown.items())[:_LIVE_METRICS]))
        if _SPEED in self.metrics:
            parts.append(f"{amount(round(self.metrics[_SPEED]))} tokens/s")
        return parts


class Following:
    """All steps of a chain that a run is to walk."""

    def __init__(
        self, steps: Sequence[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.steps = [Followed(number, step) for number, step in enumerate(steps, start=1)]
        self.clock = clock
        self.began = clock()

    def running(self) -> Followed | None:
        return next((one for one in self.steps if one.standing == "running"), None)

    def waiting(self) -> list[str]:
        return [one.step for one in self.steps if one.standing == "waiting"]

    def hear(self, event: Event) -> Followed | None:
        """Take an event in, and give back the step that it is about."""
        if isinstance(event, RunFinished):
            return None
        one, now = self.steps[event.number - 1], self.clock()
        match event:
            case StepStarted():
                one.standing, one.summary, one.began = "running", event.plan.summary, now
                one.metrics = {}
            case StepProgress(progress=progress):
                if one.total != progress.total or one.unit != progress.unit:
                    one.first_done, one.first_report = progress.done, now
                one.last_report = now
                one.done, one.total, one.unit = progress.done, progress.total, progress.unit
                one.metrics |= progress.metrics
            case StepFinished():
                one.standing, one.metrics = "done", dict(event.metrics)
                one.seconds = event.seconds
            case StepReused():
                one.standing, one.metrics = "reused", dict(event.metrics)
            case StepFailed():
                one.standing = "stopped" if isinstance(event.error, Stopped) else "failed"
                one.seconds = now - one.began
        return one


def time_left(one: Followed, now: float) -> str:
    """`1 min 05 s left`, or nothing before that is known."""
    left = one.left(now)
    return "" if left is None else f"{duration(left)} left"
