"""Every reason why a ppo step cannot run that its models, data and rewards give, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.prepare import Prepared, PromptTokens
from aligner.errors import AlignerError, ChainError, Collected, ModelError, did_you_mean
from aligner.models.inspect import Facts, Training, planned_model
from aligner.state import Artifact
from aligner_ppo.options import MODEL, PPOConfig
from aligner_ppo.value import Kind
from aligner_ppo.value_files import kind_for, kind_of


def reward_faults(config: PPOConfig, look: Look) -> list[AlignerError]:
    """Reward functions that nobody offers, options they do not take, a reward slot that is wrong."""
    faults = Collected()
    offered = look.offers.reward_functions
    for reward in config.rewards:
        if reward.name == MODEL:
            with faults:
                planned_model(look, "reward")
                _needs_a_tokenizer(look)
        elif reward.name not in offered:
            faults.found.append(
                ChainError(
                    f"no installed plugin offers a reward function {reward.name!r}",
                    where=look.at("rewards"),
                    hint=did_you_mean(reward.name, {MODEL, *offered}),
                )
            )
        else:
            faults.found += _option_faults(offered[reward.name].Config, reward, look)
    return faults.found


def _option_faults(kind: Any, reward: Any, look: Look) -> list[AlignerError]:
    try:
        kind(**reward.options)
    except ValidationError as error:
        return [
            ChainError(
                f"reward function {reward.name!r}: "
                + ".".join(map(str, one["loc"]))
                + (": " if one["loc"] else "")
                + one["msg"].removeprefix("Value error, "),
                where=look.at("rewards"),
                hint=f"its options are {', '.join(kind.model_fields) or 'none'}",
            )
            for one in error.errors()
        ]
    return []


def _needs_a_tokenizer(look: Look) -> None:
    """A reward model from elsewhere must bring the tokenizer it was trained with."""
    artifact = look.slots["reward"].facts.get("artifact")
    if not isinstance(artifact, Artifact) or not artifact.local:
        return
    folder = Path(artifact.adapters[-1] if artifact.adapters else artifact.path)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"the reward model in {folder} has no tokenizer beside it",
            where=look.where,
            hint="save the tokenizer it was trained with, chat template included, in its folder",
        )


def needs_an_end(tokenizer: Any, look: Look) -> None:
    """Refuse a tokenizer without a stop token."""
    if not stop_tokens(tokenizer):
        raise ModelError(
            "the tokenizer has no token that ends an answer: no response could ever stop",
            where=look.where,
            hint="a `chat` step gives it one",
        )


def length_faults(
    config: PPOConfig, facts: Facts, data: Prepared[PromptTokens], look: Look
) -> list[AlignerError]:
    """Whether prompts and responses fit the model's positions."""
    longest = max(len(row.input_ids) for row in (*data.train, *data.held_out))
    if facts.positions is None or longest + config.max_new_tokens <= facts.positions:
        return []
    return [
        ModelError(
            f"the longest prompt has {longest} tokens and a response {config.max_new_tokens}, "
            f"and the model {facts.positions} positions",
            where=look.at("max_new_tokens"),
            hint=f"lower max_new_tokens, or set max_length to "
            f"{max(facts.positions - config.max_new_tokens, 2)} to leave longer prompts out",
        )
    ]


def value_kind(config: PPOConfig, training: Training, look: Look) -> Kind:
    """The kind of value function, or why there is none such."""
    lora = training.treatment not in ("full", "merge")
    slot: Kind | None = None
    if "value" in look.slots and config.value_from == "auto":
        known = look.slots["value"].facts
        artifact = known.get("artifact")
        slot = kind_of(artifact) if isinstance(artifact, Artifact) else known.get("value", "model")
    kind = kind_for(config, lora=lora, slot=slot)
    where = look.at("value")
    if slot is not None and kind != slot:
        raise ChainError(
            f"the value slot will hold a value {slot}, and this step asks for a value {kind}",
            where=where,
            hint=f"say `value: {slot}`, or `value_from: policy` to start a new one",
        )
    if kind == "adapter" and not lora:
        raise ChainError(
            "`value: adapter` needs a policy with frozen weights below an adapter",
            where=where,
            hint="add an `adapter`, or use `value: model` or `value: head`",
        )
    if kind == "adapter" and config.activation_checkpointing:
        raise ChainError(
            "`value: adapter` cannot go with activation_checkpointing: "
            "what is computed again would be the policy's",
            where=where,
            hint="use `value: head` or `value: model`, or leave activation_checkpointing out",
        )
    if (
        kind == "adapter"
        and training.after.adapters[-1].use_dora
        and len(training.after.adapters) > 1
    ):
        raise ChainError(
            "`value: adapter` cannot be a dora adapter on top of others",
            where=where,
            hint="use `value: head` or `value: model`",
        )
    return kind
