"""Models, prompts, rewards and optimizer of one online step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aligner.models.generate import Sampling
from aligner.models.language_model import LanguageModel
from aligner.models.reference import Reference
from aligner.rl.actor import Actor
from aligner.rl.algorithm import Algorithm
from aligner.rl.optimizer import RLOptimizer
from aligner.rl.options import RLOptions
from aligner.rl.processes import ProcessGroup
from aligner.rl.prompts import RLPrompt
from aligner.train.scoring import RewardSource

Mix = Callable[[int], Tensor]
"""Runs the backward pass of an optimizer step's pretraining rows; returns this process's loss."""


@dataclass(frozen=True, kw_only=True)
class RLContext:
    """All parts of one online step."""

    algorithm: Algorithm[Any]
    optimizer: RLOptimizer
    reference: Reference
    reference_parts: LanguageModel
    """Trunk and head of the reference."""
    prompts: Sequence[RLPrompt]
    held_out: Sequence[RLPrompt]
    sources: Sequence[RewardSource]
    sampling: Sampling
    tokenizer: Any
    mix: Mix | None
    iterations: int

    @property
    def actor(self) -> Actor:
        return self.optimizer.actor

    @property
    def options(self) -> RLOptions:
        options: RLOptions = self.algorithm.options
        return options

    @property
    def processes(self) -> ProcessGroup:
        return self.optimizer.processes
