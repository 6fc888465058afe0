"""Every reason why a ppo step cannot run that its models, data and rewards give, in plain words."""

from __future__ import annotations

from typing import Any

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import PreparedData
from aligner.data.store.token_rows import PromptTokens
from aligner.errors import AlignerError, ChainError, ModelError
from aligner.models.continuous import batches_continuously
from aligner.models.inspect import ModelInfo, Training
from aligner.models.skeleton import config_from, model_class
from aligner.state import Artifact
from aligner_ppo.options import PPOOptions
from aligner_ppo.value import Kind
from aligner_ppo.value_files import kind_for, kind_of


def needs_an_end(tokenizer: Any, context: PlanContext) -> None:
    """Refuse a tokenizer without a stop token."""
    if not stop_tokens(tokenizer):
        raise ModelError(
            "the tokenizer has no token that ends an answer: no response could ever stop",
            where=context.where,
            hint="a `chat` step gives it one",
        )


def length_errors(
    options: PPOOptions, facts: ModelInfo, data: PreparedData[PromptTokens], context: PlanContext
) -> list[AlignerError]:
    """Whether prompts and responses fit the model's positions."""
    longest = max(len(row.input_ids) for row in (*data.train, *data.held_out))
    if facts.positions is None or longest + options.max_new_tokens <= facts.positions:
        return []
    return [
        ModelError(
            f"the longest prompt has {longest} tokens and a response {options.max_new_tokens}, "
            f"and the model {facts.positions} positions",
            where=context.at("max_new_tokens"),
            hint=f"lower max_new_tokens, or set max_length to "
            f"{max(facts.positions - options.max_new_tokens, 2)} to leave longer prompts out",
        )
    ]


def sampler_errors(
    options: PPOOptions, facts: ModelInfo, context: PlanContext
) -> list[AlignerError]:
    """What transformers' continuous batching cannot do, each at the option that asks for it."""
    if options.sampler != "continuous_batching":
        return []
    without = "leave it out, or use `sampler: built_in`"
    reasons = {
        "min_new_tokens": "cannot keep a response from ending",
        "top_k": "gives no log-probabilities of the whole distribution, which `sampler_gap` compares",
        "top_p": "gives no log-probabilities of the whole distribution, which `sampler_gap` compares",
    }
    errors: list[AlignerError] = [
        ChainError(
            f"`{name}: {getattr(options, name)}` is not possible with continuous batching, which {why}",
            where=context.at(name),
            hint=without,
        )
        for name, why in reasons.items()
        if getattr(options, name) != PPOOptions.model_fields[name].default
    ]
    if options.attn_implementation == "flex_attention":
        errors.append(
            ChainError(
                "continuous batching cannot use `attn_implementation: flex_attention`",
                where=context.at("attn_implementation"),
                hint="use sdpa or flash_attention_2, or `sampler: built_in`",
            )
        )
    kind = model_class(config_from(facts.config), reward=False)
    if not batches_continuously(kind):
        errors.append(
            ModelError(
                f"transformers cannot batch a {kind.__name__} continuously",
                where=context.at("sampler"),
                hint="use `sampler: built_in`",
            )
        )
    return errors


def value_kind(options: PPOOptions, training: Training, context: PlanContext) -> Kind:
    """The kind of value function, or why there is none such."""
    lora = training.adapter_plan not in ("full", "merge")
    slot: Kind | None = None
    if "value" in context.slots and options.value_from == "auto":
        known = context.slots["value"].facts
        artifact = known.get("artifact")
        slot = kind_of(artifact) if isinstance(artifact, Artifact) else known.get("value", "model")
    kind = kind_for(options, lora=lora, slot=slot)
    where = context.at("value")
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
    if kind == "adapter" and options.activation_checkpointing:
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
