"""Show conversations as the trainer will get them."""

from __future__ import annotations

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.prepare import prepare_conversations
from aligner.data.tokenizers import planned_tokenizer
from aligner.preview import Asked, Section
from aligner.train.preview import SHUFFLED, Reader
from aligner.train.preview_language import Some, alone, end_to_end, language_section
from aligner_sft.stage import SFTOptions


def preview(config: SFTOptions, look: Look, asked: Asked) -> tuple[Section, ...]:
    tokenizer = planned_tokenizer(look)
    data = prepare_conversations(look, config, tokenizer, train_on=config.train_on)
    reader = Reader(tokenizer, stops=stop_tokens(tokenizer))
    rows = data.held_out if asked.held_out else data.train
    # What is measured on is never packed, though its batches are joined as well.
    bins = config.packing and not asked.held_out and config.max_length is not None
    grouped = config.group_by_length and not config.packing and not asked.held_out
    return (
        language_section(
            Some(end_to_end(rows, config.max_length or 0), asked, size=config.batch_size)
            if bins
            else alone(rows),
            asked,
            reader,
            tokenizer,
            look=look,
            size=config.batch_size,
            joined=config.packing,
            bins=bins,
            notes=(SHUFFLED,) if grouped else (),
        ),
    )
