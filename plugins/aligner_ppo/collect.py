"""Let the policy answer prompts, and turn what it answers into text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner.models.continuous import generate_continuously
from aligner.models.generate import Answer, generate
from aligner.registry import Completion
from aligner.stage import StepContext
from aligner_ppo.experience import Rollouts, derived_seed, share
from aligner_ppo.rewards import ask
from aligner_ppo.setting import PPOContext, PPOPrompt


def sample(
    setting: PPOContext, prompts: Sequence[PPOPrompt], *, samples: int, seed: int, where: str = ""
) -> tuple[Rollouts, dict[int, Completion]]:
    """Answer `prompts`, each process its share; returns all responses, and this process's as text."""
    actor, together = setting.actor, setting.together
    mine = together.mine(len(prompts))
    places = [i * samples + s for i in mine for s in range(samples)]
    own: dict[int, Answer] = {}
    if mine:
        with actor.computing():
            tokens = [prompts[i].tokens for i in mine]
            answers = _answers(setting, tokens, mine, samples=samples, seed=seed, where=where)
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


def _answers(
    setting: PPOContext,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    *,
    samples: int,
    seed: int,
    where: str,
) -> list[Answer]:
    policy, config = setting.actor.policy, setting.options
    if config.sampler == "continuous_batching":
        return generate_continuously(
            policy,
            prompts,
            sampling=setting.sampling,
            seed=derived_seed(seed, "process", setting.together.rank),
            samples=samples,
            batch_size=config.rollout_batch_size,
            where=where,
        )
    return generate(
        policy,
        prompts,
        sampling=setting.sampling,
        seed=seed,
        samples=samples,
        numbers=numbers,
        batch_size=config.rollout_batch_size,
    )


def held_out_reward(setting: PPOContext, context: StepContext) -> float | None:
    """Mean reward on prompts that are never learnt from, one response each; None without such."""
    if not setting.held_out:
        return None
    rollouts, completions = sample(
        setting,
        setting.held_out,
        samples=1,
        seed=derived_seed(context.seed, "held out"),
        where=context.where,
    )
    scores = ask(
        setting.sources,
        completions,
        number=len(rollouts.responses),
        together=setting.together,
        where=context.where,
    )
    return float(scores.raw_N.mean())


def _completion(prompt: PPOPrompt, response: Answer, tokenizer: Any) -> Completion:
    return Completion(
        prompt=prompt.messages,
        text=response.text(tokenizer),
        ended=response.ended,
        tokens=len(response.tokens),
        row=prompt.row,
        tools=prompt.tools,
    )
