"""Encode texts, conversations and prompts and fit them into the longest length, counting what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aligner.data.chat import Chat, Encoded, encode_texts
from aligner.data.fitted import (
    Fitted,
    PromptTokens,
    batches,
    notice,
    notice_sample,
    quietly,
    rendered,
    without_oldest,
)
from aligner.data.pieces import Encoder
from aligner.data.rows import Conversation, Messages, Prompt, Text
from aligner.data.spec import Overflow, TrainOn


def fit_texts(
    rows: Sequence[Text], encoder: Encoder, over: Overflow, longest: int | None
) -> Fitted[Encoded]:
    """Documents; a longer one becomes several rows, or is cut, dropped or refused."""
    fitted: Fitted[Encoded] = Fitted(longest=longest)
    unknown = encoder.unknown
    for batch in batches(rows):
        for row, ids in zip(batch, encode_texts(batch, encoder), strict=True):
            parts = [ids]
            if longest is not None and len(ids) > longest:
                if over == "split":
                    fitted.tally.find("split", row.origin)
                    parts = [ids[i : i + longest] for i in range(0, len(ids), longest)]
                elif over == "cut":
                    fitted.cut(row.origin, len(ids) - longest)
                    parts = [ids[:longest]]
                else:
                    fitted.refuse(row.origin, len(ids), over)
                    continue
            if encoder.spells_control(row.text):
                fitted.tally.find("special_text", row.origin)
            for part in parts:
                one = Encoded(part, [True] * len(part), (), row.origin)
                fitted.take(one, length=len(part), tokens=len(part), trained=len(part))
                fitted.unknown += part.count(unknown)
    return fitted


def fit_conversations(
    rows: Sequence[Conversation],
    chat: Chat,
    over: Overflow,
    longest: int | None,
    train_on: TrainOn,
) -> Fitted[Encoded]:
    """Conversations; one whose earlier turns the template rewrites becomes several rows."""
    fitted: Fitted[Encoded] = Fitted(longest=longest)
    for batch in batches(rows):
        made = rendered(
            batch, fitted, lambda row: chat.conversation(row.messages, row.tools, train_on)
        )
        flat = [(row, sample) for row, samples in made for sample in samples]
        encoded = chat.encode([sample for _, sample in flat], [row.origin for row, _ in flat])
        for row, samples in made:
            if len(samples) > 1:
                fitted.tally.find("split", row.origin)
            if not samples:
                fitted.tally.find("nothing_trained", row.origin)
        for (row, sample), one in zip(flat, encoded, strict=True):
            notice_sample(fitted, row.origin, sample)
            short = one
            if longest is not None and len(one.input_ids) > longest:
                fit = _shorter(row, one, chat, over, longest, train_on)
                if fit is None:
                    fitted.refuse(row.origin, len(one.input_ids), over)
                    continue
                short = fit
                fitted.cut(row.origin, len(one.input_ids) - len(short.input_ids))
            _take(fitted, short, chat, cut=short is not one)
    return fitted


def _take(fitted: Fitted[Encoded], one: Encoded, chat: Chat, *, cut: bool) -> None:
    notice(fitted, one.origin, one.input_ids, chat)
    if not any(one.trained):
        fitted.tally.find("nothing_trained", one.origin)
        fitted.tally.drop("nothing to train on", one.origin)
        return
    stops = chat.stops
    if any(one.input_ids[end - 1] not in stops for end in one.ends) or (not one.ends and not cut):
        fitted.tally.find("stop_untrained", one.origin)
    tokens = len(one.input_ids)
    fitted.take(one, length=tokens, tokens=tokens, trained=sum(one.trained))


def _shorter(
    row: Conversation, one: Encoded, chat: Chat, over: Overflow, longest: int, train_on: TrainOn
) -> Encoded | None:
    if over == "cut":
        ends = tuple(end for end in one.ends if end <= longest)
        return replace(
            one, input_ids=one.input_ids[:longest], trained=one.trained[:longest], ends=ends
        )
    if over != "turns":
        return None
    for messages in without_oldest(row.messages):
        samples = quietly(lambda m=messages: chat.conversation(m, row.tools, train_on))  # type: ignore[misc]
        if samples and len(samples) == 1:
            short = chat.encode(samples, [row.origin])[0]
            if len(short.input_ids) <= longest:
                return short
    return None


def fit_prompts(
    rows: Sequence[Prompt], chat: Chat, over: Overflow, longest: int | None
) -> Fitted[PromptTokens]:
    """Prompts; a longer one loses its oldest turns, or is dropped or refused."""
    fitted: Fitted[PromptTokens] = Fitted(longest=longest)
    for batch in batches(rows):
        made = rendered(batch, fitted, lambda row: chat.prompt(row.messages, row.tools))
        encoded = chat.encode([sample for _, sample in made])
        for (row, sample), one in zip(made, encoded, strict=True):
            notice_sample(fitted, row.origin, sample)
            ids, messages = one.input_ids, row.messages
            if longest is not None and len(ids) > longest:
                short = _shorter_prompt(row, chat, longest) if over == "turns" else None
                if short is None:
                    fitted.refuse(row.origin, len(ids), over)
                    continue
                fitted.cut(row.origin, len(ids) - len(short[0]))
                ids, messages = short
            notice(fitted, row.origin, ids, chat)
            prompt = PromptTokens(ids, messages, row.row, row.origin, row.tools)
            fitted.take(prompt, length=len(ids), tokens=len(ids), trained=0)
    return fitted


def _shorter_prompt(row: Prompt, chat: Chat, longest: int) -> tuple[list[int], Messages] | None:
    for messages in without_oldest(row.messages):
        sample = quietly(lambda m=messages: chat.prompt(m, row.tools))  # type: ignore[misc]
        if sample is not None:
            ids = chat.encode([sample])[0].input_ids
            if len(ids) <= longest:
                return ids, messages
    return None
