"""All that PPO works with in one step: models, prompts, sources of reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.models.generate import Sampling
from aligner.models.language_model import LanguageModel
from aligner.models.reference import Reference
from aligner.registry import Message
from aligner.train.scoring import RewardSource
from aligner_ppo.actor import Actor
from aligner_ppo.options import PPOOptions
from aligner_ppo.parallel import ProcessGroup
from aligner_ppo.update import Mix, PPOOptimizer


@dataclass(frozen=True, kw_only=True)
class PPOPrompt:
    """A prompt in the policy's tokens, and what reward functions are told of it."""

    tokens: tuple[int, ...]
    messages: tuple[Message, ...]
    row: Mapping[str, Any]
    tools: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PPOContext:
    """All that PPO works with: models, prompts and sources of reward."""

    learner: PPOOptimizer
    reference: Reference
    reference_parts: LanguageModel
    prompts: Sequence[PPOPrompt]
    held_out: Sequence[PPOPrompt]
    sources: Sequence[RewardSource]
    sampling: Sampling
    tokenizer: Any
    mix: Mix | None
    iterations: int

    @property
    def actor(self) -> Actor:
        return self.learner.actor

    @property
    def options(self) -> PPOOptions:
        return self.learner.options

    @property
    def together(self) -> ProcessGroup:
        return self.learner.together
