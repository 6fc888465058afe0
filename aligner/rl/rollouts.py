"""Rollouts: responses of the policy to prompts, as tokens on every process and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner.models.continuous import generate_continuously
from aligner.models.generate import Answer, generate
from aligner.registry import Completion
from aligner.rl.context import RLContext
from aligner.rl.experience import Rollouts, gather_responses
from aligner.rl.minibatches import derived_seed
from aligner.rl.prompts import RLPrompt
from aligner.rl.rewards import score


def sample(
    rl: RLContext, prompts: Sequence[RLPrompt], *, num_generations: int, seed: int
) -> tuple[Rollouts, dict[int, Completion]]:
    """Generate `num_generations` responses to each prompt; each process answers its share.

    Returns:
        (all responses, this process's responses as text by their place among all).
    """
    own_prompts = rl.processes.own_indices(len(prompts))
    places = [i * num_generations + k for i in own_prompts for k in range(num_generations)]
    own: dict[int, Answer] = {}
    if own_prompts:
        with rl.actor.autocast():
            tokens = [prompts[i].tokens for i in own_prompts]
            answers = _generate(rl, tokens, own_prompts, num_generations=num_generations, seed=seed)
        own = dict(zip(places, answers, strict=True))
    rollouts = Rollouts(
        prompts=[prompt.tokens for prompt in prompts for _ in range(num_generations)],
        responses=gather_responses(own, len(prompts) * num_generations, rl.processes),
    )
    completions = {
        place: _completion(prompts[place // num_generations], response, rl.tokenizer)
        for place, response in own.items()
    }
    return rollouts, completions


def _generate(
    rl: RLContext,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    *,
    num_generations: int,
    seed: int,
) -> list[Answer]:
    if rl.options.sampler == "continuous_batching":
        return generate_continuously(
            rl.actor.policy,
            prompts,
            sampling=rl.sampling,
            seed=derived_seed(seed, "process", rl.processes.rank),
            samples=num_generations,
            batch_size=rl.options.rollout_batch_size,
        )
    return generate(
        rl.actor.policy,
        prompts,
        sampling=rl.sampling,
        seed=seed,
        samples=num_generations,
        numbers=numbers,
        batch_size=rl.options.rollout_batch_size,
    )


def held_out_reward(rl: RLContext, *, seed: int) -> float | None:
    """Return the mean reward on held-out prompts, one response each; None without such prompts."""
    if not rl.held_out:
        return None
    seed = derived_seed(seed, "held out")
    rollouts, completions = sample(rl, rl.held_out, num_generations=1, seed=seed)
    number = len(rollouts.responses)
    scores = score(rl.sources, completions, number=number, processes=rl.processes)
    return float(scores.raw_N.mean())


def _completion(prompt: RLPrompt, response: Answer, tokenizer: Any) -> Completion:
    return Completion(
        prompt=prompt.messages,
        text=response.text(tokenizer),
        ended=response.ended,
        tokens=len(response.tokens),
        row=prompt.row,
        tools=prompt.tools,
    )
