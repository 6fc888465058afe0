"""Ask every source of reward about responses, and make the one number that is learnt from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aligner.errors import StageError
from aligner.registry import Completion
from aligner.train.scoring import RewardSource
from aligner_ppo.advantage import RunningScale
from aligner_ppo.experience import Scores
from aligner_ppo.options import PPOOptions
from aligner_ppo.parallel import ProcessGroup


def ask(
    sources: Sequence[RewardSource],
    completions: Mapping[int, Completion],
    *,
    number: int,
    together: ProcessGroup,
    where: str = "",
) -> Scores:
    """Every source's number for all `number` responses, on every process.

    Args:
        sources: Whom to ask.
        completions: This process's responses, by place.
        number: Responses on all processes.
        together: The other processes, which ask about theirs.
        where: `file:line` for complaints.

    Raises:
        StageError: a source gives another count of numbers than it was asked for.
    """
    by_source: dict[str, Tensor] = {}
    raw_N = torch.zeros(number, dtype=torch.float64)
    for source in sources:
        numbers = list(source.scorer.score(list(completions.values())))
        if len(numbers) != len(completions):
            raise StageError(
                f"reward function {source.name!r} gave {len(numbers)} numbers for "
                f"{len(completions)} completions",
                where=where,
            )
        own_N = torch.zeros(number, dtype=torch.float64)
        own_N[list(completions)] = torch.tensor(numbers, dtype=torch.float64)
        by_source[source.name] = together.sum(own_N)
        raw_N = raw_N + source.weight * by_source[source.name]
    return Scores(by_source=by_source, raw_N=raw_N)


def final_scores(
    scores: Scores, ended_N: Tensor, options: PPOOptions, scale: RunningScale
) -> tuple[Tensor, RunningScale]:
    """What is learnt from: scaled, clipped, and less the penalty where a response did not end.

    Returns:
        (final_N in fp32, the running scale with these scores taken in).
    """
    final_N = scores.raw_N
    if options.reward_scale == "running":
        if all(map(math.isfinite, final_N.tolist())):
            scale = scale.seeing(final_N)
        final_N = final_N / scale.deviation
    else:
        final_N = final_N * options.reward_scale
    if options.reward_clip is not None:
        final_N = final_N.clamp(-options.reward_clip, options.reward_clip)
    final_N = final_N - options.missing_eos_penalty * (~ended_N)
    return final_N.float(), scale
