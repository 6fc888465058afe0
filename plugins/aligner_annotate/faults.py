"""Reasons why the policy cannot write what a step asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.fitted import PromptTokens
from aligner.data.tokenizers import planned_tokenizer
from aligner.errors import AlignerError, Collected, ModelError
from aligner.models.inspect import planned_model
from aligner.models.precision import attention_faults, precision_of, quantize_faults
from aligner.state import Slot
from aligner_annotate.judge import Questions
from aligner_annotate.options import WritingOptions
from aligner_annotate.stage import AnnotateConfig, JudgeSpec


def endless(tokenizer: Any, look: Look) -> list[AlignerError]:
    """A tokenizer without a stop token."""
    if stop_tokens(tokenizer):
        return []
    return [
        ModelError(
            "the tokenizer has no token that ends an answer: no answer could ever stop",
            where=look.where,
            hint="a `chat` step gives it one",
        )
    ]


def machine_faults(options: WritingOptions, look: Look) -> list[AlignerError]:
    """What this machine cannot do."""
    faults = Collected()
    with faults:
        precision_of(options.precision, where=look.at("precision"))
    faults.found += quantize_faults(options.quantize, where=look.at("quantize"))
    return faults.found + attention_faults(options.attention, where=look.at("attention"))


def too_long(
    longest: int, new: int, readers: Sequence[tuple[Slot, str]], look: Look
) -> list[AlignerError]:
    """Prompts that leave no room for an answer.

    Args:
        longest: Of the prompts, in tokens.
        new: Longest answer, in tokens.
        readers: Whose positions must suffice, and what to call each.
        look: Where the step stands.
    """
    faults: list[AlignerError] = []
    for slot, name in readers:
        positions = _positions(look, slot)
        if positions is not None and longest + new > positions:
            room = positions - new
            hint = f"lower max_new_tokens to {max(positions - longest, 1)} or less" + (
                f", or set max_length to {room} to leave longer prompts out" if room > 1 else ""
            )
            what = (
                f"the longest prompt has {longest} tokens and an answer {new}, "
                f"and {name} {positions} positions"
            )
            faults.append(ModelError(what, where=look.at("max_new_tokens"), hint=hint))
    return faults


def judge_faults(
    config: AnnotateConfig, judge: JudgeSpec, prompts: Sequence[PromptTokens], look: Look
) -> list[AlignerError]:
    """A judge that is not there, cannot be asked, or has no room for the question.

    Raises:
        ModelError: it has no tokenizer that it could be asked through.
    """
    there = look.slots if judge.of is None else look.past.get(judge.of)
    if there is None:
        return []  # the chain complains about names of no step
    where = look.at("judge")
    if not {"policy", "tokenizer"} <= there.keys():
        what = (
            f"nothing has filled policy and tokenizer after {judge.of!r}, so no model could judge"
        )
        hint = "name a step after the one that fills them"
        return [ModelError(what, where=where, hint=hint)]
    asked = replace(look, slots=there)
    questions = Questions(judge, planned_tokenizer(asked), where=where)
    longest = max(map(len, questions.encode([(one.messages, "") for one in prompts])))
    positions = _positions(asked, "policy")
    if positions is None or longest + config.max_new_tokens <= positions:
        return []
    what = (
        f"the longest question to the judge has {longest} tokens and an answer "
        f"{config.max_new_tokens}, and the judge {positions} positions"
    )
    return [ModelError(what, where=where, hint="shorten the question, or lower max_new_tokens")]


def _positions(look: Look, slot: Slot) -> int | None:
    quietly = Collected()
    with quietly:  # what is wrong with the model itself is said by who looks at it
        return planned_model(look, slot).positions
    return None
