"""Random seeds, minibatches and micro-batches, all derived from the seed of the run.

Shapes: N responses, R positions of the longest one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from aligner.rl.processes import ProcessGroup


def derived_seed(seed: int, *words: str | int) -> int:
    """Derive a seed for one purpose in one iteration, so that no random state must be stored.

    >>> derived_seed(0, "rollout", 1) == derived_seed(0, "rollout", 1)
    True
    >>> derived_seed(0, "rollout", 1) == derived_seed(0, "rollout", 2)
    False
    """
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def split_minibatches(number: int, minibatches: int, *, seed: int) -> list[list[int]]:
    """Split `number` responses at random into minibatches whose sizes differ by at most 1."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed)).tolist()
    return [order[start::minibatches] for start in range(minibatches)]


def micro_batches(
    minibatch: Sequence[int], lengths: Sequence[int], *, size: int, processes: ProcessGroup
) -> list[list[int]]:
    """Split this process's part of a minibatch into micro-batches, the longest responses first.

    Similar lengths need little padding; the longest first shows at once whether memory suffices;
    taking every n-th of the sorted responses gives all processes the same load.
    """
    order = sorted(minibatch, key=lambda place: (-lengths[place], place))
    own = order[processes.rank :: processes.world_size]
    return [own[start : start + size] for start in range(0, len(own), size)]


def count_micro_batches(responses: int, *, size: int, processes: ProcessGroup) -> int:
    """Return the number of micro-batches of a minibatch over all processes."""
    shares = (
        len(range(rank, responses, processes.world_size)) for rank in range(processes.world_size)
    )
    return sum(-(-share // size) for share in shares)


def flat_index(mask_NR: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Index an (N, R) tensor at the tokens of some responses, in the order of `response_batch`."""
    rows, columns = torch.nonzero(mask_NR[list(places)], as_tuple=True)
    return torch.tensor(places)[rows], columns
