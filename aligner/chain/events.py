"""Events of a running chain, for progress displays, notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aligner.stage import Plan, Progress


@dataclass(frozen=True, kw_only=True)
class StepStarted:
    """A step starts to run."""

    number: int
    of: int
    step: str
    stage: str
    plan: Plan
    folder: Path


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """A running step reports progress."""

    number: int
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class StepReused:
    """A step is not run, because an equal one has finished before."""

    number: int
    of: int
    step: str
    stage: str
    metrics: Mapping[str, float]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class StepFinished:
    """A step has finished, and its output is saved."""

    number: int
    of: int
    step: str
    stage: str
    metrics: Mapping[str, float]
    seconds: float
    folder: Path


@dataclass(frozen=True, kw_only=True)
class StepFailed:
    """A step raised `error`, or was interrupted."""

    number: int
    of: int
    step: str
    stage: str
    error: BaseException
    folder: Path


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """The last step of the run has finished or was reused."""

    folder: Path
    seconds: float


Event = StepStarted | StepProgress | StepReused | StepFinished | StepFailed | RunFinished
