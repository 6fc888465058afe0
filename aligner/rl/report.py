"""Metrics of an iteration, for curves and gates, and sampled responses to read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from aligner.registry import Completion
from aligner.rl.checkpoint import RLProgress
from aligner.rl.context import RLContext
from aligner.rl.experience import OldLogprobs, Rollouts, Scores
from aligner.stage import StepContext


def rollout_metrics(rollouts: Rollouts, scores: Scores, old: OldLogprobs) -> dict[str, float]:
    """Compute the metrics of an iteration that are known before the update."""
    mask_NR = rollouts.mask_NR
    ratios_NR = old.logps_NR - old.reference_logps_NR
    lengths_N = torch.tensor(rollouts.lengths, dtype=torch.float64)
    sampled_M = torch.tensor([p for response in rollouts.responses for p in response.logps])
    metrics = {
        "reward": float(scores.raw_N.mean()),
        "reward_deviation": float(scores.raw_N.std(correction=0)),
        "kl": float(ratios_NR.sum(1).mean()),
        "entropy": float(old.entropies_NR[mask_NR].mean()),
        "length": float(lengths_N.mean()),
        "ended": float(rollouts.ended_N.double().mean()),
    }
    if old.values is not None:
        metrics["value"] = float(old.values.values_NR[mask_NR].mean())
    metrics["sampler_gap"] = float((sampled_M - old.logps_NR[mask_NR]).abs().mean())
    return metrics | {
        f"reward_{name}": float(score_N.mean()) for name, score_N in scores.by_source.items()
    }


def report(
    rl: RLContext, progress: RLProgress, metrics: Mapping[str, float], context: StepContext
) -> None:
    """Append an iteration's metrics to the curves, and make them the metrics of the step."""
    context.record(**metrics, reward_first=progress.first["reward"])
    context.progress(progress.iteration, rl.iterations, unit="iteration", **metrics)


def save_samples(
    rl: RLContext,
    completions: Mapping[int, Completion],
    scores: Scores,
    progress: RLProgress,
    context: StepContext,
) -> None:
    """Write some responses with their scores to samples.jsonl, where this iteration is due."""
    options = rl.options
    last = progress.iteration == rl.iterations
    if not (last or (progress.iteration - 1) % options.samples_every == 0):
        return
    context.samples(
        {
            "iteration": progress.iteration,
            "prompt": [dict(message) for message in completion.prompt],
            "response": completion.text,
            "ended": completion.ended,
            "tokens": completion.tokens,
            "reward": float(scores.raw_N[place]),
            **{f"reward_{name}": float(s[place]) for name, s in scores.by_source.items()},
        }
        for place, completion in list(completions.items())[: options.samples_shown]
    )
