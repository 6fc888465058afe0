"""Bring the models, prompts and rewards of a ppo step together, let it learn, and save what it made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.models.files import hash_folder
from aligner.models.generate import Sampling
from aligner.models.options import adapter_plan
from aligner.models.policy import Prepared, load_policy
from aligner.models.precision import device, precision_of
from aligner.models.reference import Reference, reference_from, reference_of
from aligner.models.reward import RewardParts
from aligner.models.save import save_model
from aligner.models.shared_reward import shared_reward
from aligner.stage import StepContext
from aligner.state import Artifact, ModelState
from aligner.train.reward_options import MODEL
from aligner.train.scoring import RewardSource, load_sources
from aligner.train.weight_check import check_weights_changed, sample_of
from aligner_ppo.actor import Actor
from aligner_ppo.collect import held_out_reward
from aligner_ppo.data import mix_of, mixed_in, prompts_of_step
from aligner_ppo.forward import LanguageModel, language_model
from aligner_ppo.options import PPOOptions
from aligner_ppo.parallel import ProcessGroup
from aligner_ppo.setting import PPOContext, PPOPrompt
from aligner_ppo.train import learn
from aligner_ppo.update import Mix, PPOOptimizer
from aligner_ppo.value import OwnModel, ValueFunction
from aligner_ppo.value_files import (
    kind_for,
    kind_of,
    save_beside,
    slot_of,
    value_function,
    value_model,
    weights_of,
)

_BESIDE_RATE, _MODEL_RATE = 1e-4, 1e-5


def step(options: PPOOptions, state: ModelState, context: StepContext) -> tuple[Artifact, Artifact]:
    """The whole work of a ppo step. Returns the policy and the value function it leaves.

    Raises:
        StageError: a guard stops it, or nothing was learnt.
    """
    where, model_cache = context.where, context.model_cache
    together = ProcessGroup.of(rank=context.rank, world=context.world, device=device())
    tokenizer = load_tokenizer(state.get("tokenizer"), model_cache, where=where)
    prompts, held_out = prompts_of_step(options, context, tokenizer)
    slot = slot_of(options, state.value)
    kind = kind_for(
        options,
        lora=adapter_plan(state.get("policy").adapters, options, where=where)
        not in ("full", "merge"),
        slot=None if slot is None else kind_of(slot),
    )
    own_model = value_model(options, state, context, kind=kind, pad=tokenizer.pad_token_id)
    prepared = load_policy(
        state.get("policy"), model_cache, options, step="ppo", seed=context.seed, where=where
    )
    parts = language_model(prepared.model)
    if state.reference is None:
        reference = reference_of(prepared)
    else:
        reference = reference_from(
            state.reference,
            model_cache,
            prepared.model,
            precision=options.precision,
            attn_implementation=options.attn_implementation,
            where=where,
        )
    setting = setting_of(
        options,
        context,
        prepared=prepared,
        reference=reference,
        parts=parts,
        value=value_function(
            options, prepared.model, parts, own_model, kind=kind, state=state, context=context
        ),
        prompts=prompts,
        held_out=held_out,
        sources=load_sources(
            options.rewards,
            state,
            context,
            batch_size=options.rollout_batch_size,
            precision=options.precision,
            attn_implementation=options.attn_implementation,
            parts=_shared_reward(options, prepared, state, context),
        ),
        tokenizer=tokenizer,
        stops=stop_tokens(tokenizer),
        together=together,
    )
    before = sample_of(setting.learner.policy)
    first = held_out_reward(setting, context)
    progress = learn(setting, context)
    last = held_out_reward(setting, context)
    if first is not None and last is not None:
        context.record(eval_reward=last, eval_reward_before=first)
    if progress.watched.skipped < setting.iterations:
        check_weights_changed(
            before,
            setting.learner.policy,
            context,
            hint="raise learning_rate, and see that the rewards differ from one response to another",
        )
    reference.close()
    return _save(setting, prepared, context)


def _shared_reward(
    options: PPOOptions, prepared: Prepared, state: ModelState, context: StepContext
) -> RewardParts | None:
    if all(reward.name != MODEL for reward in options.rewards):
        return None
    return shared_reward(prepared, state.get("reward"), context.model_cache, where=context.where)


def setting_of(
    options: PPOOptions,
    context: StepContext,
    *,
    prepared: Prepared,
    parts: LanguageModel,
    reference: Reference,
    value: ValueFunction,
    prompts: Sequence[PPOPrompt],
    held_out: Sequence[PPOPrompt],
    sources: Sequence[RewardSource],
    tokenizer: Any,
    stops: Sequence[int],
    together: ProcessGroup,
) -> PPOContext:
    """Everything PPO works with, from its parts."""
    actor = Actor(
        policy=prepared.model,
        parts=parts,
        value=value.to(together.device),
        device=together.device,
        temperature=options.temperature,
        half=precision_of(options.precision) == "bf16",
    )
    iterations = options.rounds(len(prompts))
    rate = options.value_learning_rate or (_MODEL_RATE if value.kind == "model" else _BESIDE_RATE)
    learner = PPOOptimizer(
        actor=actor,
        options=options,
        together=together,
        total_steps=iterations * options.epochs * options.minibatches,
        value_learning_rate=rate,
    )
    mix: Mix | None = None
    if options.pretraining is not None:
        rows = mixed_in(options.pretraining, context, tokenizer).train
        mix = mix_of(rows, options.pretraining, seed=context.seed, actor=actor, together=together)
    return PPOContext(
        learner=learner,
        reference=reference,
        reference_parts=parts if reference.copy is None else language_model(reference.copy),
        prompts=prompts,
        held_out=held_out,
        sources=sources,
        sampling=Sampling(
            stop_tokens=tuple(stops),
            max_new_tokens=options.max_new_tokens,
            min_new_tokens=options.min_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        ),
        tokenizer=tokenizer,
        mix=mix,
        iterations=iterations,
    )


def _save(
    setting: PPOContext, prepared: Prepared, context: StepContext
) -> tuple[Artifact, Artifact]:
    """Write policy and value function: the first process does, and the others read what it wrote."""
    value, together = setting.actor.value, setting.together
    # Saving the policy takes foreign adapters off it, the value function's among them.
    beside = {} if isinstance(value, OwnModel) else weights_of(value)
    policy = save_model(
        prepared.model,
        context.folder / "policy",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )
    if isinstance(value, OwnModel):
        save_model(
            value.model,
            context.folder / "value",
            model_cache=context.model_cache,
            made_by=context.step,
        )
    elif context.writes:
        save_beside(beside, context.folder / "value", kind=value.kind, policy=policy)
    if context.writes:
        shutil.rmtree(context.folder / "checkpoints", ignore_errors=True)
    together.wait()
    folder = context.folder / "value"
    return policy, Artifact(path=str(folder), hash=hash_folder(folder))
