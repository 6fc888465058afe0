"""Show text as the trainer will get it."""

from __future__ import annotations

from collections.abc import Sequence

from aligner import PlanContext
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.preview import SHUFFLED, Reader
from aligner.train.preview_language import Some, Strip, alone, language_section, streamed
from aligner_pretrain.plan import fresh_tokenizer, prepare
from aligner_pretrain.stage import PretrainOptions


def preview(
    options: PretrainOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    tokenizer = fresh_tokenizer(options, context) if options.fresh else planned_tokenizer(context)
    data = prepare(options, context, tokenizer)
    documents = data.held_out if request.held_out else data.train
    strips: Sequence[Strip] = alone(documents)
    if options.stream:
        assert options.max_length is not None, "stream was checked to have a length"
        strips = Some(
            streamed(documents, options.max_length),
            request,
            size=options.per_device_train_batch_size,
        )
    grouped = (
        options.train_sampling_strategy == "group_by_length"
        and not options.stream
        and not request.held_out
    )
    return (
        language_section(
            strips,
            request,
            Reader(tokenizer),
            tokenizer,
            context=context,
            size=options.per_device_train_batch_size,
            notes=(SHUFFLED,) if grouped else (),
        ),
    )
