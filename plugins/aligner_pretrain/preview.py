"""Show text as the trainer will get it."""

from __future__ import annotations

from collections.abc import Sequence

from aligner import Look
from aligner.data.tokenizers import planned_tokenizer
from aligner.preview import Asked, Section
from aligner.train.preview import SHUFFLED, Reader
from aligner.train.preview_language import Some, Strip, alone, language_section, streamed
from aligner_pretrain.plan import fresh_tokenizer, prepare
from aligner_pretrain.stage import PretrainOptions


def preview(config: PretrainOptions, look: Look, asked: Asked) -> tuple[Section, ...]:
    tokenizer = fresh_tokenizer(config, look) if config.fresh else planned_tokenizer(look)
    data = prepare(config, look, tokenizer)
    documents = data.held_out if asked.held_out else data.train
    strips: Sequence[Strip] = alone(documents)
    if config.stream:
        assert config.max_length is not None, "stream was checked to have a length"
        strips = Some(streamed(documents, config.max_length), asked, size=config.batch_size)
    grouped = config.group_by_length and not config.stream and not asked.held_out
    return (
        language_section(
            strips,
            asked,
            Reader(tokenizer),
            tokenizer,
            look=look,
            size=config.batch_size,
            notes=(SHUFFLED,) if grouped else (),
        ),
    )
