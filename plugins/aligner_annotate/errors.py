"""Reasons why the policy cannot write what a step asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PromptTokens
from aligner.errors import AlignerError, ErrorCollector, ModelError
from aligner.models.inspect import planned_model
from aligner.state import Slot
from aligner_annotate.judge import Questions
from aligner_annotate.stage import AnnotateOptions, JudgeSpec


def endless(tokenizer: Any, context: PlanContext) -> list[AlignerError]:
    """A tokenizer without a stop token."""
    if stop_tokens(tokenizer):
        return []
    return [
        ModelError(
            "the tokenizer has no token that ends an answer: no answer could ever stop",
            where=context.where,
            hint="a `chat` step gives it one",
        )
    ]


def too_long(
    longest: int, new: int, readers: Sequence[tuple[Slot, str]], context: PlanContext
) -> list[AlignerError]:
    """Prompts that leave no room for an answer.

    Args:
        longest: Of the prompts, in tokens.
        new: Longest answer, in tokens.
        readers: Whose positions must suffice, and what to call each.
        look: Where the step stands.
    """
    errors: list[AlignerError] = []
    for slot, name in readers:
        positions = _positions(context, slot)
        if positions is not None and longest + new > positions:
            room = positions - new
            hint = f"lower max_new_tokens to {max(positions - longest, 1)} or less" + (
                f", or set max_length to {room} to leave longer prompts out" if room > 1 else ""
            )
            what = (
                f"the longest prompt has {longest} tokens and an answer {new}, "
                f"and {name} {positions} positions"
            )
            errors.append(ModelError(what, where=context.at("max_new_tokens"), hint=hint))
    return errors


def judge_errors(
    options: AnnotateOptions,
    judge: JudgeSpec,
    prompts: Sequence[PromptTokens],
    context: PlanContext,
) -> list[AlignerError]:
    """A judge that is not there, cannot be asked, or has no room for the question.

    Raises:
        ModelError: it has no tokenizer that it could be asked through.
    """
    there = context.slots if judge.of is None else context.past.get(judge.of)
    if there is None:
        return []  # the chain complains about names of no step
    where = context.at("judge")
    if not {"policy", "tokenizer"} <= there.keys():
        what = (
            f"nothing has filled policy and tokenizer after {judge.of!r}, so no model could judge"
        )
        hint = "name a step after the one that fills them"
        return [ModelError(what, where=where, hint=hint)]
    asked = replace(context, slots=there)
    questions = Questions(judge, planned_tokenizer(asked), where=where)
    longest = max(map(len, questions.encode([(one.messages, "") for one in prompts])))
    positions = _positions(asked, "policy")
    if positions is None or longest + options.max_new_tokens <= positions:
        return []
    what = (
        f"the longest question to the judge has {longest} tokens and an answer "
        f"{options.max_new_tokens}, and the judge {positions} positions"
    )
    return [ModelError(what, where=where, hint="shorten the question, or lower max_new_tokens")]


def _positions(context: PlanContext, slot: Slot) -> int | None:
    quietly = ErrorCollector()
    with quietly:  # what is wrong with the model itself is said by who looks at it
        return planned_model(context, slot).positions
    return None
