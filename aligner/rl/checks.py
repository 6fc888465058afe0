"""Errors of an online step that follow from its models, prompts and options."""

from __future__ import annotations

from typing import Any

from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import PreparedData
from aligner.data.store.token_rows import PromptTokens
from aligner.errors import AlignerError, ChainError, ModelError
from aligner.models.continuous import batches_continuously
from aligner.models.meta_model import model_class, parse_config
from aligner.models.model_info import ModelInfo
from aligner.rl.options import RLOptions, RolloutOptions
from aligner.stage import PlanContext


def check_stop_token(tokenizer: Any, context: PlanContext) -> None:
    """Refuse a tokenizer without a stop token.

    Raises:
        ModelError: it has none.
    """
    if not stop_tokens(tokenizer):
        raise ModelError(
            "the tokenizer has no stop token: no response could ever end",
            where=context.where,
            hint="add a `chat` step, which gives it one",
        )


def length_errors(
    options: RLOptions, info: ModelInfo, data: PreparedData[PromptTokens], context: PlanContext
) -> list[AlignerError]:
    """Return an error if the longest prompt with its response exceeds the model's positions."""
    longest = max(len(row.input_ids) for row in (*data.train, *data.held_out))
    if info.positions is None or longest + options.max_new_tokens <= info.positions:
        return []
    return [
        ModelError(
            f"the longest prompt has {longest} tokens and a response up to "
            f"{options.max_new_tokens}, but the model has only {info.positions} positions",
            where=context.at("max_new_tokens"),
            hint=f"lower max_new_tokens, or set max_length to "
            f"{max(info.positions - options.max_new_tokens, 2)} to leave out longer prompts",
        )
    ]


def sampler_errors(options: RLOptions, info: ModelInfo, context: PlanContext) -> list[AlignerError]:
    """Return errors for options that transformers' continuous batching does not support."""
    if options.sampler != "continuous_batching":
        return []
    whole = "returns no log-probabilities of the full distribution, which `sampler_gap` needs"
    reasons = {
        "min_new_tokens": "cannot keep a response from ending",
        "top_k": whole,
        "top_p": whole,
    }
    errors: list[AlignerError] = [
        ChainError(
            f"`{name}: {getattr(options, name)}` is not possible with continuous batching, "
            f"which {reason}",
            where=context.at(name),
            hint="leave it out, or use `sampler: built_in`",
        )
        for name, reason in reasons.items()
        if getattr(options, name) != RolloutOptions.model_fields[name].default
    ]
    if options.attn_implementation == "flex_attention":
        errors.append(
            ChainError(
                "continuous batching cannot use `attn_implementation: flex_attention`",
                where=context.at("attn_implementation"),
                hint="use sdpa or flash_attention_2, or `sampler: built_in`",
            )
        )
    kind = model_class(parse_config(info.config), reward=False)
    if not batches_continuously(kind):
        errors.append(
            ModelError(
                f"transformers does not support continuous batching for {kind.__name__}",
                where=context.at("sampler"),
                hint="use `sampler: built_in`",
            )
        )
    return errors
