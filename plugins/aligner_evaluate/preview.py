"""Preview of the data of an evaluate step, in the batches that its models receive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aligner import PlanContext
from aligner.kit.declare import PreviewRequest, PreviewSection
from aligner.kit.work import (
    BatchReader,
    PreferenceTokens,
    RowSequences,
    ScoredRow,
    SequenceTokens,
    pad_id,
    planned_tokenizer,
    preview_section,
    prompt_layout,
    shared_prompt_length,
    stop_tokens,
)
from aligner_evaluate.datasets import READS, read_rows
from aligner_evaluate.options import EvaluateOptions
from aligner_evaluate.scores import pad_for_reward

Layout = Callable[[Sequence[Any]], Sequence[RowSequences]]


def preview(
    options: EvaluateOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    """Show the requested rows of each option that names data."""
    if request.held_out:
        return ()  # all rows are for evaluation: none is held out
    tokenizer = planned_tokenizer(context)
    stops = stop_tokens(tokenizer)
    new = options.max_new_tokens
    layouts: dict[str, tuple[Layout, str]] = {
        "conversations": (
            _loss_layout(BatchReader(tokenizer, stops=stops, trained_label="counted")),
            "counted",
        ),
        "text": (_loss_layout(BatchReader(tokenizer, trained_label="counted")), "counted"),
        "pairs": (
            _pair_layout(BatchReader(tokenizer, trained_label="scored"), pad_id(tokenizer)),
            "scored",
        ),
        "prompts": (prompt_layout(BatchReader(tokenizer), stops, new), "trained"),
    }
    sections = []
    for option in READS:
        data = read_rows(options, option, context, tokenizer)
        if data is not None:
            layout, word = layouts[option]
            sections.append(
                preview_section(
                    data.train,
                    request,
                    layout,
                    context=context,
                    size=options.per_device_eval_batch_size,
                    option=option,
                    trained_label=word,
                    purpose="to measure on",
                    notes=("batches contain rows of similar length, to reduce padding",),
                )
            )
    return tuple(sections)


def _loss_layout(reader: BatchReader) -> Layout:
    """Return the layout of rows whose log-probabilities are measured."""

    def lay(rows: Sequence[SequenceTokens]) -> list[RowSequences]:
        scored = [ScoredRow(tuple(row.input_ids), tuple(row.trained)) for row in rows]
        tokens_BT, mask_BT = ScoredRow.pad(scored)
        columns = range(tokens_BT.shape[1])
        return [
            RowSequences(
                sequences=(reader.sequence(ids, mask, [c < len(row.tokens) for c in columns]),)
            )
            for row, ids, mask in zip(scored, tokens_BT.tolist(), mask_BT.tolist(), strict=True)
        ]

    return lay


def _pair_layout(reader: BatchReader, pad: int) -> Layout:
    """Return the layout of pairs whose sides the reward model scores in separate batches."""

    def lay(pairs: Sequence[PreferenceTokens]) -> list[RowSequences]:
        sides = []
        for name in ("chosen", "rejected"):
            rows = [[*pair.prompt_ids, *getattr(pair, f"{name}_ids")] for pair in pairs]
            tokens_BT, mask_BT = pad_for_reward(rows, pad)
            sides.append(
                [
                    reader.scored_sequence(ids, mask, pad=pad, name=name)
                    for ids, mask in zip(tokens_BT.tolist(), mask_BT.tolist(), strict=True)
                ]
            )
        return [
            RowSequences(
                sequences=both, prompt_length=shared_prompt_length(both, most=len(pair.prompt_ids))
            )
            for pair, both in zip(pairs, zip(*sides, strict=True), strict=True)
        ]

    return lay
