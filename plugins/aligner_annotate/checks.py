"""Checks before weights load: length limits, stop tokens, and the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aligner import AlignerError, PlanContext, Slot
from aligner.kit.declare import ErrorCollector, ModelError, error_location
from aligner.kit.work import PromptTokens, planned_model, planned_tokenizer, stop_tokens
from aligner_annotate.judge import JudgeEncoder
from aligner_annotate.options import AnnotateOptions, JudgeOptions


def check_stop_tokens(tokenizer: Any) -> None:
    """Check that a token ends completions.

    Raises:
        ModelError: there is none.
    """
    if not stop_tokens(tokenizer):
        raise ModelError(
            "the tokenizer has no token that ends an answer, so completions would never stop",
            hint="add a `chat` step, which sets one",
        )


def length_errors(
    prompts: Sequence[Any], new: int, readers: Sequence[tuple[Slot, str]], context: PlanContext
) -> list[AlignerError]:
    """Find models with too few positions for the longest prompt and a completion.

    Args:
        prompts: Tokenized prompts.
        new: Largest length of a completion in tokens.
        readers: Slot and name of each model that reads both.
        context: Context of the step.
    """
    longest = max(len(prompt.input_ids) for prompt in prompts)
    errors: list[AlignerError] = []
    for slot, name in readers:
        positions = _positions(context, slot)
        if positions is not None and longest + new > positions:
            room = positions - new
            hint = f"lower max_new_tokens to {max(positions - longest, 1)} or less" + (
                f", or set max_length to {room} to drop longer prompts" if room > 1 else ""
            )
            what = (
                f"the longest prompt has {longest} tokens and a completion up to {new}, "
                f"but {name} has {positions} positions"
            )
            errors.append(ModelError(what, where=context.at("max_new_tokens"), hint=hint))
    return errors


def judge_errors(
    options: AnnotateOptions,
    judge: JudgeOptions,
    prompts: Sequence[PromptTokens],
    context: PlanContext,
) -> list[AlignerError]:
    """Find errors of the judge: no model, an unusable template, or too few positions."""
    slots = context.slots if judge.of is None else context.past.get(judge.of)
    if slots is None:
        return []  # the chain reports names that are no steps
    errors = ErrorCollector()
    with errors, error_location(context.at("judge")):
        if not {"policy", "tokenizer"} <= slots.keys():
            raise ModelError(
                f"policy and tokenizer are not both filled after {judge.of!r}, so no model can judge",
                hint="name a step after the one that fills them",
            )
        judge_context = replace(context, slots=slots)
        encoder = JudgeEncoder(judge, planned_tokenizer(judge_context))
        rows = encoder.encode([(prompt.messages, "") for prompt in prompts])
        longest, positions = max(map(len, rows)), _positions(judge_context, "policy")
        if positions is not None and longest + options.max_new_tokens > positions:
            raise ModelError(
                f"the longest question to the judge has {longest} tokens and a completion up to "
                f"{options.max_new_tokens}, but the judge has {positions} positions",
                hint="shorten the question, or lower max_new_tokens",
            )
    return errors.found


def _positions(context: PlanContext, slot: Slot) -> int | None:
    ignored = ErrorCollector()
    with ignored:  # errors of the model itself are reported where its slot is planned
        return planned_model(context, slot).positions
    return None
