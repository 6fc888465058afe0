"""Every reason why a ppo step cannot run that its models, data and rewards give, in plain words."""

from __future__ import annotations

from typing import Any

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.prepare import Prepared, PromptTokens
from aligner.errors import AlignerError, ChainError, ModelError
from aligner.models.continuous import batches_continuously
from aligner.models.inspect import Facts, Training
from aligner.models.skeleton import config_from, model_class
from aligner.state import Artifact
from aligner_ppo.options import PPOConfig
from aligner_ppo.value import Kind
from aligner_ppo.value_files import kind_for, kind_of


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


def sampler_faults(config: PPOConfig, facts: Facts, look: Look) -> list[AlignerError]:
    """What transformers' continuous batching cannot do, each at the option that asks for it."""
    if config.sampler != "continuous_batching":
        return []
    without = "leave it out, or use `sampler: built_in`"
    reasons = {
        "min_new_tokens": "cannot keep a response from ending",
        "top_k": "gives no log-probabilities of the whole distribution, which `sampler_gap` compares",
        "top_p": "gives no log-probabilities of the whole distribution, which `sampler_gap` compares",
    }
    faults: list[AlignerError] = [
        ChainError(
            f"`{name}: {getattr(config, name)}` is not possible with continuous batching, which {why}",
            where=look.at(name),
            hint=without,
        )
        for name, why in reasons.items()
        if getattr(config, name) != PPOConfig.model_fields[name].default
    ]
    if config.attention == "flex_attention":
        faults.append(
            ChainError(
                "continuous batching cannot use `attention: flex_attention`",
                where=look.at("attention"),
                hint="use sdpa or flash_attention_2, or `sampler: built_in`",
            )
        )
    kind = model_class(config_from(facts.config), reward=False)
    if not batches_continuously(kind):
        faults.append(
            ModelError(
                f"transformers cannot batch a {kind.__name__} continuously",
                where=look.at("sampler"),
                hint="use `sampler: built_in`",
            )
        )
    return faults


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
