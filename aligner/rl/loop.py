"""Training loop: sample, score, check guards, compute advantages, update, and again."""

from __future__ import annotations

import time
from dataclasses import replace

from aligner.rl import checkpoint
from aligner.rl.actor import old_logprobs
from aligner.rl.checkpoint import RLProgress
from aligner.rl.context import RLContext
from aligner.rl.experience import Experience, OldLogprobs, Rollouts
from aligner.rl.guards import check_guards
from aligner.rl.kl import KLCoefficient
from aligner.rl.minibatches import derived_seed
from aligner.rl.optimizer import learning_rate_factor
from aligner.rl.prompts import RLPrompt, prompt_indices
from aligner.rl.report import report, rollout_metrics, save_samples
from aligner.rl.rewards import final_scores, score
from aligner.rl.rollouts import sample
from aligner.rl.update import first_pass, update_from_rollouts
from aligner.stage import StepContext


def train(rl: RLContext, context: StepContext) -> RLProgress:
    """Run all iterations from the newest checkpoint on; the models are trained in place.

    Raises:
        StageError: a guard stops it, or the checkpoint belongs to another model.
    """
    options = rl.options
    folder = context.folder / "checkpoints"
    progress = checkpoint.load(folder, rl.optimizer) or RLProgress(
        kl_coefficient=options.kl_coefficient
    )
    save_steps = options.save_steps or max(rl.iterations // 10, 5)
    while progress.iteration < rl.iterations:
        progress, metrics = train_iteration(rl, progress, context)
        report(rl, progress, metrics, context)
        if progress.iteration % save_steps == 0 and progress.iteration < rl.iterations:
            checkpoint.save(folder, progress, rl.optimizer, processes=rl.processes)
    return progress


def train_iteration(
    rl: RLContext, progress: RLProgress, context: StepContext
) -> tuple[RLProgress, dict[str, float]]:
    """Run one iteration; return the new state of training, and the metrics."""
    options, iteration, started = rl.options, progress.iteration, time.monotonic()
    rollouts, completions = sample(
        rl,
        _prompts(rl, iteration, context.seed),
        num_generations=options.num_generations,
        seed=derived_seed(context.seed, "rollout", iteration),
    )
    number = len(rollouts.responses)
    scores = score(rl.sources, completions, number=number, processes=rl.processes)
    scores_N, scale = final_scores(scores, rollouts.ended_N, options, progress.scale)
    old = _old_logprobs(rl, rollouts, iteration, context.seed)
    metrics = rollout_metrics(rollouts, scores, old)
    verdict = check_guards(
        metrics,
        options.guards,
        progress.guards,
        iteration=iteration + 1,
        samples=[completion.text for completion in completions.values()],
        kl_option=options.kl_option,
    )
    progress = replace(
        progress,
        iteration=iteration + 1,
        guards=verdict.state,
        first=progress.first or dict(metrics),
    )
    metrics |= _settings(rl, progress)
    if verdict.skip:
        rl.optimizer.skip_steps(options.steps_per_iteration())
    else:
        experience = Experience(
            rollouts=rollouts, scores_N=scores_N, old=old, kl_coefficient=progress.kl_coefficient
        )
        metrics |= _update(rl, experience, iteration, context.seed)
        coefficient = _next_kl_coefficient(rl, progress, metrics["kl"])
        progress = replace(progress, kl_coefficient=coefficient, scale=scale)
    metrics["tokens_per_second"] = sum(rollouts.lengths) / (time.monotonic() - started)
    save_samples(rl, completions, scores, progress, context)
    return progress, metrics


def _update(rl: RLContext, experience: Experience, iteration: int, seed: int) -> dict[str, float]:
    """Compute advantages, and make the iteration's optimizer steps."""
    targets = rl.algorithm.advantages(experience)
    found = update_from_rollouts(rl, experience, targets, iteration=iteration, seed=seed)
    return {**targets.metrics, **found}


def _prompts(rl: RLContext, iteration: int, seed: int) -> list[RLPrompt]:
    each, number = rl.options.prompts, len(rl.prompts)
    indices = prompt_indices(iteration, prompts=number, each=each, seed=seed)
    return [rl.prompts[i] for i in indices]


def _old_logprobs(rl: RLContext, rollouts: Rollouts, iteration: int, seed: int) -> OldLogprobs:
    return old_logprobs(
        rl.actor,
        rl.reference,
        rl.reference_parts,
        rollouts,
        first_pass(rl, rollouts, iteration, seed),
        processes=rl.processes,
    )


def _settings(rl: RLContext, progress: RLProgress) -> dict[str, float]:
    """Return the values under which the iteration is trained, as metrics."""
    optimizer = rl.optimizer
    factor = learning_rate_factor(optimizer.step, optimizer.total_steps, rl.options)
    return {
        "kl_coef": progress.kl_coefficient,
        "learning_rate": rl.options.learning_rate * factor,
        "skipped": float(progress.guards.skipped),
    }


def _next_kl_coefficient(rl: RLContext, progress: RLProgress, kl: float) -> float:
    options = rl.options
    coefficient = KLCoefficient(
        value=progress.kl_coefficient, target=options.kl_target, gain=options.kl_gain
    )
    return coefficient.after(kl).value
