"""Show pairs as the trainer will get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.prepare import prepare_preferences
from aligner.data.tokenizers import planned_tokenizer
from aligner.preview import Asked, Section
from aligner.train.preview import Laid, Reader, prompt_shared, section
from aligner_brevity.stage import RDPOOptions
from aligner_brevity.train import SIDES, collate, rows_of


def preview(config: RDPOOptions, look: Look, asked: Asked) -> Sequence[Section]:
    tokenizer = planned_tokenizer(look)
    data = prepare_preferences(look, config, tokenizer)
    reader = Reader(tokenizer, stops=stop_tokens(tokenizer))

    def lay(pairs: Sequence[Any]) -> list[Laid]:
        batch = collate(rows_of(pairs))
        columns = (batch[name].tolist() for name in ("input_ids", "answer", "attention_mask"))
        lanes = [
            reader.lane(*of_one, name=SIDES[number % 2])
            for number, of_one in enumerate(zip(*columns, strict=True))
        ]
        both = [(lanes[start], lanes[start + 1]) for start in range(0, len(lanes), 2)]
        return [Laid(lanes=sides, shared=prompt_shared(sides)) for sides in both]

    rows = data.held_out if asked.held_out else data.train
    return [section(rows, asked, lay, look=look, size=config.batch_size)]
