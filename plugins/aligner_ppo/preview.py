"""Show prompts as the policy will get them, and the text that is mixed into learning."""

from __future__ import annotations

from collections.abc import Sequence

from aligner import PlanContext
from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import prepare_prompts
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PromptTokens, SequenceTokens
from aligner.models.padding import left_padded
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.preview import Laid, Reader, answer_begins, section
from aligner_ppo.data import mixed_batch, mixed_in
from aligner_ppo.options import PPOOptions, PretrainingMix


def preview(
    options: PPOOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    tokenizer = planned_tokenizer(context)
    data = prepare_prompts(context, options, tokenizer)
    stops = stop_tokens(tokenizer)
    reader = Reader(tokenizer)
    begins = answer_begins(reader, stops, options.max_new_tokens)

    def lay(prompts: Sequence[PromptTokens]) -> list[Laid]:
        tokens_PT, mask_PT = left_padded([prompt.input_ids for prompt in prompts])
        return [
            Laid(sequences=(reader.lane(ids, [False] * len(ids), mask, notes=(begins,)),))
            for ids, mask in zip(tokens_PT.tolist(), mask_PT.tolist(), strict=True)
        ]

    samples = 1 if request.held_out else options.samples_per_prompt
    prompts = section(
        data.held_out if request.held_out else data.train,
        request,
        lay,
        context=context,
        size=max(options.rollout_batch_size // samples, 1),
        row_word="prompt",
        notes=(
            f"each is answered {samples} times, in batches of prompts of like length; what is "
            "trained is what the policy will answer",
        )
        if not request.held_out
        else (),
    )
    if options.pretraining is None or request.held_out:
        return (prompts,)
    return (prompts, _mixed(options.pretraining, context, request, Reader(tokenizer, stops=stops)))


def _mixed(
    mix: PretrainingMix, context: PlanContext, request: PreviewRequest, reader: Reader
) -> PreviewSection:
    """The rows whose next tokens are learnt beside the reward."""
    data = mixed_in(mix, context, planned_tokenizer(context))
    texts = mix.rows == "texts"

    def lay(rows: Sequence[SequenceTokens]) -> list[Laid]:
        tokens_BT, trained_BT = mixed_batch(rows)
        return [
            Laid(
                sequences=(
                    reader.lane(
                        ids,
                        trained,
                        [place < len(row.input_ids) for place in range(len(ids))],
                        notes=("text, learnt whole",) if texts else (),
                    ),
                )
            )
            for row, ids, trained in zip(rows, tokens_BT.tolist(), trained_BT.tolist(), strict=True)
        ]

    return section(
        data.train,
        request if not request.by_name else PreviewRequest(),
        lay,
        context=context,
        size=mix.batch_size,
        option="pretraining.data",
        notes=(f"mixed into every optimizer step, weight {mix.weight:g}, in an order of its own",),
    )
