"""All that PPO works with in one step: models, prompts, sources of reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.models.generate import Sampling
from aligner.models.reference import Reference
from aligner.offers import Message
from aligner.train.scoring import Source
from aligner_ppo.actor import Actor
from aligner_ppo.forward import LanguageModel
from aligner_ppo.options import PPOConfig
from aligner_ppo.parallel import Together
from aligner_ppo.update import Learner, Mix


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt in the policy's tokens, and what reward functions are told of it."""

    tokens: tuple[int, ...]
    messages: tuple[Message, ...]
    row: Mapping[str, Any]
    tools: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that PPO works with: models, prompts and sources of reward."""

    learner: Learner
    reference: Reference
    reference_parts: LanguageModel
    prompts: Sequence[Prompt]
    held_out: Sequence[Prompt]
    sources: Sequence[Source]
    sampling: Sampling
    tokenizer: Any
    mix: Mix | None
    iterations: int

    @property
    def actor(self) -> Actor:
        return self.learner.actor

    @property
    def config(self) -> PPOConfig:
        return self.learner.config

    @property
    def together(self) -> Together:
        return self.learner.together
