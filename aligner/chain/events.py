"""What a running chain says of itself, for progress displays, notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aligner.stage import Plan, Progress


@dataclass(frozen=True, kw_only=True)
class StepStarted:
    number: int
    of: int
    step: str
    stage: str
    plan: Plan
    folder: Path


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    number: int
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class StepReused:
    number: int
    of: int
    step: str
    stage: str
    metrics: Mapping[str, float]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class StepFinished:
    number: int
    of: int
    step: str
    stage: str
    metrics: Mapping[str, float]
    seconds: float
    folder: Path


@dataclass(frozen=True, kw_only=True)
class StepFailed:
    number: int
    of: int
    step: str
    stage: str
    error: BaseException
    folder: Path


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    folder: Path
    seconds: float


Event = StepStarted | StepProgress | StepReused | StepFinished | StepFailed | RunFinished
