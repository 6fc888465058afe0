"""One online step: load models, prompts and rewards, train, and save."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.models.generate import Sampling
from aligner.models.language_model import LanguageModel, split_language_model
from aligner.models.policy import PreparedModel, load_policy
from aligner.models.precision import device, precision_of
from aligner.models.reference import Reference, reference_from, reference_of
from aligner.models.reward import RewardParts
from aligner.models.save import save_model
from aligner.models.shared_reward import shared_reward
from aligner.rl.actor import Actor
from aligner.rl.algorithm import Algorithm
from aligner.rl.context import Mix, RLContext
from aligner.rl.loop import train
from aligner.rl.optimizer import RLOptimizer
from aligner.rl.options import RLOptions
from aligner.rl.pretraining import make_mix, prepare_mix
from aligner.rl.processes import ProcessGroup
from aligner.rl.prompts import RLPrompt, read_prompts
from aligner.rl.rollouts import held_out_reward
from aligner.rl.value import ValueFunction
from aligner.stage import StepContext
from aligner.state import Artifact, ModelState, Slot
from aligner.train.reward_options import MODEL
from aligner.train.scoring import RewardSource, load_sources
from aligner.train.weight_check import check_weights_changed, sample_weights


def run_online(
    algorithm: Algorithm[Any], state: ModelState, context: StepContext, *, stage: str
) -> Mapping[Slot, Artifact]:
    """Do the whole work of an online step; return what fills its slots.

    Args:
        algorithm: Advantages and loss.
        state: Models of the chain.
        context: Folder, seed and plan of the step.
        stage: Name of the stage; with the seed it decides a new adapter's weights.

    Raises:
        StageError: a guard stopped it, or no trained parameter changed.
    """
    options: RLOptions = algorithm.options
    processes = ProcessGroup.join(rank=context.rank, world_size=context.world_size, device=device())
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache)
    prompts, held_out = read_prompts(options, context, tokenizer)
    make_value = algorithm.value_factory(state, context, tokenizer)
    prepared = load_policy(
        state.get("policy"), context.model_cache, options, step=stage, seed=context.seed
    )
    parts = split_language_model(prepared.model)
    reference = _reference(options, prepared, state, context)
    rl = make_context(
        algorithm,
        context,
        policy=prepared.model,
        parts=parts,
        reference=reference,
        value=None if make_value is None else make_value(prepared, parts),
        prompts=prompts,
        held_out=held_out,
        sources=_sources(options, prepared, state, context),
        tokenizer=tokenizer,
        stops=stop_tokens(tokenizer),
        processes=processes,
    )
    _train(rl, context)
    reference.close()
    return _save(rl, prepared, context)


def _reference(
    options: RLOptions, prepared: PreparedModel, state: ModelState, context: StepContext
) -> Reference:
    if state.reference is None:
        return reference_of(prepared)
    return reference_from(
        state.reference,
        context.model_cache,
        prepared.model,
        precision=options.precision,
        attn_implementation=options.attn_implementation,
    )


def _sources(
    options: RLOptions, prepared: PreparedModel, state: ModelState, context: StepContext
) -> tuple[RewardSource, ...]:
    parts: RewardParts | None = None
    if any(reward.name == MODEL for reward in options.rewards):
        parts = shared_reward(prepared, state.get("reward"), context.model_cache)
    return load_sources(
        options.rewards,
        state,
        context,
        batch_size=options.rollout_batch_size,
        precision=options.precision,
        attn_implementation=options.attn_implementation,
        parts=parts,
    )


def make_context(
    algorithm: Algorithm[Any],
    context: StepContext,
    *,
    policy: Any,
    parts: LanguageModel,
    reference: Reference,
    value: ValueFunction | None,
    prompts: Sequence[RLPrompt],
    held_out: Sequence[RLPrompt],
    sources: Sequence[RewardSource],
    tokenizer: Any,
    stops: Sequence[int],
    processes: ProcessGroup,
) -> RLContext:
    """Put the parts of an online step together."""
    options: RLOptions = algorithm.options
    actor = Actor(
        policy=policy,
        parts=parts,
        value=None if value is None else value.to(processes.device),
        device=processes.device,
        temperature=options.temperature,
        bf16=precision_of(options.precision) == "bf16",
    )
    iterations = options.total_iterations(len(prompts))
    return RLContext(
        algorithm=algorithm,
        optimizer=RLOptimizer(
            actor=actor,
            options=options,
            processes=processes,
            total_steps=iterations * options.steps_per_iteration(),
        ),
        reference=reference,
        reference_parts=parts if reference.copy is None else split_language_model(reference.copy),
        prompts=prompts,
        held_out=held_out,
        sources=sources,
        sampling=Sampling.from_options(options, stops),
        tokenizer=tokenizer,
        mix=_mix(options, context, actor, tokenizer, processes),
        iterations=iterations,
    )


def _mix(
    options: RLOptions,
    context: StepContext,
    actor: Actor,
    tokenizer: Any,
    processes: ProcessGroup,
) -> Mix | None:
    mix = options.pretraining
    if mix is None:
        return None
    rows = prepare_mix(mix, context, tokenizer).train
    return make_mix(rows, mix, seed=context.seed, actor=actor, processes=processes)


def _train(rl: RLContext, context: StepContext) -> None:
    """Train, with the reward on held-out prompts before and after."""
    before = sample_weights(rl.optimizer.policy)
    first = held_out_reward(rl, seed=context.seed)
    progress = train(rl, context)
    last = held_out_reward(rl, seed=context.seed)
    if first is not None and last is not None:
        context.record(eval_reward=last, eval_reward_before=first)
    if progress.guards.skipped < rl.iterations:
        check_weights_changed(
            before,
            rl.optimizer.policy,
            context,
            hint="raise learning_rate, and check that rewards differ from one response to another",
        )


def _save(rl: RLContext, prepared: PreparedModel, context: StepContext) -> Mapping[Slot, Artifact]:
    """Save the models: the first process writes, and the others read what it wrote."""
    value = rl.actor.value
    save_value = None if value is None else rl.algorithm.value_saver(value, context)
    policy = save_model(
        prepared.model,
        context.folder / "policy",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )
    saved: dict[Slot, Artifact] = {"policy": policy}
    if save_value is not None:
        saved.update(save_value(policy))
    if context.writes:
        shutil.rmtree(context.folder / "checkpoints", ignore_errors=True)
    rl.processes.barrier()
    return saved
