"""Encode texts, conversations and prompts within a maximum length."""

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
class TextRowEncoder(RowEncoder[SequenceTokens]):
    """Encoder of documents; a longer one is split, truncated, dropped or an error."""

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
        encoded_rows: EncodedRows[SequenceTokens],
    ) -> None:
        for (row, _), ids in zip(made.rows, encoded, strict=True):
            self._take(row, ids, encoded_rows)

    def _take(self, row: Text, ids: list[int], encoded_rows: EncodedRows[SequenceTokens]) -> None:
        longest, unknown = encoded_rows.longest, self.encoder.unknown
        parts = [ids]
        if longest is not None and len(ids) > longest:
            if self.over == "split":
                encoded_rows.tally.find("split", row.origin)
                parts = [ids[i : i + longest] for i in range(0, len(ids), longest)]
            elif self.over == "truncate":
                encoded_rows.count_truncated(row.origin, len(ids) - longest)
                parts = [ids[:longest]]
            else:
                encoded_rows.refuse(row.origin, len(ids), self.over)
                return
        if self.encoder.spells_control(row.text):
            encoded_rows.tally.find("special_text", row.origin)
        for part in parts:
            tokens = SequenceTokens(part, [True] * len(part), (), row.origin)
            encoded_rows.take(tokens, length=len(part), tokens=len(part), trained=len(part))
            encoded_rows.unknown += part.count(unknown) if unknown >= 0 else 0


@dataclass(frozen=True)
class ConversationRowEncoder(RowEncoder[SequenceTokens]):
    """Encoder of conversations; one whose earlier turns the template rewrites becomes several rows."""

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
        encoded_rows: EncodedRows[SequenceTokens],
    ) -> None:
        count_refused(made, encoded_rows)
        for row, samples in made.rows:
            if len(samples) > 1:
                encoded_rows.tally.find("split", row.origin)
            if not samples:
                encoded_rows.tally.find("nothing_trained", row.origin)
        flat = ((row, sample) for row, samples in made.rows for sample in samples)
        for (row, sample), tokens in zip(flat, encoded, strict=True):
            count_sample_findings(encoded_rows, row.origin, sample)
            self._fit(row, tokens, encoded_rows)

    def _fit(
        self, row: Conversation, sequence: SequenceTokens, encoded_rows: EncodedRows[SequenceTokens]
    ) -> None:
        longest, short = encoded_rows.longest, sequence
        if longest is not None and len(sequence.input_ids) > longest:
            fit = self._shorter(row, sequence, longest)
            if fit is None:
                encoded_rows.refuse(row.origin, len(sequence.input_ids), self.over)
                return
            short = fit
            encoded_rows.count_truncated(row.origin, len(sequence.input_ids) - len(short.input_ids))
        self._take(short, encoded_rows, truncated=short is not sequence)

    def _take(
        self,
        sequence: SequenceTokens,
        encoded_rows: EncodedRows[SequenceTokens],
        *,
        truncated: bool,
    ) -> None:
        count_token_findings(encoded_rows, sequence.origin, sequence.input_ids, self.chat)
        trained = sum(sequence.trained)
        if not trained:
            encoded_rows.tally.find("nothing_trained", sequence.origin)
            encoded_rows.tally.drop("nothing to train on", sequence.origin)
            return
        stops = self.chat.stops
        unstopped = any(sequence.input_ids[end - 1] not in stops for end in sequence.ends)
        if unstopped or (not sequence.ends and not truncated):
            encoded_rows.tally.find("stop_untrained", sequence.origin)
        tokens = len(sequence.input_ids)
        encoded_rows.take(sequence, length=tokens, tokens=tokens, trained=trained)

    def _shorter(
        self, row: Conversation, sequence: SequenceTokens, longest: int
    ) -> SequenceTokens | None:
        if self.over == "truncate":
            ends = tuple(end for end in sequence.ends if end <= longest)
            return replace(
                sequence,
                input_ids=sequence.input_ids[:longest],
                trained=sequence.trained[:longest],
                ends=ends,
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
class PromptRowEncoder(RowEncoder[PromptTokens]):
    """Encoder of prompts; a longer one loses its oldest turns, is dropped or an error."""

    chat: ChatEncoder
    over: Overflow

    def render(self, rows: Sequence[Prompt]) -> RenderedRows[Prompt, RenderedSample]:
        return render_rows(rows, self.chat.prompts([(row.messages, row.tools) for row in rows]))

    def encode(self, made: RenderedRows[Prompt, RenderedSample]) -> list[list[int]]:
        encoded = self.chat.encode([sample for _, sample in made.rows])
        return [tokens.input_ids for tokens in encoded]

    def take(
        self,
        made: RenderedRows[Prompt, RenderedSample],
        encoded: list[list[int]],
        encoded_rows: EncodedRows[PromptTokens],
    ) -> None:
        count_refused(made, encoded_rows)
        longest = encoded_rows.longest
        for (row, sample), whole in zip(made.rows, encoded, strict=True):
            count_sample_findings(encoded_rows, row.origin, sample)
            ids, messages = whole, row.messages
            if longest is not None and len(ids) > longest:
                short = self._shorter(row, longest) if self.over == "turns" else None
                if short is None:
                    encoded_rows.refuse(row.origin, len(ids), self.over)
                    continue
                encoded_rows.count_truncated(row.origin, len(ids) - len(short[0]))
                ids, messages = short
            count_token_findings(encoded_rows, row.origin, ids, self.chat)
            prompt = PromptTokens(ids, messages, row.row, row.origin, row.tools)
            encoded_rows.take(prompt, length=len(ids), tokens=len(ids), trained=0)

    def _shorter(self, row: Prompt, longest: int) -> tuple[list[int], Messages] | None:
        for messages in drop_oldest_turns(row.messages):
            sample = render_or_none(lambda m=messages: self.chat.prompt(m, row.tools))  # type: ignore[misc]
            if sample is not None:
                ids = self.chat.encode([sample])[0].input_ids
                if len(ids) <= longest:
                    return ids, messages
        return None
