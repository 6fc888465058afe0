"""Show pairs as the trainer will get them."""

from __future__ import annotations

from collections.abc import Sequence

from aligner import Look
from aligner.data.chat import PreferenceTokens, stop_tokens
from aligner.data.prepare import prepare_preferences
from aligner.data.tokenizers import planned_tokenizer
from aligner.preview import Asked, Section
from aligner.train.preview import SHUFFLED, Laid, Reader, after_first, prompt_shared, section
from aligner_dpo.batch import collator, row
from aligner_dpo.stage import DPOOptions


def preview(config: DPOOptions, look: Look, asked: Asked) -> tuple[Section, ...]:
    tokenizer = planned_tokenizer(look)
    data = prepare_preferences(look, config, tokenizer)
    reader, collate = Reader(tokenizer, stops=stop_tokens(tokenizer)), collator(tokenizer)

    def lay(pairs: Sequence[PreferenceTokens]) -> list[Laid]:
        batch = collate([row(pair) for pair in pairs])
        names = ["chosen"] * len(pairs) + ["rejected"] * len(pairs)
        lanes = [
            reader.lane(ids, after_first(answer), present, name=name)
            for name, ids, answer, present in zip(
                names,
                batch["input_ids"].tolist(),
                batch["completion_mask"].tolist(),
                batch["attention_mask"].tolist(),
                strict=True,
            )
        ]
        both = zip(lanes[: len(pairs)], lanes[len(pairs) :], strict=True)
        return [Laid(lanes=pair, shared=prompt_shared(pair)) for pair in both]

    return (
        section(
            data.held_out if asked.held_out else data.train,
            asked,
            lay,
            look=look,
            size=config.batch_size,
            notes=(SHUFFLED,) if config.group_by_length and not asked.held_out else (),
        ),
    )
