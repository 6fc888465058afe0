"""Track the events of a run: status, speed and remaining time of each step."""

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
from aligner.terminal.text import format_amount, format_duration, format_metrics

StepStatus = Literal["waiting", "running", "done", "reused", "stopped", "failed"]

_LIVE_METRICS = 6
"""Metrics shown below the progress bar."""
_SPEED = "tokens_per_second"
_HIDDEN = frozenset({_SPEED, "num_tokens"})


@dataclass
class TrackedStep:
    """Status and progress of one step."""

    number: int
    step: str
    status: StepStatus = "waiting"
    summary: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Current metrics while the step runs, final ones afterwards."""
    seconds: float = 0.0
    """Duration of the finished step."""
    started: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = "step"
    first_done: int = 0
    """Value of `done` in the first report; above 0 in a resumed step."""
    first_report: float = 0.0
    last_report: float = 0.0

    @property
    def share(self) -> float:
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0

    def left(self, now: float) -> float | None:
        """Return the remaining seconds at the speed so far; None if that is unknown."""
        advanced, seconds = self.done - self.first_done, self.last_report - self.first_report
        if advanced <= 0 or seconds <= 0 or self.total <= 0:
            return None
        return max((self.total - self.done) * seconds / advanced - (now - self.last_report), 0.0)

    def position(self) -> str:
        """Return the position: `54/120` steps, or `54/120 rows`."""
        unit = "" if self.unit == "step" else f" {self.unit}s"
        return f"{self.done:,}/{self.total:,}{unit}" if self.total > 0 else ""

    def live_metrics(self) -> list[str]:
        """Return the current metrics, the loss first, the speed last."""
        shown = {k: v for k, v in self.metrics.items() if k not in _HIDDEN}
        shown = {k: shown[k] for k in sorted(shown, key=lambda name: name != "loss")}
        parts = format_metrics(dict(list(shown.items())[:_LIVE_METRICS]))
        if _SPEED in self.metrics:
            parts.append(f"{format_amount(round(self.metrics[_SPEED]))} tokens/s")
        return parts


class ProgressTracker:
    """Tracks all steps of a run."""

    def __init__(
        self, steps: Sequence[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.steps = [TrackedStep(number, step) for number, step in enumerate(steps, start=1)]
        self.clock = clock

    def running(self) -> TrackedStep | None:
        return next((step for step in self.steps if step.status == "running"), None)

    def waiting(self) -> list[str]:
        return [step.step for step in self.steps if step.status == "waiting"]

    def update(self, event: Event) -> TrackedStep | None:
        """Process an event and return its step."""
        if isinstance(event, RunFinished):
            return None
        step, now = self.steps[event.number - 1], self.clock()
        match event:
            case StepStarted():
                step.status, step.summary, step.started = "running", event.plan.summary, now
                step.metrics = {}
            case StepProgress(progress=progress):
                if step.total != progress.total or step.unit != progress.unit:
                    step.first_done, step.first_report = progress.done, now
                step.last_report = now
                step.done, step.total, step.unit = progress.done, progress.total, progress.unit
                step.metrics |= progress.metrics
            case StepFinished():
                step.status, step.metrics = "done", dict(event.metrics)
                step.seconds = event.seconds
            case StepReused():
                step.status, step.metrics = "reused", dict(event.metrics)
            case StepFailed():
                step.status = "stopped" if isinstance(event.error, Stopped) else "failed"
                step.seconds = now - step.started
        return step


def time_left(step: TrackedStep, now: float) -> str:
    """Return `1 min 05 s left`, or an empty string if that is unknown."""
    seconds = step.left(now)
    return "" if seconds is None else f"{format_duration(seconds)} left"
