"""Say what an iteration was like: metrics for curves and gates, and texts to read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from aligner.registry import Completion
from aligner.stage import StepContext
from aligner_ppo.checkpoint import PPOProgress
from aligner_ppo.experience import OldLogprobs, Rollouts, Scores
from aligner_ppo.setting import PPOContext


def observe(rollouts: Rollouts, scores: Scores, measured: OldLogprobs) -> dict[str, float]:
    """What people watch of an iteration, before anything is learnt from it."""
    here = rollouts.mask_NR
    ratios_NR = measured.logps_NR - measured.reference_logps_NR
    lengths_N = torch.tensor(rollouts.lengths, dtype=torch.float64)
    sampled_M = torch.tensor([p for response in rollouts.responses for p in response.logps])
    metrics = {
        "reward": float(scores.raw_N.mean()),
        "reward_deviation": float(scores.raw_N.std(correction=0)),
        "kl": float(ratios_NR.sum(1).mean()),
        "entropy": float(measured.entropies_NR[here].mean()),
        "length": float(lengths_N.mean()),
        "ended": float(rollouts.ended_N.double().mean()),
        "value": float(measured.values_NR[here].mean()),
        "sampler_gap": float((sampled_M - measured.logps_NR[here]).abs().mean()),
    }
    return metrics | {
        f"reward_{name}": float(score_N.mean()) for name, score_N in scores.by_source.items()
    }


def report(
    setting: PPOContext, progress: PPOProgress, metrics: Mapping[str, float], context: StepContext
) -> None:
    """Put an iteration's metrics in the curves, and the newest ones in the step's row."""
    context.record(**metrics, reward_first=progress.first["reward"])
    context.progress(progress.iteration, setting.iterations, unit="iteration", **metrics)


def show(
    setting: PPOContext,
    rollouts: Rollouts,
    completions: Mapping[int, Completion],
    scores: Scores,
    progress: PPOProgress,
    context: StepContext,
) -> None:
    config = setting.options
    last = progress.iteration == setting.iterations
    if not (last or (progress.iteration - 1) % config.samples_every == 0):
        return
    context.samples(
        {
            "iteration": progress.iteration,
            "prompt": [dict(message) for message in one.prompt],
            "response": one.text,
            "ended": one.ended,
            "tokens": one.tokens,
            "reward": float(scores.raw_N[place]),
            **{f"reward_{name}": float(s[place]) for name, s in scores.by_source.items()},
        }
        for place, one in list(completions.items())[: config.samples_shown]
    )
