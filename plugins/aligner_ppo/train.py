"""PPO: sample, score, measure, take advantages, learn, and again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aligner.models.reference import Reference
from aligner.offers import Completion, Message
from aligner.stage import Run
from aligner_ppo import checkpoint
from aligner_ppo.actor import Actor, measure
from aligner_ppo.advantage import (
    KLCoefficient,
    generalised_advantages,
    kl_estimate,
    token_rewards,
    whiten,
)
from aligner_ppo.checkpoint import Progress
from aligner_ppo.experience import (
    Measured,
    Rollouts,
    Scores,
    Targets,
    derived_seed,
    micro_batches,
    prompts_of,
    share,
)
from aligner_ppo.forward import LanguageModel
from aligner_ppo.guards import judge
from aligner_ppo.loss import explained_variance
from aligner_ppo.options import PPOConfig
from aligner_ppo.parallel import Together
from aligner_ppo.rewards import Source, ask, final_scores
from aligner_ppo.rollout import Response, Sampling, rollout, uniforms
from aligner_ppo.update import Learner, Mix, passes, rate_factor, update


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt in the policy's tokens, and what reward functions are told of it."""

    tokens: tuple[int, ...]
    messages: tuple[Message, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that PPO works with: models, prompts and sources of reward."""

    learner: Learner
    reference: Reference
    reference_parts: LanguageModel
    prompts: Sequence[Prompt]
    held_out: Sequence[Prompt]
    sources: Sequence[Source]
    sampling: Sampling
    tokenizer: Any
    mix: Mix | None
    iterations: int

    @property
    def actor(self) -> Actor:
        return self.learner.actor

    @property
    def config(self) -> PPOConfig:
        return self.learner.config

    @property
    def together(self) -> Together:
        return self.learner.together


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
    config, together = setting.config, setting.together
    began, iteration = time.monotonic(), progress.iteration
    rollouts, completions = sample(
        setting,
        [setting.prompts[i] for i in _chosen(setting, iteration, run.seed)],
        samples=config.samples_per_prompt,
        seed=derived_seed(run.seed, "rollout", iteration),
    )
    scores = ask(
        setting.sources,
        completions,
        number=len(rollouts.responses),
        together=together,
        where=run.where,
    )
    final_N, scale = final_scores(scores, rollouts.ended_N, config, progress.scale)
    measured = measure(
        setting.actor,
        setting.reference,
        setting.reference_parts,
        rollouts,
        _first_pass(setting, rollouts, iteration, run.seed),
        together=together,
    )
    figures = observe(rollouts, scores, measured)
    texts = [one.text for one in completions.values()]
    verdict = judge(
        figures,
        config.guards,
        progress.watched,
        iteration=iteration + 1,
        samples=texts,
        where=run.where,
    )
    progress = replace(
        progress, iteration=iteration + 1, watched=verdict.watched, first=progress.first or figures
    )
    figures["kl_coefficient"] = progress.kl_coefficient
    figures["learning_rate"] = config.learning_rate * rate_factor(
        setting.learner.step, setting.learner.total_steps, config
    )
    if verdict.skip:
        setting.learner.step += config.epochs * config.minibatches
    else:
        targets = targets_of(
            rollouts, final_N, measured, config, coefficient=progress.kl_coefficient
        )
        here = rollouts.mask_NR
        figures["explained_variance"] = explained_variance(
            measured.values_NR[here], targets.returns_NR[here]
        )
        figures |= update(
            setting.learner,
            rollouts,
            measured,
            targets,
            iteration=iteration,
            seed=run.seed,
            mix=setting.mix,
            where=run.where,
        )
        steered = KLCoefficient(
            value=progress.kl_coefficient, target=config.kl_target, gain=config.kl_gain
        ).after(figures["kl"])
        progress = replace(progress, kl_coefficient=steered.value, scale=scale)
    figures["skipped"] = float(progress.watched.skipped)
    figures["tokens_per_second"] = sum(rollouts.lengths) / (time.monotonic() - began)
    _show(setting, rollouts, completions, scores, progress, run)
    return progress, figures


def sample(
    setting: Setting, prompts: Sequence[Prompt], *, samples: int, seed: int
) -> tuple[Rollouts, dict[int, Completion]]:
    """Answer `prompts`, each process its share; returns all responses, and this process's as text."""
    config, actor, together = setting.config, setting.actor, setting.together
    draws_NC = uniforms(seed, rows=len(prompts) * samples, columns=config.max_new_tokens)
    mine = together.mine(len(prompts))
    places = [i * samples + s for i in mine for s in range(samples)]
    own: dict[int, Response] = {}
    if mine:
        with actor.computing():
            answers = rollout(
                actor.parts,
                [prompts[i].tokens for i in mine],
                samples=samples,
                sampling=setting.sampling,
                draws_NC=draws_NC[places],
                batch=config.rollout_batch_size,
                device=actor.device,
            )
        own = dict(zip(places, answers, strict=True))
    responses = share(own, len(prompts) * samples, together)
    rollouts = Rollouts(
        prompts=[prompt.tokens for prompt in prompts for _ in range(samples)], responses=responses
    )
    completions = {
        place: _completion(prompts[place // samples], response, setting.tokenizer)
        for place, response in own.items()
    }
    return rollouts, completions


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


def held_out_reward(setting: Setting, run: Run) -> float | None:
    """Mean reward on prompts that are never learnt from, one response each; None without such."""
    if not setting.held_out:
        return None
    rollouts, completions = sample(
        setting, setting.held_out, samples=1, seed=derived_seed(run.seed, "held out")
    )
    scores = ask(
        setting.sources,
        completions,
        number=len(rollouts.responses),
        together=setting.together,
        where=run.where,
    )
    return float(scores.raw_N.mean())


def _chosen(setting: Setting, iteration: int, seed: int) -> list[int]:
    return prompts_of(
        iteration, prompts=len(setting.prompts), each=setting.config.prompts, seed=seed
    )


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


def _completion(prompt: Prompt, response: Response, tokenizer: Any) -> Completion:
    words = list(response.tokens[:-1] if response.ended else response.tokens)
    text = tokenizer.decode(words, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Completion(
        prompt=prompt.messages,
        text=text,
        ended=response.ended,
        tokens=len(response.tokens),
        row=prompt.row,
    )


def _show(
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
