"""Show pairs as the trainer will get them, with the token at which each is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aligner import PlanContext
from aligner.data.encoding.prepare import prepare_preferences
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PreferenceTokens
from aligner.models.padding import pad_id
from aligner.preview import PreviewRequest, PreviewSection, TokenSequence
from aligner.train.preview import SHUFFLED, Laid, Reader, prompt_shared, section
from aligner_reward.batch import collator, rows
from aligner_reward.plan import seen_from
from aligner_reward.stage import RewardOptions


def preview(
    options: RewardOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    tokenizer = planned_tokenizer(seen_from(options, context))
    data = prepare_preferences(context, options, tokenizer)
    reader, collate = Reader(tokenizer, word="scored"), collator(tokenizer)

    def lay(pairs: Sequence[PreferenceTokens]) -> list[Laid]:
        batch = collate(list(rows(pairs, options)))
        names = ["chosen"] * len(pairs) + ["rejected"] * len(pairs)
        tensors = (batch["input_ids"].tolist(), batch["attention_mask"].tolist())
        sequences = [
            reader.scored_lane(ids, present, pad=pad_id(tokenizer), name=name)
            for name, ids, present in zip(names, *tensors, strict=True)
        ]
        margins = batch["margin"].tolist() if "margin" in batch else [None] * len(pairs)
        return [
            Laid(
                sequences=both,
                shared=prompt_shared(both, most=len(pair.prompt_ids)),
                facts=() if margin is None else (f"margin {margin:g}",),
            )
            for pair, margin, both in zip(pairs, margins, _sides(sequences), strict=True)
        ]

    return (
        section(
            data.held_out if request.held_out else data.train,
            request,
            lay,
            context=context,
            size=options.per_device_train_batch_size,
            word="scored",
            notes=(SHUFFLED,)
            if options.train_sampling_strategy == "group_by_length" and not request.held_out
            else (),
        ),
    )


def _sides(sequences: Sequence[TokenSequence]) -> Iterator[tuple[TokenSequence, TokenSequence]]:
    """Chosen with rejected: all chosen come first in a batch."""
    yield from zip(sequences[: len(sequences) // 2], sequences[len(sequences) // 2 :], strict=True)
