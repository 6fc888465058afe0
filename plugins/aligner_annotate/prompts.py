"""The prompts of an annotate step, as the policy's tokens."""

from __future__ import annotations

from typing import Any

from aligner.data.place import Place, Under
from aligner.data.prepare import Prepared, PromptTokens, prepare_prompts
from aligner.data.spec import DataOptions
from aligner_annotate.stage import AnnotateConfig


def prompts_of(config: AnnotateConfig, place: Place, tokenizer: Any) -> Prepared[PromptTokens]:
    """Read and encode the prompts.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
        ModelError: the tokenizer has no usable chat template.
    """
    options = DataOptions(data=config.prompts, max_length=config.max_length, limits=config.limits)
    return prepare_prompts(Under(place, "prompts"), options, tokenizer)
