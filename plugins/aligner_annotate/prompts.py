"""The prompts of an annotate step, as the policy's tokens."""

from __future__ import annotations

from typing import Any

from aligner.data.context import DataContext, OptionContext
from aligner.data.encoding.prepare import PreparedData, prepare_prompts
from aligner.data.options import DataOptions
from aligner.data.store.token_rows import PromptTokens
from aligner_annotate.stage import AnnotateOptions


def prompts_of(
    step_options: AnnotateOptions, context: DataContext, tokenizer: Any
) -> PreparedData[PromptTokens]:
    """Read and encode the prompts.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
        ModelError: the tokenizer has no usable chat template.
    """
    options = DataOptions(
        data=step_options.prompts, max_length=step_options.max_length, limits=step_options.limits
    )
    return prepare_prompts(OptionContext(context, "prompts"), options, tokenizer)
