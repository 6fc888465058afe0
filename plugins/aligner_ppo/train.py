"""PPO: sample, score, measure, take advantages, learn, and again."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from aligner.stage import StepContext
from aligner_ppo import checkpoint
from aligner_ppo.actor import measure
from aligner_ppo.advantage import (
    KLCoefficient,
    generalised_advantages,
    kl_estimate,
    token_rewards,
    whiten,
)
from aligner_ppo.checkpoint import PPOProgress
from aligner_ppo.collect import sample
from aligner_ppo.experience import (
    AdvantageTargets,
    OldLogprobs,
    Rollouts,
    derived_seed,
    micro_batches,
    prompts_of,
)
from aligner_ppo.guards import judge
from aligner_ppo.loss import explained_variance
from aligner_ppo.options import PPOOptions
from aligner_ppo.report import observe, report, show
from aligner_ppo.rewards import ask, final_scores
from aligner_ppo.setting import PPOContext, PPOPrompt
from aligner_ppo.update import passes, rate_factor, update


def learn(setting: PPOContext, context: StepContext) -> PPOProgress:
    """Every iteration from the newest checkpoint on; the models are trained in place.

    Raises:
        StageError: a guard stops it, or the checkpoint belongs to something else.
    """
    config, learner = setting.options, setting.learner
    folder = context.folder / "checkpoints"
    progress = checkpoint.load(folder, learner, where=context.where) or PPOProgress(
        kl_coefficient=config.kl_coef
    )
    every = config.save_steps or max(setting.iterations // 10, 5)
    for iteration in range(progress.iteration, setting.iterations):
        progress, metrics = iterate(setting, progress, context)
        report(setting, progress, metrics, context)
        if progress.iteration % every == 0 and progress.iteration < setting.iterations:
            checkpoint.save(folder, progress, learner, together=setting.together)
        assert progress.iteration == iteration + 1
    return progress


def iterate(
    setting: PPOContext, progress: PPOProgress, context: StepContext
) -> tuple[PPOProgress, dict[str, float]]:
    """One iteration of PPO; returns where learning stands, and what was seen."""
    config, together, where = setting.options, setting.together, context.where
    began, iteration = time.monotonic(), progress.iteration
    prompts, seed = (
        _prompts(setting, iteration, context.seed),
        derived_seed(context.seed, "rollout", iteration),
    )

    rollouts, completions = sample(
        setting, prompts, samples=config.num_generations, seed=seed, where=where
    )
    number = len(rollouts.responses)
    scores = ask(setting.sources, completions, number=number, together=together, where=where)
    final_N, scale = final_scores(scores, rollouts.ended_N, config, progress.scale)
    batches = _first_pass(setting, rollouts, iteration, context.seed)
    measured = measure(
        setting.actor,
        setting.reference,
        setting.reference_parts,
        rollouts,
        batches,
        together=together,
    )
    metrics = observe(rollouts, scores, measured)
    verdict = judge(
        metrics,
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
        first=progress.first or dict(metrics),
    )
    metrics |= _conditions(setting, progress)
    if verdict.skip:
        setting.learner.pass_over()
    else:
        metrics |= learn_from(setting, rollouts, final_N, measured, progress, context)
        progress = replace(
            progress, kl_coefficient=_steered(config, progress, metrics["kl"]), scale=scale
        )
    metrics["tokens_per_second"] = sum(rollouts.lengths) / (time.monotonic() - began)
    show(setting, rollouts, completions, scores, progress, context)
    return progress, metrics


def learn_from(
    setting: PPOContext,
    rollouts: Rollouts,
    final_N: Tensor,
    measured: OldLogprobs,
    progress: PPOProgress,
    context: StepContext,
) -> dict[str, float]:
    """Turn scores into advantages, and make the iteration's optimizer steps."""
    targets = targets_of(
        rollouts, final_N, measured, setting.options, coefficient=progress.kl_coefficient
    )
    here = rollouts.mask_NR
    explained = explained_variance(measured.values_NR[here], targets.returns_NR[here])
    return {"explained_variance": explained} | update(
        setting.learner,
        rollouts,
        measured,
        targets,
        iteration=progress.iteration - 1,
        seed=context.seed,
        mix=setting.mix,
        where=context.where,
    )


def targets_of(
    rollouts: Rollouts,
    final_N: Tensor,
    measured: OldLogprobs,
    options: PPOOptions,
    *,
    coefficient: float,
) -> AdvantageTargets:
    """Advantages and returns of every token, over the whole iteration on every process."""
    mask_NR = rollouts.mask_NR
    kl_NR = kl_estimate(
        measured.logps_NR, measured.reference_logps_NR, estimator=options.kl_estimator
    )
    rewards_NR = token_rewards(final_N, kl_NR, mask_NR, coefficient=coefficient)
    goes_on_N = ~rollouts.ended_N if options.bootstrap_truncated else torch.zeros(len(final_N))
    advantages_NR, returns_NR = generalised_advantages(
        rewards_NR,
        measured.values_NR,
        measured.last_values_N * goes_on_N,
        mask_NR,
        gamma=options.gamma,
        lam=options.lam,
    )
    if options.whiten_advantages:
        advantages_NR = whiten(advantages_NR, mask_NR)
    return AdvantageTargets(advantages_NR=advantages_NR, returns_NR=returns_NR)


def _prompts(setting: PPOContext, iteration: int, seed: int) -> list[PPOPrompt]:
    each, number = setting.options.prompts, len(setting.prompts)
    chosen = prompts_of(iteration, prompts=number, each=each, seed=seed)
    return [setting.prompts[i] for i in chosen]


def _conditions(setting: PPOContext, progress: PPOProgress) -> dict[str, float]:
    """Under which the iteration learns, or is left out."""
    learner, config = setting.learner, setting.options
    factor = rate_factor(learner.step, learner.total_steps, config)
    return {
        "kl_coef": progress.kl_coefficient,
        "learning_rate": config.learning_rate * factor,
        "skipped": float(progress.watched.skipped),
    }


def _steered(options: PPOOptions, progress: PPOProgress, kl: float) -> float:
    now = KLCoefficient(
        value=progress.kl_coefficient, target=options.kl_target, gain=options.kl_gain
    )
    return now.after(kl).value


def _first_pass(
    setting: PPOContext, rollouts: Rollouts, iteration: int, seed: int
) -> list[list[int]]:
    """This process's micro-batches of the first pass of learning."""
    config, lengths = setting.options, rollouts.lengths
    return [
        places
        for minibatch in passes(len(lengths), config, seed=seed, iteration=iteration, epoch=0)
        for places in micro_batches(
            minibatch, lengths, size=config.per_device_train_batch_size, together=setting.together
        )
    ]
