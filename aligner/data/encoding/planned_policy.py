"""Find the tokenizer and the policy that a step will start from, and check that they fit."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.errors import ErrorCollector
from aligner.models.model_info import ModelInfo, planned_model, vocabulary_errors
from aligner.stage import PlanContext


def planned_policy(
    context: PlanContext, errors: ErrorCollector
) -> tuple[PreTrainedTokenizerBase | None, ModelInfo | None]:
    """Return the tokenizer and the facts about the policy; errors of either are added to `errors`."""
    tokenizer = facts = None
    with errors:
        tokenizer = planned_tokenizer(context)
    with errors:
        facts = planned_model(context, "policy")
    if tokenizer is not None and facts is not None:
        errors.found += vocabulary_errors(facts, len(tokenizer))
    return tokenizer, facts
