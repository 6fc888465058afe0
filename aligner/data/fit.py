"""Encode texts, conversations and prompts and fit them into the longest length, counting what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aligner.data.chat import Chat, Encoded, Sample, encode_texts
from aligner.data.fitted import (
    Fitted,
    Fitter,
    Made,
    PromptTokens,
    drop_refused,
    notice,
    notice_sample,
    quietly,
    rendered,
    without_oldest,
)
from aligner.data.pieces import Encoder
from aligner.data.rows import Conversation, Messages, Prompt, Text
from aligner.data.spec import Overflow, TrainOn


@dataclass(frozen=True)
class Texts(Fitter[Encoded]):
    """Documents; a longer one becomes several rows, or is cut, dropped or refused."""

    encoder: Encoder
    over: Overflow

    def render(self, rows: Sequence[Text]) -> Made[Text, None]:
        return Made([(row, None) for row in rows], [])

    def encode(self, made: Made[Text, None]) -> list[list[int]]:
        return encode_texts([row for row, _ in made.rows], self.encoder)

    def take(
        self, made: Made[Text, None], encoded: list[list[int]], fitted: Fitted[Encoded]
    ) -> None:
        for (row, _), ids in zip(made.rows, encoded, strict=True):
            self._take(row, ids, fitted)

    def _take(self, row: Text, ids: list[int], fitted: Fitted[Encoded]) -> None:
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
            one = Encoded(part, [True] * len(part), (), row.origin)
            fitted.take(one, length=len(part), tokens=len(part), trained=len(part))
            fitted.unknown += part.count(unknown) if unknown >= 0 else 0


@dataclass(frozen=True)
class Conversations(Fitter[Encoded]):
    """Conversations; one whose earlier turns the template rewrites becomes several rows."""

    chat: Chat
    over: Overflow
    train_on: TrainOn

    def render(self, rows: Sequence[Conversation]) -> Made[Conversation, list[Sample]]:
        given = [(row.messages, row.tools) for row in rows]
        return rendered(rows, self.chat.conversations(given, self.train_on))

    def encode(self, made: Made[Conversation, list[Sample]]) -> list[Encoded]:
        flat = [(row, sample) for row, samples in made.rows for sample in samples]
        return self.chat.encode([sample for _, sample in flat], [row.origin for row, _ in flat])

    def take(
        self,
        made: Made[Conversation, list[Sample]],
        encoded: list[Encoded],
        fitted: Fitted[Encoded],
    ) -> None:
        drop_refused(made, fitted)
        for row, samples in made.rows:
            if len(samples) > 1:
                fitted.tally.find("split", row.origin)
            if not samples:
                fitted.tally.find("nothing_trained", row.origin)
        flat = ((row, sample) for row, samples in made.rows for sample in samples)
        for (row, sample), one in zip(flat, encoded, strict=True):
            notice_sample(fitted, row.origin, sample)
            self._fit(row, one, fitted)

    def _fit(self, row: Conversation, one: Encoded, fitted: Fitted[Encoded]) -> None:
        longest, short = fitted.longest, one
        if longest is not None and len(one.input_ids) > longest:
            fit = self._shorter(row, one, longest)
            if fit is None:
                fitted.refuse(row.origin, len(one.input_ids), self.over)
                return
            short = fit
            fitted.cut(row.origin, len(one.input_ids) - len(short.input_ids))
        self._take(short, fitted, cut=short is not one)

    def _take(self, one: Encoded, fitted: Fitted[Encoded], *, cut: bool) -> None:
        notice(fitted, one.origin, one.input_ids, self.chat)
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

    def _shorter(self, row: Conversation, one: Encoded, longest: int) -> Encoded | None:
        if self.over == "cut":
            ends = tuple(end for end in one.ends if end <= longest)
            return replace(
                one, input_ids=one.input_ids[:longest], trained=one.trained[:longest], ends=ends
            )
        if self.over != "turns":
            return None
        for messages in without_oldest(row.messages):
            samples = quietly(
                lambda m=messages: self.chat.conversation(m, row.tools, self.train_on)  # type: ignore[misc]
            )
            if samples and len(samples) == 1:
                short = self.chat.encode(samples, [row.origin])[0]
                if len(short.input_ids) <= longest:
                    return short
        return None


@dataclass(frozen=True)
class Prompts(Fitter[PromptTokens]):
    """Prompts; a longer one loses its oldest turns, or is dropped or refused."""

    chat: Chat
    over: Overflow

    def render(self, rows: Sequence[Prompt]) -> Made[Prompt, Sample]:
        return rendered(rows, self.chat.prompts([(row.messages, row.tools) for row in rows]))

    def encode(self, made: Made[Prompt, Sample]) -> list[list[int]]:
        encoded = self.chat.encode([sample for _, sample in made.rows])
        return [one.input_ids for one in encoded]

    def take(
        self, made: Made[Prompt, Sample], encoded: list[list[int]], fitted: Fitted[PromptTokens]
    ) -> None:
        drop_refused(made, fitted)
        longest = fitted.longest
        for (row, sample), whole in zip(made.rows, encoded, strict=True):
            notice_sample(fitted, row.origin, sample)
            ids, messages = whole, row.messages
            if longest is not None and len(ids) > longest:
                short = self._shorter(row, longest) if self.over == "turns" else None
                if short is None:
                    fitted.refuse(row.origin, len(ids), self.over)
                    continue
                fitted.cut(row.origin, len(ids) - len(short[0]))
                ids, messages = short
            notice(fitted, row.origin, ids, self.chat)
            prompt = PromptTokens(ids, messages, row.row, row.origin, row.tools)
            fitted.take(prompt, length=len(ids), tokens=len(ids), trained=0)

    def _shorter(self, row: Prompt, longest: int) -> tuple[list[int], Messages] | None:
        for messages in without_oldest(row.messages):
            sample = quietly(lambda m=messages: self.chat.prompt(m, row.tools))  # type: ignore[misc]
            if sample is not None:
                ids = self.chat.encode([sample])[0].input_ids
                if len(ids) <= longest:
                    return ids, messages
        return None
