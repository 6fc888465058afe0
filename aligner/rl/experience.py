"""Rollouts of one iteration with their scores, log-probabilities and advantages, on every process.

Shapes: N responses of all processes, R tokens of the longest. Everything here is small and on the
CPU; only token ids are moved to the device, a micro-batch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aligner.models.generate import Answer
from aligner.rl.processes import ProcessGroup


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Prompts and their responses: response i belongs to prompt i."""

    prompts: Sequence[Sequence[int]]
    """Token ids; the responses to the same prompt are next to each other."""
    responses: Sequence[Answer]

    @property
    def lengths(self) -> list[int]:
        return [len(response.tokens) for response in self.responses]

    @property
    def mask_NR(self) -> Tensor:
        """True on response tokens. It is computed from lengths; no token id decides it."""
        lengths_N = torch.tensor(self.lengths)
        return torch.arange(int(lengths_N.max()))[None, :] < lengths_N[:, None]

    @property
    def ended_N(self) -> Tensor:
        """False where a response was truncated."""
        return torch.tensor([response.ended for response in self.responses])


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of N responses, fp64."""

    by_source: Mapping[str, Tensor]
    """Unweighted scores (N,) of each source of reward."""
    raw_N: Tensor
    """Weighted sum over the sources."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """Estimates of the value function; fp32, 0 outside the mask."""

    values_NR: Tensor
    """Value of the state before each token."""
    last_N: Tensor
    """Value of the state after the last token."""


@dataclass(frozen=True, kw_only=True)
class OldLogprobs:
    """Log-probabilities and entropies before the update; fp32, 0 outside the mask."""

    logps_NR: Tensor
    reference_logps_NR: Tensor
    entropies_NR: Tensor
    values: Values | None = None
    """Given where the algorithm has a value function."""


@dataclass(frozen=True, kw_only=True)
class Experience:
    """All that is known of an iteration's responses before the update."""

    rollouts: Rollouts
    scores_N: Tensor
    """Scores after scaling, clipping and the penalty for missing stop tokens; fp32."""
    old: OldLogprobs
    kl_coefficient: float


@dataclass(frozen=True, kw_only=True)
class AdvantageTargets:
    """Targets of the update for each token."""

    advantages_NR: Tensor
    returns_NR: Tensor | None = None
    """Targets of the value function, where there is one."""
    metrics: Mapping[str, float] = field(default_factory=dict)


def gather_responses(
    own: Mapping[int, Answer], number: int, processes: ProcessGroup
) -> list[Answer]:
    """Return the responses of all processes, in order, on every process."""
    longest = max((len(response.tokens) for response in own.values()), default=0)
    widths_W = torch.zeros(processes.world_size, dtype=torch.long)
    widths_W[processes.rank] = longest
    width = int(processes.sum(widths_W).max())
    tokens_NR = torch.zeros(number, width, dtype=torch.long)
    logps_NR = torch.zeros(number, width)
    lengths_N2 = torch.zeros(number, 2, dtype=torch.long)
    for place, response in own.items():
        length = len(response.tokens)
        tokens_NR[place, :length] = torch.tensor(response.tokens)
        logps_NR[place, :length] = torch.tensor(response.logps)
        lengths_N2[place] = torch.tensor([length, response.ended])
    tokens = processes.sum(tokens_NR).tolist()
    logps = processes.sum(logps_NR).tolist()
    lengths = processes.sum(lengths_N2).tolist()
    return [
        Answer(tokens=tuple(t[:length]), ended=bool(ended), logps=tuple(p[:length]))
        for t, p, (length, ended) in zip(tokens, logps, lengths, strict=True)
    ]
