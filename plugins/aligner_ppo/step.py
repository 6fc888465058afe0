"""Bring the models, prompts and rewards of a ppo step together, let it learn, and save what it made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from aligner.data.chat import stop_tokens
from aligner.data.tokenizers import load_tokenizer
from aligner.models.files import hash_folder
from aligner.models.generate import Sampling
from aligner.models.policy import Prepared, load_policy
from aligner.models.precision import device, precision_of
from aligner.models.reference import Reference, reference_from, reference_of
from aligner.models.reward import RewardParts
from aligner.models.reward_beside import reward_beside
from aligner.models.save import save_model
from aligner.models.spec import treatment
from aligner.stage import Run
from aligner.state import Artifact, ModelState
from aligner.train.moved import refuse_unmoved, sample_of
from aligner.train.reward_spec import MODEL
from aligner.train.scoring import Source, load_sources
from aligner_ppo.actor import Actor
from aligner_ppo.collect import held_out_reward
from aligner_ppo.data import mix_of, mixed_in, prompts_of_step
from aligner_ppo.forward import LanguageModel, language_model
from aligner_ppo.options import PPOConfig
from aligner_ppo.parallel import Together
from aligner_ppo.setting import Prompt, Setting
from aligner_ppo.train import learn
from aligner_ppo.update import Learner, Mix
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


def step(config: PPOConfig, state: ModelState, run: Run) -> tuple[Artifact, Artifact]:
    """The whole work of a ppo step. Returns the policy and the value function it leaves.

    Raises:
        StageError: a guard stops it, or nothing was learnt.
    """
    where, live = run.where, run.live
    together = Together.of(rank=run.rank, world=run.world, device=device())
    tokenizer = load_tokenizer(state.get("tokenizer"), live, where=where)
    prompts, held_out = prompts_of_step(config, run, tokenizer)
    slot = slot_of(config, state.value)
    kind = kind_for(
        config,
        lora=treatment(state.get("policy").adapters, config, where=where) not in ("full", "merge"),
        slot=None if slot is None else kind_of(slot),
    )
    own_model = value_model(config, state, run, kind=kind, pad=tokenizer.pad_token_id)
    prepared = load_policy(
        state.get("policy"), live, config, step="ppo", seed=run.seed, where=where
    )
    parts = language_model(prepared.model)
    if state.reference is None:
        reference = reference_of(prepared)
    else:
        reference = reference_from(
            state.reference,
            live,
            prepared.model,
            precision=config.precision,
            attention=config.attention,
            where=where,
        )
    setting = setting_of(
        config,
        run,
        prepared=prepared,
        reference=reference,
        parts=parts,
        value=value_function(
            config, prepared.model, parts, own_model, kind=kind, state=state, run=run
        ),
        prompts=prompts,
        held_out=held_out,
        sources=load_sources(
            config.rewards,
            state,
            run,
            batch_size=config.rollout_batch_size,
            precision=config.precision,
            attention=config.attention,
            parts=_shared_reward(config, prepared, state, run),
        ),
        tokenizer=tokenizer,
        stops=stop_tokens(tokenizer),
        together=together,
    )
    before = sample_of(setting.learner.policy)
    first = held_out_reward(setting, run)
    progress = learn(setting, run)
    last = held_out_reward(setting, run)
    if first is not None and last is not None:
        run.record(eval_reward=last, eval_reward_before=first)
    if progress.watched.skipped < setting.iterations:
        refuse_unmoved(
            before,
            setting.learner.policy,
            run,
            hint="raise learning_rate, and see that the rewards differ from one response to another",
        )
    reference.close()
    return _save(setting, prepared, run)


def _shared_reward(
    config: PPOConfig, prepared: Prepared, state: ModelState, run: Run
) -> RewardParts | None:
    if all(reward.name != MODEL for reward in config.rewards):
        return None
    return reward_beside(prepared, state.get("reward"), run.live, where=run.where)


def setting_of(
    config: PPOConfig,
    run: Run,
    *,
    prepared: Prepared,
    parts: LanguageModel,
    reference: Reference,
    value: ValueFunction,
    prompts: Sequence[Prompt],
    held_out: Sequence[Prompt],
    sources: Sequence[Source],
    tokenizer: Any,
    stops: Sequence[int],
    together: Together,
) -> Setting:
    """Everything PPO works with, from its parts."""
    actor = Actor(
        policy=prepared.model,
        parts=parts,
        value=value.to(together.device),
        device=together.device,
        temperature=config.temperature,
        half=precision_of(config.precision) == "bf16",
    )
    iterations = config.rounds(len(prompts))
    rate = config.value_learning_rate or (_MODEL_RATE if value.kind == "model" else _BESIDE_RATE)
    learner = Learner(
        actor=actor,
        config=config,
        together=together,
        total_steps=iterations * config.epochs * config.minibatches,
        value_learning_rate=rate,
    )
    mix: Mix | None = None
    if config.pretraining is not None:
        rows = mixed_in(config.pretraining, run, tokenizer).train
        mix = mix_of(rows, config.pretraining, seed=run.seed, actor=actor, together=together)
    return Setting(
        learner=learner,
        reference=reference,
        reference_parts=parts if reference.copy is None else language_model(reference.copy),
        prompts=prompts,
        held_out=held_out,
        sources=sources,
        sampling=Sampling(
            stop_tokens=tuple(stops),
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=config.min_new_tokens,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
        ),
        tokenizer=tokenizer,
        mix=mix,
        iterations=iterations,
    )


def _save(setting: Setting, prepared: Prepared, run: Run) -> tuple[Artifact, Artifact]:
    """Write policy and value function: the first process does, and the others read what it wrote."""
    value, together = setting.actor.value, setting.together
    # Saving the policy takes foreign adapters off it, the value function's among them.
    beside = {} if isinstance(value, OwnModel) else weights_of(value)
    policy = save_model(
        prepared.model,
        run.folder / "policy",
        live=run.live,
        base=prepared.base,
        made_by=run.step,
    )
    if isinstance(value, OwnModel):
        save_model(value.model, run.folder / "value", live=run.live, made_by=run.step)
    elif run.writes:
        save_beside(beside, run.folder / "value", kind=value.kind, policy=policy)
    if run.writes:
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    together.wait()
    folder = run.folder / "value"
    return policy, Artifact(path=str(folder), hash=hash_folder(folder))
