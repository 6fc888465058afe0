"""Group advantages of the grpo stage on the RL engine, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from aligner.models.generate import Answer
from aligner.rl.experience import Experience, OldLogprobs, Rollouts
from aligner_grpo.algorithm import GRPOAlgorithm
from aligner_grpo.options import GRPOOptions

LENGTHS = [1, 3, 2, 1]


def experience(scores: list[float]) -> Experience:
    """Two prompts with two responses each, of 1, 3, 2 and 1 tokens."""
    responses = [Answer(tokens=(5,) * n, ended=True, logps=(0.0,) * n) for n in LENGTHS]
    zeros_NR = torch.zeros(len(scores), max(LENGTHS))
    return Experience(
        rollouts=Rollouts(prompts=[(1,)] * len(scores), responses=responses),
        scores_N=torch.tensor(scores),
        old=OldLogprobs(logps_NR=zeros_NR, reference_logps_NR=zeros_NR, entropies_NR=zeros_NR),
        kl_coefficient=0.0,
    )


def algorithm(**more: object) -> GRPOAlgorithm:
    options = {"data": "none.jsonl", "num_generations": 2, "prompts": 2} | more
    return GRPOAlgorithm(GRPOOptions(**options))


@pytest.mark.parametrize(
    ("scale_rewards", "first"),
    [("none", 1.0), ("group", 1.0 / (math.sqrt(2) + 1e-4)), ("batch", 1.0 / (math.sqrt(2) + 1e-4))],
)
def test_a_group_is_compared_with_its_own_mean(scale_rewards, first) -> None:
    """Scores (3, 1) and (0, 0). The first group has mean 2 and unbiased deviation √2, the second no
    spread. The batch has mean 1 and deviation √((4 + 0 + 1 + 1)/3) = √2, so A = 1/√2 there as well.
    """
    targets = algorithm(scale_rewards=scale_rewards).advantages(experience([3.0, 1.0, 0.0, 0.0]))
    expected = torch.tensor(
        [[first, 0.0, 0.0], [-first, -first, -first], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    )
    torch.testing.assert_close(targets.advantages_NR, expected)
    assert targets.metrics == {"frac_reward_zero_std": 0.0 if scale_rewards == "batch" else 0.5}
    assert targets.returns_NR is None
