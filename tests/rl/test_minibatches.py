"""Minibatches and micro-batches, and their distribution over processes."""

from __future__ import annotations

import torch

from aligner.rl.minibatches import count_micro_batches, micro_batches, split_minibatches
from aligner.rl.processes import ProcessGroup

CPU = torch.device("cpu")


def test_every_response_is_in_one_process_and_loads_are_equal() -> None:
    lengths = [3, 9, 1, 7, 7, 2, 8, 5, 4, 6, 10]
    for minibatch in split_minibatches(11, 2, seed=1):
        shares = [
            micro_batches(
                minibatch,
                lengths,
                size=2,
                processes=ProcessGroup(rank=rank, world_size=3, device=CPU),
            )
            for rank in range(3)
        ]
        assigned = [place for share in shares for part in share for place in part]
        assert sorted(assigned) == sorted(minibatch)
        sizes = [sum(map(len, share)) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        alone = ProcessGroup(rank=0, world_size=3, device=CPU)
        assert count_micro_batches(len(minibatch), size=2, processes=alone) == sum(map(len, shares))
        for share in shares:
            ordered = [lengths[place] for part in share for place in part]
            assert ordered == sorted(ordered, reverse=True), "the longest go first"


def test_minibatches_are_random_in_each_pass_and_contain_every_response() -> None:
    first, second = (split_minibatches(10, 3, seed=seed) for seed in (1, 2))
    assert first != second
    assert sorted(place for part in first for place in part) == list(range(10))
    assert [len(part) for part in first] == [4, 3, 3]
