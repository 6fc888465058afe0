"""Look, at the check, at the tokenizer and the policy that a step will find, and whether they fit."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from aligner.data.tokenizers import planned_tokenizer
from aligner.errors import Collected
from aligner.models.inspect import Facts, planned_model, vocabulary_faults
from aligner.stage import Look


def planned_policy(
    look: Look, faults: Collected
) -> tuple[PreTrainedTokenizerBase | None, Facts | None]:
    """The tokenizer and what is known of the policy; what is wrong with either goes to `faults`."""
    tokenizer = facts = None
    with faults:
        tokenizer = planned_tokenizer(look)
    with faults:
        facts = planned_model(look, "policy")
    if tokenizer is not None and facts is not None:
        faults.found += vocabulary_faults(facts, len(tokenizer), where=look.where)
    return tokenizer, facts
