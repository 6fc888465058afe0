"""Preview of an online step: prompts as the policy receives them, and the rows mixed in."""

from __future__ import annotations

from collections.abc import Sequence

from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.prepare import prepare_prompts
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import SequenceTokens
from aligner.preview import PreviewRequest, PreviewSection
from aligner.rl.options import PretrainingMix, RLOptions
from aligner.rl.pretraining import mix_batch, prepare_mix
from aligner.stage import PlanContext
from aligner.train.batch_reader import BatchReader
from aligner.train.preview import RowSequences, preview_section, prompt_layout


def preview_online(
    options: RLOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    """Show prompts, and the rows of next-token prediction that are mixed in."""
    prompts = _prompts(options, context, request)
    if options.pretraining is None or request.held_out:
        return (prompts,)
    return (prompts, _mixed(options.pretraining, context, request))


def _prompts(options: RLOptions, context: PlanContext, request: PreviewRequest) -> PreviewSection:
    tokenizer = planned_tokenizer(context)
    data = prepare_prompts(context, options, tokenizer)
    lay = prompt_layout(BatchReader(tokenizer), stop_tokens(tokenizer), options.max_new_tokens)
    samples = 1 if request.held_out else options.num_generations
    notes = (
        f"each is answered {samples} times, in batches of prompts of similar length; the responses "
        "are trained",
    )
    return preview_section(
        data.held_out if request.held_out else data.train,
        request,
        lay,
        context=context,
        size=max(options.rollout_batch_size // samples, 1),
        row_word="prompt",
        notes=() if request.held_out else notes,
    )


def _mixed(mix: PretrainingMix, context: PlanContext, request: PreviewRequest) -> PreviewSection:
    tokenizer = planned_tokenizer(context)
    reader = BatchReader(tokenizer, stops=stop_tokens(tokenizer))
    data = prepare_mix(mix, context, tokenizer)
    notes = ("text, trained completely",) if mix.rows == "texts" else ()

    def lay(rows: Sequence[SequenceTokens]) -> list[RowSequences]:
        tokens_BT, trained_BT = mix_batch(rows)
        sequences = zip(rows, tokens_BT.tolist(), trained_BT.tolist(), strict=True)
        return [
            RowSequences(
                sequences=(reader.sequence(ids, trained, _present(row, ids), notes=notes),)
            )
            for row, ids, trained in sequences
        ]

    return preview_section(
        data.train,
        request if not request.required else PreviewRequest(),
        lay,
        context=context,
        size=mix.batch_size,
        option="pretraining.data",
        notes=(f"mixed into every optimizer step, weight {mix.weight:g}, in an order of its own",),
    )


def _present(row: SequenceTokens, ids: Sequence[int]) -> list[bool]:
    return [place < len(row.input_ids) for place in range(len(ids))]
