"""Show what an evaluate step measures on, as its models will get it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aligner.data.encoding.chat import stop_tokens
from aligner.data.encoding.tokenizers import planned_tokenizer
from aligner.data.store.token_rows import PreferenceTokens, PromptTokens, SequenceTokens
from aligner.models.logps import ScoredRow, pad_scored_rows
from aligner.models.padding import left_padded, pad_id
from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import PlanContext
from aligner.train.preview import Laid, Reader, answer_begins, prompt_shared, section
from aligner_evaluate.material import KINDS, prepared, prompts
from aligner_evaluate.scores import scored_batch
from aligner_evaluate.stage import EvaluateOptions

Lay = Callable[[Sequence[Any]], Sequence[Laid]]


def preview(
    options: EvaluateOptions, context: PlanContext, request: PreviewRequest
) -> tuple[PreviewSection, ...]:
    if request.held_out:
        return ()  # all of it is measured on, and nothing is held out from that
    tokenizer = planned_tokenizer(context)
    stops = stop_tokens(tokenizer)
    counted = Reader(tokenizer, stops=stops, word="counted")
    lays: dict[str, tuple[Lay, str]] = {
        "conversations": (_likelihood(counted), "counted"),
        "text": (_likelihood(Reader(tokenizer, word="counted")), "counted"),
        "pairs": (_scores(Reader(tokenizer, word="scored"), pad_id(tokenizer)), "scored"),
        "prompts": (_answers(Reader(tokenizer), stops, options.max_new_tokens), "trained"),
    }
    sections = []
    for kind in (*KINDS, "prompts"):
        data = _rows(options, kind, context, tokenizer)
        if data is not None:
            lay, word = lays[kind]
            sections.append(
                section(
                    data,
                    request,
                    lay,
                    context=context,
                    size=options.per_device_eval_batch_size,
                    option=kind,
                    word=word,
                    purpose="to measure on",
                    notes=("batches are made of rows of like length, so they hold less padding",),
                )
            )
    return tuple(sections)


def _rows(
    options: EvaluateOptions, kind: str, context: PlanContext, tokenizer: Any
) -> Sequence[Any] | None:
    if kind == "prompts":
        found = prompts(options, context, tokenizer)
        return found[0].train if found is not None else None
    data = prepared(options, kind, context, tokenizer)
    return data.train if data is not None else None


def _likelihood(reader: Reader) -> Lay:
    """Rows of which some tokens' log-probabilities are looked at."""

    def lay(rows: Sequence[SequenceTokens]) -> list[Laid]:
        marked = [ScoredRow(tuple(row.input_ids), tuple(row.trained)) for row in rows]
        tokens_BT, counted_BT = pad_scored_rows(marked)
        width = tokens_BT.shape[1]
        return [
            Laid(
                sequences=(reader.lane(ids, counted, [p < len(row.tokens) for p in range(width)]),)
            )
            for row, ids, counted in zip(
                marked, tokens_BT.tolist(), counted_BT.tolist(), strict=True
            )
        ]

    return lay


def _scores(reader: Reader, pad: int) -> Lay:
    """Pairs whose two sides the reward model scores, each in batches of its own."""

    def lay(pairs: Sequence[PreferenceTokens]) -> list[Laid]:
        sides = []
        for name in ("chosen", "rejected"):
            rows = [[*pair.prompt_ids, *getattr(pair, f"{name}_ids")] for pair in pairs]
            tokens_BT, mask_BT = scored_batch(rows, pad)
            sides.append(
                [
                    reader.scored_lane(ids, present, pad=pad, name=name)
                    for ids, present in zip(tokens_BT.tolist(), mask_BT.tolist(), strict=True)
                ]
            )
        return [
            Laid(sequences=both, shared=prompt_shared(both, most=len(pair.prompt_ids)))
            for pair, both in zip(pairs, zip(*sides, strict=True), strict=True)
        ]

    return lay


def _answers(reader: Reader, stops: Sequence[int], longest: int) -> Lay:
    """Prompts that the models answer."""
    begins = answer_begins(reader, stops, longest)

    def lay(rows: Sequence[PromptTokens]) -> list[Laid]:
        tokens_PT, mask_PT = left_padded([row.input_ids for row in rows])
        return [
            Laid(sequences=(reader.lane(ids, [0] * len(ids), mask, notes=(begins,)),))
            for ids, mask in zip(tokens_PT.tolist(), mask_PT.tolist(), strict=True)
        ]

    return lay
