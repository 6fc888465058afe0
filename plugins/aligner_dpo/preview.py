"""Show pairs as the trainer will get them."""

from __future__ import annotations

from collections.abc import Sequence

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import prepare_preferences
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PreferenceTokens
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.preview import SHUFFLED, Laid, Reader, after_first, prompt_shared, section
from aligner_dpo.batch import collator, row
from aligner_dpo.stage import DPOOptions


def preview(
    options: DPOOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    tokenizer = planned_tokenizer(context)
    data = prepare_preferences(context, options, tokenizer)
    reader, collate = Reader(tokenizer, stops=stop_tokens(tokenizer)), collator(tokenizer)

    def lay(pairs: Sequence[PreferenceTokens]) -> list[Laid]:
        batch = collate([row(pair) for pair in pairs])
        names = ["chosen"] * len(pairs) + ["rejected"] * len(pairs)
        sequences = [
            reader.lane(ids, after_first(answer), present, name=name)
            for name, ids, answer, present in zip(
                names,
                batch["input_ids"].tolist(),
                batch["completion_mask"].tolist(),
                batch["attention_mask"].tolist(),
                strict=True,
            )
        ]
        both = zip(sequences[: len(pairs)], sequences[len(pairs) :], strict=True)
        return [Laid(sequences=pair, shared=prompt_shared(pair)) for pair in both]

    return (
        section(
            data.held_out if request.held_out else data.train,
            request,
            lay,
            context=context,
            size=options.per_device_train_batch_size,
            notes=(SHUFFLED,)
            if options.train_sampling_strategy == "group_by_length" and not request.held_out
            else (),
        ),
    )
