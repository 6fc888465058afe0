"""Show pairs as the trainer will get them, with the token at which each is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aligner import Look
from aligner.data.chat import PreferenceTokens
from aligner.data.prepare import prepare_preferences
from aligner.data.tokenizers import planned_tokenizer
from aligner.models.padding import pad_id
from aligner.preview import Asked, Lane, Section
from aligner.train.preview import SHUFFLED, Laid, Reader, prompt_shared, section
from aligner_reward.batch import collator, rows
from aligner_reward.plan import seen_from
from aligner_reward.stage import RewardOptions


def preview(config: RewardOptions, look: Look, asked: Asked) -> tuple[Section, ...]:
    tokenizer = planned_tokenizer(seen_from(config, look))
    data = prepare_preferences(look, config, tokenizer)
    reader, collate = Reader(tokenizer, word="scored"), collator(tokenizer)

    def lay(pairs: Sequence[PreferenceTokens]) -> list[Laid]:
        batch = collate(list(rows(pairs, config)))
        names = ["chosen"] * len(pairs) + ["rejected"] * len(pairs)
        tensors = (batch["input_ids"].tolist(), batch["attention_mask"].tolist())
        lanes = [
            reader.scored_lane(ids, present, pad=pad_id(tokenizer), name=name)
            for name, ids, present in zip(names, *tensors, strict=True)
        ]
        margins = batch["margin"].tolist() if "margin" in batch else [None] * len(pairs)
        return [
            Laid(
                lanes=both,
                shared=prompt_shared(both, most=len(pair.prompt_ids)),
                facts=() if margin is None else (f"margin {margin:g}",),
            )
            for pair, margin, both in zip(pairs, margins, _sides(lanes), strict=True)
        ]

    return (
        section(
            data.held_out if asked.held_out else data.train,
            asked,
            lay,
            look=look,
            size=config.batch_size,
            word="scored",
            notes=(SHUFFLED,) if config.group_by_length and not asked.held_out else (),
        ),
    )


def _sides(lanes: Sequence[Lane]) -> Iterator[tuple[Lane, Lane]]:
    """Chosen with rejected: all chosen come first in a batch."""
    yield from zip(lanes[: len(lanes) // 2], lanes[len(lanes) // 2 :], strict=True)
