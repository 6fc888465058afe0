"""Encode preference pairs and labelled answers and fit them into the longest length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aligner.data.chat import Chat, PreferenceTokens, Sample, encode_pairs
from aligner.data.fitted import (
    Fitted,
    LabelTokens,
    batches,
    notice,
    notice_sample,
    rendered,
    without_oldest,
)
from aligner.data.rows import Labelled, Preference
from aligner.data.spec import Overflow


def fit_preferences(
    rows: Sequence[Preference], chat: Chat, over: Overflow, longest: int | None
) -> Fitted[PreferenceTokens]:
    """Pairs; the length of one is that of its prompt with the longer answer."""
    fitted: Fitted[PreferenceTokens] = Fitted(longest=longest)
    for batch in batches(rows):
        pairs = _paired(batch, chat, fitted)
        for row, pair in pairs:
            short: PreferenceTokens | None = pair
            if longest is not None and _length(pair) > longest:
                short = _shorter_pair(row, pair, chat, over, longest)
                if short is None:
                    fitted.refuse(row.origin, _length(pair), over)
                    continue
                fitted.cut(row.origin, _length(pair) - _length(short))
            _take_pair(fitted, short, chat, cut=short is not pair)  # type: ignore[arg-type]
    return fitted


def _paired(
    rows: Sequence[Preference], chat: Chat, fitted: Fitted[Any]
) -> list[tuple[Preference, PreferenceTokens]]:
    def render(row: Preference) -> tuple[tuple[Sample, int], tuple[Sample, int]]:
        first = chat.pair(row.prompt, row.chosen, row.tools)
        second = chat.pair(row.prompt, row.rejected, row.tools)
        return first, second

    made = rendered(rows, fitted, render)
    sides = [side for _, both in made for side in both]
    pairs = []
    encoded = encode_pairs([row for row, _ in made], sides, chat)
    for (row, both), pair in zip(made, encoded, strict=True):
        if pair is None:
            what = "the template shows the prompt otherwise before either answer"
            fitted.tally.drop(what, row.origin)
        else:
            notice_sample(fitted, row.origin, both[0][0])
            pairs.append((row, pair))
    return pairs


def _length(pair: PreferenceTokens) -> int:
    return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))


def _shorter_pair(
    row: Preference, pair: PreferenceTokens, chat: Chat, over: Overflow, longest: int
) -> PreferenceTokens | None:
    if over == "cut" and len(pair.prompt_ids) < longest:
        room = longest - len(pair.prompt_ids)
        return replace(
            pair,
            chosen_ids=pair.chosen_ids[:room],
            rejected_ids=pair.rejected_ids[:room],
            chosen_trained=pair.chosen_trained[:room],
            rejected_trained=pair.rejected_trained[:room],
        )
    if over == "turns":
        for messages in without_oldest(row.prompt):
            made = _paired([replace(row, prompt=messages)], chat, Fitted())
            if made and _length(made[0][1]) <= longest:
                return made[0][1]
    return None


def _take_pair(
    fitted: Fitted[PreferenceTokens], pair: PreferenceTokens, chat: Chat, *, cut: bool
) -> None:
    both = pair.chosen_ids + pair.rejected_ids
    notice(fitted, pair.origin, pair.prompt_ids + both, chat)
    if pair.chosen_ids == pair.rejected_ids:
        what = (
            "chosen and rejected are the same after cutting"
            if cut
            else ("chosen and rejected become the same tokens")
        )
        fitted.tally.drop(what, pair.origin)
        return
    if not cut and not all(ids[-1] in chat.stops for ids in (pair.chosen_ids, pair.rejected_ids)):
        fitted.tally.find("stop_untrained", pair.origin)
    if len(pair.chosen_ids) > len(pair.rejected_ids):
        fitted.tally.find("chosen_longer", pair.origin)
    tokens = 2 * len(pair.prompt_ids) + len(both)
    trained = sum(pair.chosen_trained) + sum(pair.rejected_trained)
    fitted.take(pair, length=_length(pair), tokens=tokens, trained=trained)


def fit_labels(
    rows: Sequence[Labelled], chat: Chat, over: Overflow, longest: int | None
) -> Fitted[LabelTokens]:
    """Labelled answers, as conversations whose last part is the answer."""
    fitted: Fitted[LabelTokens] = Fitted(longest=longest)
    for batch in batches(rows):
        made = rendered(batch, fitted, lambda row: chat.pair(row.prompt, row.completion, row.tools))
        prompts = chat.encode([Sample(sample.pieces[:count]) for _, (sample, count) in made])
        answers = chat.encode([Sample(sample.pieces[count:]) for _, (sample, count) in made])
        for (row, (sample, _)), asked, said in zip(made, prompts, answers, strict=True):
            notice_sample(fitted, row.origin, sample)
            one = LabelTokens(asked.input_ids, said.input_ids, row.label, said.trained, row.origin)
            _take_label(fitted, row, one, chat, over)
    return fitted


def _take_label(
    fitted: Fitted[LabelTokens], row: Labelled, one: LabelTokens, chat: Chat, over: Overflow
) -> None:
    longest = fitted.longest
    whole = len(one.prompt_ids) + len(one.completion_ids)
    if longest is not None and whole > longest:
        short = _shorter_label(row, one, chat, over, longest)
        if short is None:
            fitted.refuse(row.origin, whole, over)
            return
        one = short
        fitted.cut(row.origin, whole - len(one.prompt_ids) - len(one.completion_ids))
    elif one.completion_ids[-1] not in chat.stops:
        fitted.tally.find("stop_untrained", row.origin)
    notice(fitted, row.origin, one.prompt_ids + one.completion_ids, chat)
    tokens = len(one.prompt_ids) + len(one.completion_ids)
    fitted.take(one, length=tokens, tokens=tokens, trained=sum(one.completion_trained))


def _shorter_label(
    row: Labelled, one: LabelTokens, chat: Chat, over: Overflow, longest: int
) -> LabelTokens | None:
    room = longest - len(one.prompt_ids)
    if over == "cut" and room > 0:
        return replace(
            one,
            completion_ids=one.completion_ids[:room],
            completion_trained=one.completion_trained[:room],
        )
    if over == "turns":
        for messages in without_oldest(row.prompt):
            made = fit_labels([replace(row, prompt=messages)], chat, "drop", longest)
            if made.rows:
                return made.rows[0]
    return None
