"""Encode texts, conversations and prompts and fit them into the longest length, counting what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aligner.data.encoding.chat import ChatEncoder, RenderedSample, encode_texts
from aligner.data.encoding.pieces import TextPieceEncoder
from aligner.data.encoding.truncation import (
    EncodedRows,
    RenderedRows,
    RowEncoder,
    count_refused,
    count_sample_findings,
    count_token_findings,
    drop_oldest_turns,
    render_or_none,
    render_rows,
)
from aligner.data.options import Overflow, TrainOn
from aligner.data.rows import Conversation, Messages, Prompt, Text
from aligner.data.store.token_rows import PromptTokens, SequenceTokens


@dataclass(frozen=True)
class TextEncoder(RowEncoder[SequenceTokens]):
    """Documents; a longer one becomes several rows, or is cut, dropped or refused."""

    encoder: TextPieceEncoder
    over: Overflow

    def render(self, rows: Sequence[Text]) -> RenderedRows[Text, None]:
        return RenderedRows([(row, None) for row in rows], [])

    def encode(self, made: RenderedRows[Text, None]) -> list[list[int]]:
        return encode_texts([row for row, _ in made.rows], self.encoder)

    def take(
        self,
        made: RenderedRows[Text, None],
        encoded: list[list[int]],
        fitted: EncodedRows[SequenceTokens],
    ) -> None:
        for (row, _), ids in zip(made.rows, encoded, strict=True):
            self._take(row, ids, fitted)

    def _take(self, row: Text, ids: list[int], fitted: EncodedRows[SequenceTokens]) -> None:
        longest, unknown = fitted.longest, self.encoder.unknown
        parts = [ids]
        if longest is not None and len(ids) > longest:
            if self.over == "split":
                fitted.tally.find("split", row.origin)
                parts = [ids[i : i + longest] for i in range(0, len(ids), longest)]
            elif self.over == "cut":
                fitted.cut(row.origin, len(ids) - longest)
                parts = [ids[:longest]]
            else:
                fitted.refuse(row.origin, len(ids), self.over)
                return
        if self.encoder.spells_control(row.text):
            fitted.tally.find("special_text", row.origin)
        for part in parts:
            one = SequenceTokens(part, [True] * len(part), (), row.origin)
            fitted.take(one, length=len(part), tokens=len(part), trained=len(part))
            fitted.unknown += part.count(unknown) if unknown >= 0 else 0


@dataclass(frozen=True)
class ConversationEncoder(RowEncoder[SequenceTokens]):
    """Conversations; one whose earlier turns the template rewrites becomes several rows."""

    chat: ChatEncoder
    over: Overflow
    train_on: TrainOn

    def render(
        self, rows: Sequence[Conversation]
    ) -> RenderedRows[Conversation, list[RenderedSample]]:
        given = [(row.messages, row.tools) for row in rows]
        return render_rows(rows, self.chat.conversations(given, self.train_on))

    def encode(
        self, made: RenderedRows[Conversation, list[RenderedSample]]
    ) -> list[SequenceTokens]:
        flat = [(row, sample) for row, samples in made.rows for sample in samples]
        return self.chat.encode([sample for _, sample in flat], [row.origin for row, _ in flat])

    def take(
        self,
        made: RenderedRows[Conversation, list[RenderedSample]],
        encoded: list[SequenceTokens],
        fitted: EncodedRows[SequenceTokens],
    ) -> None:
        count_refused(made, fitted)
        for row, samples in made.rows:
            if len(samples) > 1:
                fitted.tally.find("split", row.origin)
            if not samples:
                fitted.tally.find("nothing_trained", row.origin)
        flat = ((row, sample) for row, samples in made.rows for sample in samples)
        for (row, sample), one in zip(flat, encoded, strict=True):
            count_sample_findings(fitted, row.origin, sample)
            self._fit(row, one, fitted)

    def _fit(
        self, row: Conversation, one: SequenceTokens, fitted: EncodedRows[SequenceTokens]
    ) -> None:
        longest, short = fitted.longest, one
        if longest is not None and len(one.input_ids) > longest:
            fit = self._shorter(row, one, longest)
            if fit is None:
                fitted.refuse(row.origin, len(one.input_ids), self.over)
                return
            short = fit
            fitted.cut(row.origin, len(one.input_ids) - len(short.input_ids))
        self._take(short, fitted, cut=short is not one)

    def _take(self, one: SequenceTokens, fitted: EncodedRows[SequenceTokens], *, cut: bool) -> None:
        count_token_findings(fitted, one.origin, one.input_ids, self.chat)
        trained = sum(one.trained)
        if not trained:
            fitted.tally.find("nothing_trained", one.origin)
            fitted.tally.drop("nothing to train on", one.origin)
            return
        stops = self.chat.stops
        unstopped = any(one.input_ids[end - 1] not in stops for end in one.ends)
        if unstopped or (not one.ends and not cut):
            fitted.tally.find("stop_untrained", one.origin)
        tokens = len(one.input_ids)
        fitted.take(one, length=tokens, tokens=tokens, trained=trained)

    def _shorter(
        self, row: Conversation, one: SequenceTokens, longest: int
    ) -> SequenceTokens | None:
        if self.over == "cut":
            ends = tuple(end for end in one.ends if end <= longest)
            return replace(
                one, input_ids=one.input_ids[:longest], trained=one.trained[:longest], ends=ends
            )
        if self.over != "turns":
            return None
        for messages in drop_oldest_turns(row.messages):
            samples = render_or_none(
                lambda m=messages: self.chat.conversation(m, row.tools, self.train_on)  # type: ignore[misc]
            )
            if samples and len(samples) == 1:
                short = self.chat.encode(samples, [row.origin])[0]
                if len(short.input_ids) <= longest:
                    return short
        return None


@dataclass(frozen=True)
class PromptEncoder(RowEncoder[PromptTokens]):
    """Prompts; a longer one loses its oldest turns, or is dropped or refused."""

    chat: ChatEncoder
    over: Overflow

    def render(self, rows: Sequence[Prompt]) -> RenderedRows[Prompt, RenderedSample]:
        return render_rows(rows, self.chat.prompts([(row.messages, row.tools) for row in rows]))

    def encode(self, made: RenderedRows[Prompt, RenderedSample]) -> list[list[int]]:
        encoded = self.chat.encode([sample for _, sample in made.rows])
        return [one.input_ids for one in encoded]

    def take(
        self,
        made: RenderedRows[Prompt, RenderedSample],
        encoded: list[list[int]],
        fitted: EncodedRows[PromptTokens],
    ) -> None:
        count_refused(made, fitted)
        longest = fitted.longest
        for (row, sample), whole in zip(made.rows, encoded, strict=True):
            count_sample_findings(fitted, row.origin, sample)
            ids, messages = whole, row.messages
            if longest is not None and len(ids) > longest:
                short = self._shorter(row, longest) if self.over == "turns" else None
                if short is None:
                    fitted.refuse(row.origin, len(ids), self.over)
                    continue
                fitted.cut(row.origin, len(ids) - len(short[0]))
                ids, messages = short
            count_token_findings(fitted, row.origin, ids, self.chat)
            prompt = PromptTokens(ids, messages, row.row, row.origin, row.tools)
            fitted.take(prompt, length=len(ids), tokens=len(ids), trained=0)

    def _shorter(self, row: Prompt, longest: int) -> tuple[list[int], Messages] | None:
        for messages in drop_oldest_turns(row.messages):
            sample = render_or_none(lambda m=messages: self.chat.prompt(m, row.tools))  # type: ignore[misc]
            if sample is not None:
                ids = self.chat.encode([sample])[0].input_ids
                if len(ids) <= longest:
                    return ids, messages
        return None
