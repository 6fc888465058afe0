"""Show pairs as the trainer will get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import prepare_preferences
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.preview import Laid, Reader, prompt_shared, section
from aligner_brevity.stage import RDPOOptions
from aligner_brevity.train import SIDES, collate, rows_of


def preview(
    options: RDPOOptions, context: PlanContext, request: PreviewRequest
) -> Sequence[PreviewSection]:
    tokenizer = planned_tokenizer(context)
    data = prepare_preferences(context, options, tokenizer)
    reader = Reader(tokenizer, stops=stop_tokens(tokenizer))

    def lay(pairs: Sequence[Any]) -> list[Laid]:
        batch = collate(rows_of(pairs))
        columns = (batch[name].tolist() for name in ("input_ids", "answer", "attention_mask"))
        sequences = [
            reader.lane(*of_one, name=SIDES[number % 2])
            for number, of_one in enumerate(zip(*columns, strict=True))
        ]
        both = [(sequences[start], sequences[start + 1]) for start in range(0, len(sequences), 2)]
        return [Laid(sequences=sides, shared=prompt_shared(sides)) for sides in both]

    rows = data.held_out if request.held_out else data.train
    return [section(rows, request, lay, context=context, size=options.per_device_train_batch_size)]
