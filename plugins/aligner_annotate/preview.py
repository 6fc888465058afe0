"""Show prompts as the policy will get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PromptTokens
from aligner.models.padding import left_padded
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.preview import Laid, Reader, answer_begins, section
from aligner_annotate.options import WritingOptions
from aligner_annotate.paraphrase_stage import ParaphraseOptions
from aligner_annotate.prompts import prompts_of
from aligner_annotate.reword import Request, requests_of
from aligner_annotate.stage import AnnotateOptions


def preview(
    options: AnnotateOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    """What an annotate step asks."""
    tokenizer = planned_tokenizer(context)
    prompts = prompts_of(options, context, tokenizer).train
    return _asked(
        prompts, options, options.samples_per_prompt, tokenizer, context, request, "prompts"
    )


def paraphrased(
    options: ParaphraseOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    """What a paraphrase step asks."""
    tokenizer = planned_tokenizer(context)
    requests = requests_of(options, context, tokenizer).requests
    return _asked(requests, options, options.versions, tokenizer, context, request, "data")


def _asked(
    rows: Sequence[PromptTokens | Request],
    options: WritingOptions,
    samples: int,
    tokenizer: Any,
    context: PlanContext,
    request: PreviewRequest,
    option: str,
) -> tuple[PreviewSection, ...]:
    if request.held_out:
        return ()
    reader = Reader(tokenizer)
    begins = answer_begins(reader, stop_tokens(tokenizer), options.max_new_tokens)

    def lay(part: Sequence[PromptTokens | Request]) -> list[Laid]:
        tokens_PT, mask_PT = left_padded([one.input_ids for one in part])
        return [
            Laid(sequences=(reader.lane(ids, [0] * len(ids), mask, notes=(begins,)),))
            for ids, mask in zip(tokens_PT.tolist(), mask_PT.tolist(), strict=True)
        ]

    times = "once" if samples == 1 else f"{samples} times"
    return (
        section(
            rows,
            request,
            lay,
            context=context,
            size=max(options.batch_size // samples, 1),
            option=option,
            purpose="to answer",
            row_word="prompt",
            notes=(f"each is answered {times}, in batches of prompts of like length",),
        ),
    )
