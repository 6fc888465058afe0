"""PPO: sample, score, measure, take advantages, learn, and again."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from aligner.stage import Run
from aligner_ppo import checkpoint
from aligner_ppo.actor import measure
from aligner_ppo.advantage import (
    KLCoefficient,
    generalised_advantages,
    kl_estimate,
    token_rewards,
    whiten,
)
from aligner_ppo.checkpoint import Progress
from aligner_ppo.collect import sample
from aligner_ppo.experience import (
    Measured,
    Rollouts,
    Targets,
    derived_seed,
    micro_batches,
    prompts_of,
)
from aligner_ppo.guards import judge
from aligner_ppo.loss import explained_variance
from aligner_ppo.options import PPOConfig
from aligner_ppo.report import observe, report, show
from aligner_ppo.rewards import ask, final_scores
from aligner_ppo.setting import Prompt, Setting
from aligner_ppo.update import passes, rate_factor, update


def learn(setting: Setting, run: Run) -> Progress:
    """Every iteration from the newest checkpoint on; the models are trained in place.

    Raises:
        StageError: a guard stops it, or the checkpoint belongs to something else.
    """
    config, learner = setting.config, setting.learner
    folder = run.folder / "checkpoints"
    progress = checkpoint.load(folder, learner, where=run.where) or Progress(
        kl_coefficient=config.kl_coefficient
    )
    every = config.checkpoint_every or max(setting.iterations // 10, 5)
    for iteration in range(progress.iteration, setting.iterations):
        progress, figures = iterate(setting, progress, run)
        report(setting, progress, figures, run)
        if progress.iteration % every == 0 and progress.iteration < setting.iterations:
            checkpoint.save(folder, progress, learner, together=setting.together)
        assert progress.iteration == iteration + 1
    return progress


def iterate(setting: Setting, progress: Progress, run: Run) -> tuple[Progress, dict[str, float]]:
    """One iteration of PPO; returns where learning stands, and what was seen."""
    config, together, where = setting.config, setting.together, run.where
    began, iteration = time.monotonic(), progress.iteration
    prompts, seed = (
        _prompts(setting, iteration, run.seed),
        derived_seed(run.seed, "rollout", iteration),
    )

    rollouts, completions = sample(
        setting, prompts, samples=config.samples_per_prompt, seed=seed, where=where
    )
    number = len(rollouts.responses)
    scores = ask(setting.sources, completions, number=number, together=together, where=where)
    final_N, scale = final_scores(scores, rollouts.ended_N, config, progress.scale)
    batches = _first_pass(setting, rollouts, iteration, run.seed)
    measured = measure(
        setting.actor,
        setting.reference,
        setting.reference_parts,
        rollouts,
        batches,
        together=together,
    )
    figures = observe(rollouts, scores, measured)
    verdict = judge(
        figures,
        config.guards,
        progress.watched,
        iteration=iteration + 1,
        samples=[one.text for one in completions.values()],
        where=where,
    )
    progress = replace(
        progress,
        iteration=iteration + 1,
        watched=verdict.watched,
        first=progress.first or dict(figures),
    )
    figures |= _conditions(setting, progress)
    if verdict.skip:
        setting.learner.pass_over()
    else:
        figures |= learn_from(setting, rollouts, final_N, measured, progress, run)
        progress = replace(
            progress, kl_coefficient=_steered(config, progress, figures["kl"]), scale=scale
        )
    figures["tokens_per_second"] = sum(rollouts.lengths) / (time.monotonic() - began)
    show(setting, rollouts, completions, scores, progress, run)
    return progress, figures


def learn_from(
    setting: Setting,
    rollouts: Rollouts,
    final_N: Tensor,
    measured: Measured,
    progress: Progress,
    run: Run,
) -> dict[str, float]:
    """Turn scores into advantages, and make the iteration's optimizer steps."""
    targets = targets_of(
        rollouts, final_N, measured, setting.config, coefficient=progress.kl_coefficient
    )
    here = rollouts.mask_NR
    explained = explained_variance(measured.values_NR[here], targets.returns_NR[here])
    return {"explained_variance": explained} | update(
        setting.learner,
        rollouts,
        measured,
        targets,
        iteration=progress.iteration - 1,
        seed=run.seed,
        mix=setting.mix,
        where=run.where,
    )


def targets_of(
    rollouts: Rollouts,
    final_N: Tensor,
    measured: Measured,
    config: PPOConfig,
    *,
    coefficient: float,
) -> Targets:
    """Advantages and returns of every token, over the whole iteration on every process."""
    mask_NR = rollouts.mask_NR
    kl_NR = kl_estimate(
        measured.logps_NR, measured.reference_logps_NR, estimator=config.kl_estimator
    )
    rewards_NR = token_rewards(final_N, kl_NR, mask_NR, coefficient=coefficient)
    goes_on_N = ~rollouts.ended_N if config.bootstrap_truncated else torch.zeros(len(final_N))
    advantages_NR, returns_NR = generalised_advantages(
        rewards_NR,
        measured.values_NR,
        measured.last_values_N * goes_on_N,
        mask_NR,
        gamma=config.gamma,
        lam=config.gae_lambda,
    )
    if config.whiten_advantages:
        advantages_NR = whiten(advantages_NR, mask_NR)
    return Targets(advantages_NR=advantages_NR, returns_NR=returns_NR)


def _prompts(setting: Setting, iteration: int, seed: int) -> list[Prompt]:
    each, number = setting.config.prompts, len(setting.prompts)
    chosen = prompts_of(iteration, prompts=number, each=each, seed=seed)
    return [setting.prompts[i] for i in chosen]


def _conditions(setting: Setting, progress: Progress) -> dict[str, float]:
    """Under which the iteration learns, or is left out."""
    learner, config = setting.learner, setting.config
    factor = rate_factor(learner.step, learner.total_steps, config)
    return {
        "kl_coefficient": progress.kl_coefficient,
        "learning_rate": config.learning_rate * factor,
        "skipped": float(progress.watched.skipped),
    }


def _steered(config: PPOConfig, progress: Progress, kl: float) -> float:
    now = KLCoefficient(value=progress.kl_coefficient, target=config.kl_target, gain=config.kl_gain)
    return now.after(kl).value


def _first_pass(setting: Setting, rollouts: Rollouts, iteration: int, seed: int) -> list[list[int]]:
    """This process's micro-batches of the first pass of learning."""
    config, lengths = setting.config, rollouts.lengths
    return [
        places
        for minibatch in passes(len(lengths), config, seed=seed, iteration=iteration, epoch=0)
        for places in micro_batches(
            minibatch, lengths, size=config.micro_batch_size, together=setting.together
        )
    ]
