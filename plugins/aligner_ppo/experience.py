"""What one iteration has sampled and measured, whole on every process, and how it is dealt out.

Shapes: N responses in all, R tokens of the longest. Everything here is on the CPU and small; only
token ids travel to the device, a micro-batch at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aligner.models.generate import Answer
from aligner_ppo.parallel import ProcessGroup

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Prompts answered: response i belongs to prompt i."""

    prompts: Sequence[Tokens]
    responses: Sequence[Answer]

    @property
    def lengths(self) -> list[int]:
        return [len(response.tokens) for response in self.responses]

    @property
    def mask_NR(self) -> Tensor:
        """True on real tokens. It is made of lengths; no token id decides it."""
        lengths_N = torch.tensor(self.lengths)
        return torch.arange(int(lengths_N.max()))[None, :] < lengths_N[:, None]

    @property
    def ended_N(self) -> Tensor:
        return torch.tensor([response.ended for response in self.responses])


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The rewards of N responses: each source's own numbers, and what is learnt from."""

    by_source: Mapping[str, Tensor]
    """Unweighted, (N,) fp64 each."""
    raw_N: Tensor
    """Weighted sum."""
    final_N: Tensor = field(default_factory=lambda: torch.empty(0))
    """Scaled, clipped, and less the penalty for not ending; fp32."""


@dataclass(frozen=True, kw_only=True)
class OldLogprobs:
    """What the models say of the responses before anything is learnt; fp32, 0 outside the mask."""

    logps_NR: Tensor
    reference_logps_NR: Tensor
    values_NR: Tensor
    last_values_N: Tensor
    """Value of the state after the last token."""
    entropies_NR: Tensor


@dataclass(frozen=True, kw_only=True)
class AdvantageTargets:
    """What the update is given for each token."""

    advantages_NR: Tensor
    returns_NR: Tensor


def cells(mask_NR: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where the tokens of some responses stand in an (N, R) tensor, in the order of `rows_of`."""
    rows, columns = torch.nonzero(mask_NR[list(places)], as_tuple=True)
    return torch.tensor(places)[rows], columns


def share(responses: Mapping[int, Answer], number: int, together: ProcessGroup) -> list[Answer]:
    """Every process's responses, by place, on every process."""
    longest = max((len(r.tokens) for r in responses.values()), default=0)
    widths_W = torch.zeros(together.world, dtype=torch.long)
    widths_W[together.rank] = longest
    width = int(together.sum(widths_W).max())
    tokens_NR = torch.zeros(number, width, dtype=torch.long)
    logps_NR = torch.zeros(number, width)
    facts_N2 = torch.zeros(number, 2, dtype=torch.long)
    for place, response in responses.items():
        length = len(response.tokens)
        tokens_NR[place, :length] = torch.tensor(response.tokens)
        logps_NR[place, :length] = torch.tensor(response.logps)
        facts_N2[place] = torch.tensor([length, response.ended])
    tokens = together.sum(tokens_NR).tolist()
    logps = together.sum(logps_NR).tolist()
    facts = together.sum(facts_N2).tolist()
    return [
        Answer(tokens=tuple(t[:length]), ended=bool(ended), logps=tuple(p[:length]))
        for t, p, (length, ended) in zip(tokens, logps, facts, strict=True)
    ]


def deal(number: int, minibatches: int, *, seed: int) -> list[list[int]]:
    """Divide `number` responses at random into minibatches of equal size, give or take one."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed)).tolist()
    return [order[start::minibatches] for start in range(minibatches)]


def micro_batches(
    minibatch: Sequence[int], lengths: Sequence[int], *, size: int, together: ProcessGroup
) -> list[list[int]]:
    """This process's part of a minibatch in micro-batches of like length, the longest first.

    Like lengths waste little on padding; the longest first shows at once whether memory suffices;
    dealing the sorted rows in turn gives every process the same load.
    """
    order = sorted(minibatch, key=lambda place: (-lengths[place], place))
    mine = order[together.rank :: together.world]
    return [mine[start : start + size] for start in range(0, len(mine), size)]


def derived_seed(seed: int, *words: str | int) -> int:
    """A seed for one use in one iteration, from the run's seed: nothing else need be remembered.

    >>> derived_seed(0, "rollout", 1) == derived_seed(0, "rollout", 1)
    True
    >>> derived_seed(0, "rollout", 1) == derived_seed(0, "rollout", 2)
    False
    """
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def prompts_of(iteration: int, *, prompts: int, each: int, seed: int) -> list[int]:
    """Which prompts iteration 0, 1, … takes: passes over all of them, each in an order of its own.

    >>> len({*prompts_of(0, prompts=6, each=3, seed=0), *prompts_of(1, prompts=6, each=3, seed=0)})
    6
    """
    taken: list[int] = []
    position = iteration * each
    while len(taken) < each:
        epoch, offset = divmod(position + len(taken), prompts)
        generator = torch.Generator().manual_seed(derived_seed(seed, "prompts", epoch))
        order = torch.randperm(prompts, generator=generator).tolist()
        taken += order[offset : offset + each - len(taken)]
    return taken
