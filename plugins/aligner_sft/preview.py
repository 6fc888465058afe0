"""Show conversations as the trainer will get them."""

from __future__ import annotations

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import prepare_conversations
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.preview import SHUFFLED, Reader
from aligner.train.preview_language import Some, alone, end_to_end, language_section
from aligner_sft.stage import SFTOptions


def preview(
    options: SFTOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    tokenizer = planned_tokenizer(context)
    data = prepare_conversations(context, options, tokenizer, train_on=options.train_on)
    reader = Reader(tokenizer, stops=stop_tokens(tokenizer))
    rows = data.held_out if request.held_out else data.train
    # What is measured on is never packed, though its batches are joined as well.
    bins = options.packing and not request.held_out and options.max_length is not None
    grouped = (
        options.train_sampling_strategy == "group_by_length"
        and not options.packing
        and not request.held_out
    )
    return (
        language_section(
            Some(
                end_to_end(rows, options.max_length or 0),
                request,
                size=options.per_device_train_batch_size,
            )
            if bins
            else alone(rows),
            request,
            reader,
            tokenizer,
            context=context,
            size=options.per_device_train_batch_size,
            joined=options.packing,
            bins=bins,
            notes=(SHUFFLED,) if grouped else (),
        ),
    )
