"""Previews of annotate and paraphrase steps: prompts as the policy receives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner import PlanContext
from aligner.kit.declare import PreviewRequest, PreviewSection
from aligner.kit.work import (
    BatchReader,
    planned_tokenizer,
    preview_section,
    prompt_layout,
    stop_tokens,
)
from aligner_annotate.generation import read_prompts
from aligner_annotate.options import AnnotateOptions, GenerationOptions, ParaphraseOptions
from aligner_annotate.paraphrase_rows import read_requests


def preview_annotate(
    options: AnnotateOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    """Show the prompts of an annotate step."""
    tokenizer = planned_tokenizer(context)
    prompts = read_prompts(options, context, tokenizer).train
    samples = options.samples_per_prompt
    return _preview(prompts, options, samples, tokenizer, context, request, "prompts")


def preview_paraphrase(
    options: ParaphraseOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    """Show the requests of a paraphrase step."""
    tokenizer = planned_tokenizer(context)
    requests = read_requests(options, context, tokenizer).requests
    return _preview(requests, options, options.versions, tokenizer, context, request, "data")


def _preview(
    prompts: Sequence[Any],
    options: GenerationOptions,
    samples: int,
    tokenizer: Any,
    context: PlanContext,
    request: PreviewRequest,
    option: str,
) -> tuple[PreviewSection, ...]:
    if request.held_out:
        return ()
    times = "once" if samples == 1 else f"{samples} times"
    layout = prompt_layout(BatchReader(tokenizer), stop_tokens(tokenizer), options.max_new_tokens)
    return (
        preview_section(
            prompts,
            request,
            layout,
            context=context,
            size=max(options.batch_size // samples, 1),
            option=option,
            purpose="to complete",
            row_word="prompt",
            notes=(f"each is completed {times}, in batches of prompts of similar length",),
        ),
    )
