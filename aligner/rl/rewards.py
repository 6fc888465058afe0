"""Scores of responses by all sources of reward, scaled, clipped and penalized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aligner.errors import StageError
from aligner.registry import Completion
from aligner.rl.experience import Scores
from aligner.rl.normalization import RunningScale
from aligner.rl.options import ScoreOptions
from aligner.rl.processes import ProcessGroup
from aligner.train.scoring import RewardSource


def score(
    sources: Sequence[RewardSource],
    completions: Mapping[int, Completion],
    *,
    number: int,
    processes: ProcessGroup,
) -> Scores:
    """Compute the scores of all `number` responses by every source, on every process.

    Args:
        sources: Sources of reward.
        completions: This process's responses by place.
        number: Responses on all processes.
        processes: The processes that score the other responses.

    Raises:
        StageError: a source returned another number of scores than there are completions.
    """
    by_source: dict[str, Tensor] = {}
    raw_N = torch.zeros(number, dtype=torch.float64)
    for source in sources:
        scores = list(source.scorer.score(list(completions.values())))
        if len(scores) != len(completions):
            raise StageError(
                f"reward function {source.name!r} returned {len(scores)} scores for "
                f"{len(completions)} completions"
            )
        own_N = torch.zeros(number, dtype=torch.float64)
        own_N[list(completions)] = torch.tensor(scores, dtype=torch.float64)
        by_source[source.name] = processes.sum(own_N)
        raw_N = raw_N + source.weight * by_source[source.name]
    return Scores(by_source=by_source, raw_N=raw_N)


def final_scores(
    scores: Scores, ended_N: Tensor, options: ScoreOptions, scale: RunningScale
) -> tuple[Tensor, RunningScale]:
    """Scale and clip the scores, and subtract the penalty where a response was truncated.

    Returns:
        (scores_N in fp32, the running scale that includes these scores).
    """
    scores_N = scores.raw_N
    if options.reward_scale == "running":
        if all(map(math.isfinite, scores_N.tolist())):
            scale = scale.updated(scores_N)
        scores_N = scores_N / scale.deviation
    else:
        scores_N = scores_N * options.reward_scale
    if options.reward_clip is not None:
        scores_N = scores_N.clamp(-options.reward_clip, options.reward_clip)
    scores_N = scores_N - options.missing_eos_penalty * (~ended_N)
    return scores_N.float(), scale
