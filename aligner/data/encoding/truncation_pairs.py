"""Encode preference pairs and labelled answers and fit them into the longest length."""

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
"""A conversation in pieces, and how many of them are the prompt's."""


@dataclass(frozen=True)
class PreferenceEncoder(RowEncoder[PreferenceTokens]):
    """Pairs; the length of one is that of its prompt with the longer answer."""

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
        fitted: EncodedRows[PreferenceTokens],
    ) -> None:
        count_refused(made, fitted)
        both = list(zip(made.rows, encoded, strict=True))
        for (row, (first, _)), pair in both:
            if pair is None:
                what = "the template shows the prompt otherwise before either answer"
                fitted.tally.drop(what, row.origin)
            else:
                count_sample_findings(fitted, row.origin, first[0])
        for (row, _), pair in both:
            if pair is not None:
                self._fit(row, pair, fitted)

    def _fit(
        self, row: Preference, pair: PreferenceTokens, fitted: EncodedRows[PreferenceTokens]
    ) -> None:
        longest, short = fitted.longest, pair
        if longest is not None and _length(pair) > longest:
            fit = self._shorter(row, pair, longest)
            if fit is None:
                fitted.refuse(row.origin, _length(pair), self.over)
                return
            short = fit
            fitted.cut(row.origin, _length(pair) - _length(short))
        self._take(short, fitted, cut=short is not pair)

    def _shorter(
        self, row: Preference, pair: PreferenceTokens, longest: int
    ) -> PreferenceTokens | None:
        if self.over == "cut" and len(pair.prompt_ids) < longest:
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
        self, pair: PreferenceTokens, fitted: EncodedRows[PreferenceTokens], *, cut: bool
    ) -> None:
        both = pair.chosen_ids + pair.rejected_ids
        count_token_findings(fitted, pair.origin, pair.prompt_ids + both, self.chat)
        if pair.chosen_ids == pair.rejected_ids:
            what = (
                "chosen and rejected are the same after cutting"
                if cut
                else ("chosen and rejected become the same tokens")
            )
            fitted.tally.drop(what, pair.origin)
            return
        ends = (pair.chosen_ids, pair.rejected_ids)
        if not cut and not all(ids[-1] in self.chat.stops for ids in ends):
            fitted.tally.find("stop_untrained", pair.origin)
        if len(pair.chosen_ids) > len(pair.rejected_ids):
            fitted.tally.find("chosen_longer", pair.origin)
        tokens = 2 * len(pair.prompt_ids) + len(both)
        trained = sum(pair.chosen_trained) + sum(pair.rejected_trained)
        fitted.take(pair, length=_length(pair), tokens=tokens, trained=trained)


def _both(
    chosen: SplitSample | MalformedRowError, rejected: SplitSample | MalformedRowError
) -> tuple[SplitSample, SplitSample] | MalformedRowError:
    if isinstance(chosen, MalformedRowError):
        return chosen
    return rejected if isinstance(rejected, MalformedRowError) else (chosen, rejected)


def _length(pair: PreferenceTokens) -> int:
    return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))


@dataclass(frozen=True)
class LabelEncoder(RowEncoder[LabelTokens]):
    """Labelled answers, as conversations whose last part is the answer."""

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
            LabelTokens(asked.input_ids, said.input_ids, row.label, said.trained, row.origin)
            for (row, _), asked, said in zip(made.rows, prompts, answers, strict=True)
        ]

    def take(
        self,
        made: RenderedRows[LabeledCompletion, SplitSample],
        encoded: list[LabelTokens],
        fitted: EncodedRows[LabelTokens],
    ) -> None:
        count_refused(made, fitted)
        for (row, (sample, _)), one in zip(made.rows, encoded, strict=True):
            count_sample_findings(fitted, row.origin, sample)
            self._take(row, one, fitted)

    def _take(
        self, row: LabeledCompletion, one: LabelTokens, fitted: EncodedRows[LabelTokens]
    ) -> None:
        longest = fitted.longest
        whole = len(one.prompt_ids) + len(one.completion_ids)
        if longest is not None and whole > longest:
            short = self._shorter(row, one, longest)
            if short is None:
                fitted.refuse(row.origin, whole, self.over)
                return
            one = short
            fitted.cut(row.origin, whole - len(one.prompt_ids) - len(one.completion_ids))
        elif one.completion_ids[-1] not in self.chat.stops:
            fitted.tally.find("stop_untrained", row.origin)
        count_token_findings(fitted, row.origin, one.prompt_ids + one.completion_ids, self.chat)
        tokens = len(one.prompt_ids) + len(one.completion_ids)
        fitted.take(one, length=tokens, tokens=tokens, trained=sum(one.completion_trained))

    def _shorter(
        self, row: LabeledCompletion, one: LabelTokens, longest: int
    ) -> LabelTokens | None:
        room = longest - len(one.prompt_ids)
        if self.over == "cut" and room > 0:
            return replace(
                one,
                completion_ids=one.completion_ids[:room],
                completion_trained=one.completion_trained[:room],
            )
        if self.over == "turns":
            for messages in drop_oldest_turns(row.prompt):
                made = LabelEncoder(self.chat, "drop").fit(
                    [replace(row, prompt=messages)], EncodedRows(longest=longest)
                )
                if made.rows:
                    return made.rows[0]
        return None
