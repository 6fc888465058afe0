"""Declaration of an offline stage, passed from its light half to the functions that run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aligner.registry import RowKind
from aligner.state import Slot


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The class attributes of an `OfflineStage`, for the functions that plan and run it."""

    stage: str
    """Name of the stage."""
    reads: RowKind
    """Kind of its rows."""
    trains: Slot
    """Slot that receives the trained model."""
    provides: frozenset[Slot]
    """All slots that it fills."""
    metrics: Mapping[str, str]
    """Final metrics: name for gates, and name in the trainer's log."""
