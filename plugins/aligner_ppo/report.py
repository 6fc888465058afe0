"""Say what an iteration was like: figures for curves and gates, and texts to read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from aligner.offers import Completion
from aligner.stage import Run
from aligner_ppo.checkpoint import Progress
from aligner_ppo.experience import Measured, Rollouts, Scores
from aligner_ppo.setting import Setting


def observe(rollouts: Rollouts, scores: Scores, measured: Measured) -> dict[str, float]:
    """What people watch of an iteration, before anything is learnt from it."""
    here = rollouts.mask_NR
    ratios_NR = measured.logps_NR - measured.reference_logps_NR
    lengths_N = torch.tensor(rollouts.lengths, dtype=torch.float64)
    sampled_M = torch.tensor([p for response in rollouts.responses for p in response.logps])
    figures = {
        "reward": float(scores.raw_N.mean()),
        "reward_deviation": float(scores.raw_N.std(correction=0)),
        "kl": float(ratios_NR.sum(1).mean()),
        "entropy": float(measured.entropies_NR[here].mean()),
        "length": float(lengths_N.mean()),
        "ended": float(rollouts.ended_N.double().mean()),
        "value": float(measured.values_NR[here].mean()),
        "sampler_gap": float((sampled_M - measured.logps_NR[here]).abs().mean()),
    }
    return figures | {
        f"reward_{name}": float(score_N.mean()) for name, score_N in scores.by_source.items()
    }


def report(setting: Setting, progress: Progress, figures: Mapping[str, float], run: Run) -> None:
    """Put an iteration's figures in the curves, and the newest ones in the step's row."""
    run.record(**figures, reward_first=progress.first["reward"])
    run.progress(progress.iteration, setting.iterations, unit="iteration", **figures)


def show(
    setting: Setting,
    rollouts: Rollouts,
    completions: Mapping[int, Completion],
    scores: Scores,
    progress: Progress,
    run: Run,
) -> None:
    config = setting.config
    last = progress.iteration == setting.iterations
    if not (last or (progress.iteration - 1) % config.samples_every == 0):
        return
    run.samples(
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
