"""Encode preference pairs and labeled answers within a maximum length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aligner.data.encoding.chat import ChatEncoder, RenderedSample, encode_pairs
from aligner.data.encoding.truncation import (
    EncodedRows,
    RenderedRows,
    RowEncoder,
    count_refused,
    count_sample_findings,
    count_token_findings,
    drop_oldest_turns,
    render_rows,
)
from aligner.data.options import Overflow
from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import LabeledCompletion, Preference
from aligner.data.store.token_rows import LabelTokens, PreferenceTokens

SplitSample = tuple[RenderedSample, int]
"""A conversation in pieces, and the number of pieces of its prompt."""


@dataclass(frozen=True)
class PreferenceRowEncoder(RowEncoder[PreferenceTokens]):
    """Encoder of pairs; the length of a pair is that of its prompt with the longer answer."""

    chat: ChatEncoder
    over: Overflow

    def render(
        self, rows: Sequence[Preference]
    ) -> RenderedRows[Preference, tuple[SplitSample, SplitSample]]:
        sides = self.chat.pairs(
            [(row.prompt, side, row.tools) for row in rows for side in (row.chosen, row.rejected)]
        )
        return render_rows(
            rows, [_both(*both) for both in zip(sides[::2], sides[1::2], strict=True)]
        )

    def encode(
        self, made: RenderedRows[Preference, tuple[SplitSample, SplitSample]]
    ) -> list[PreferenceTokens | None]:
        sides = [side for _, both in made.rows for side in both]
        return encode_pairs([row for row, _ in made.rows], sides, self.chat)

    def take(
        self,
        made: RenderedRows[Preference, tuple[SplitSample, SplitSample]],
        encoded: list[PreferenceTokens | None],
        encoded_rows: EncodedRows[PreferenceTokens],
    ) -> None:
        count_refused(made, encoded_rows)
        both = list(zip(made.rows, encoded, strict=True))
        for (row, (first, _)), pair in both:
            if pair is None:
                what = "the template renders the prompt differently for each answer"
                encoded_rows.tally.drop(what, row.origin)
            else:
                count_sample_findings(encoded_rows, row.origin, first[0])
        for (row, _), pair in both:
            if pair is not None:
                self._fit(row, pair, encoded_rows)

    def _fit(
        self, row: Preference, pair: PreferenceTokens, encoded_rows: EncodedRows[PreferenceTokens]
    ) -> None:
        longest, short = encoded_rows.longest, pair
        if longest is not None and _length(pair) > longest:
            fit = self._shorter(row, pair, longest)
            if fit is None:
                encoded_rows.refuse(row.origin, _length(pair), self.over)
                return
            short = fit
            encoded_rows.count_truncated(row.origin, _length(pair) - _length(short))
        self._take(short, encoded_rows, truncated=short is not pair)

    def _shorter(
        self, row: Preference, pair: PreferenceTokens, longest: int
    ) -> PreferenceTokens | None:
        if self.over == "truncate" and len(pair.prompt_ids) < longest:
            room = longest - len(pair.prompt_ids)
            return replace(
                pair,
                chosen_ids=pair.chosen_ids[:room],
                rejected_ids=pair.rejected_ids[:room],
                chosen_trained=pair.chosen_trained[:room],
                rejected_trained=pair.rejected_trained[:room],
            )
        if self.over == "turns":
            for messages in drop_oldest_turns(row.prompt):
                made = self.encode(self.render([replace(row, prompt=messages)]))
                if made and made[0] is not None and _length(made[0]) <= longest:
                    return made[0]
        return None

    def _take(
        self,
        pair: PreferenceTokens,
        encoded_rows: EncodedRows[PreferenceTokens],
        *,
        truncated: bool,
    ) -> None:
        both = pair.chosen_ids + pair.rejected_ids
        count_token_findings(encoded_rows, pair.origin, pair.prompt_ids + both, self.chat)
        if pair.chosen_ids == pair.rejected_ids:
            what = (
                "chosen and rejected are the same after truncation"
                if truncated
                else ("chosen and rejected become the same tokens")
            )
            encoded_rows.tally.drop(what, pair.origin)
            return
        ends = (pair.chosen_ids, pair.rejected_ids)
        if not truncated and not all(ids[-1] in self.chat.stops for ids in ends):
            encoded_rows.tally.find("stop_untrained", pair.origin)
        if len(pair.chosen_ids) > len(pair.rejected_ids):
            encoded_rows.tally.find("chosen_longer", pair.origin)
        tokens = 2 * len(pair.prompt_ids) + len(both)
        trained = sum(pair.chosen_trained) + sum(pair.rejected_trained)
        encoded_rows.take(pair, length=_length(pair), tokens=tokens, trained=trained)


def _both(
    chosen: SplitSample | MalformedRowError, rejected: SplitSample | MalformedRowError
) -> tuple[SplitSample, SplitSample] | MalformedRowError:
    if isinstance(chosen, MalformedRowError):
        return chosen
    return rejected if isinstance(rejected, MalformedRowError) else (chosen, rejected)


def _length(pair: PreferenceTokens) -> int:
    return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))


@dataclass(frozen=True)
class LabelRowEncoder(RowEncoder[LabelTokens]):
    """Encoder of labeled answers."""

    chat: ChatEncoder
    over: Overflow

    def render(
        self, rows: Sequence[LabeledCompletion]
    ) -> RenderedRows[LabeledCompletion, SplitSample]:
        given = [(row.prompt, row.completion, row.tools) for row in rows]
        return render_rows(rows, self.chat.pairs(given))

    def encode(self, made: RenderedRows[LabeledCompletion, SplitSample]) -> list[LabelTokens]:
        cuts = [cut for _, cut in made.rows]
        prompts = self.chat.encode(
            [RenderedSample(sample.pieces[:count]) for sample, count in cuts]
        )
        answers = self.chat.encode(
            [RenderedSample(sample.pieces[count:]) for sample, count in cuts]
        )
        return [
            LabelTokens(
                prompt.input_ids, completion.input_ids, row.label, completion.trained, row.origin
            )
            for (row, _), prompt, completion in zip(made.rows, prompts, answers, strict=True)
        ]

    def take(
        self,
        made: RenderedRows[LabeledCompletion, SplitSample],
        encoded: list[LabelTokens],
        encoded_rows: EncodedRows[LabelTokens],
    ) -> None:
        count_refused(made, encoded_rows)
        for (row, (sample, _)), answer in zip(made.rows, encoded, strict=True):
            count_sample_findings(encoded_rows, row.origin, sample)
            self._take(row, answer, encoded_rows)

    def _take(
        self, row: LabeledCompletion, answer: LabelTokens, encoded_rows: EncodedRows[LabelTokens]
    ) -> None:
        longest = encoded_rows.longest
        whole = len(answer.prompt_ids) + len(answer.completion_ids)
        if longest is not None and whole > longest:
            short = self._shorter(row, answer, longest)
            if short is None:
                encoded_rows.refuse(row.origin, whole, self.over)
                return
            answer = short
            encoded_rows.count_truncated(
                row.origin, whole - len(answer.prompt_ids) - len(answer.completion_ids)
            )
        elif answer.completion_ids[-1] not in self.chat.stops:
            encoded_rows.tally.find("stop_untrained", row.origin)
        count_token_findings(
            encoded_rows, row.origin, answer.prompt_ids + answer.completion_ids, self.chat
        )
        tokens = len(answer.prompt_ids) + len(answer.completion_ids)
        trained = sum(answer.completion_trained)
        encoded_rows.take(answer, length=tokens, tokens=tokens, trained=trained)

    def _shorter(
        self, row: LabeledCompletion, answer: LabelTokens, longest: int
    ) -> LabelTokens | None:
        room = longest - len(answer.prompt_ids)
        if self.over == "truncate" and room > 0:
            return replace(
                answer,
                completion_ids=answer.completion_ids[:room],
                completion_trained=answer.completion_trained[:room],
            )
        if self.over == "turns":
            for messages in drop_oldest_turns(row.prompt):
                made = LabelRowEncoder(self.chat, "drop").fit(
                    [replace(row, prompt=messages)], EncodedRows(longest=longest)
                )
                if made.rows:
                    return made.rows[0]
        return None
