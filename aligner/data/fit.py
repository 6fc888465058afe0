"""Encode rows and fit them into the longest length, counting everything that is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from aligner.data.chat import Chat, Encoded, PreferenceTokens, Sample, encode_texts
from aligner.data.ledger import Tally
from aligner.data.messages import Malformed
from aligner.data.pieces import Encoder
from aligner.data.rows import Conversation, Labelled, Messages, Preference, Prompt, Text
from aligner.data.spec import Overflow, TrainOn
from aligner.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
BATCH = 1000
"""Rows that are encoded together."""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the model sees it."""

    input_ids: list[int]
    messages: Messages
    row: Mapping[str, Any]
    """The other columns; a reference answer is called `answer`."""
    origin: str = ""


@dataclass(frozen=True)
class LabelTokens:
    """An answer as the model sees it, and whether it is a good one."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool
    completion_trained: list[bool] = field(default_factory=list)
    origin: str = ""


@dataclass
class Fitted(Generic[T]):
    """Encoded rows, and what became of the others."""

    rows: list[T] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    lengths: list[int] = field(default_factory=list)
    """Tokens in each row."""
    trained: int = 0
    cut_tokens: int = 0
    unknown: int = 0
    too_long: list[tuple[str, int]] = field(default_factory=list)
    """Origin and tokens of rows that the check must stop for."""
    longest: int | None = None

    def faults(self, where: str) -> list[DataError]:
        """The error that `overflow: stop` asks for, if any row is too long."""
        if not self.too_long:
            return []
        places = ", ".join(f"{origin} ({tokens})" for origin, tokens in self.too_long[:5])
        more = ", …" if len(self.too_long) > 5 else ""
        what = f"{len(self.too_long)} rows have more than max_length {self.longest} tokens: "
        hint = "raise max_length, or set overflow to drop, cut or turns"
        return [DataError(f"{what}{places}{more}", where=where, hint=hint)]

    def refuse(self, origin: str, tokens: int, over: Overflow) -> None:
        """Leave a row out that is too long."""
        if over == "stop":
            self.too_long.append((origin, tokens))
        self.tally.drop(f"longer than max_length {self.longest}", origin)

    def cut(self, origin: str, tokens: int) -> None:
        self.tally.find("cut", origin)
        self.cut_tokens += tokens


def _batches(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def fit_texts(
    rows: Sequence[Text], encoder: Encoder, over: Overflow, longest: int | None
) -> Fitted[Encoded]:
    """Documents; a longer one becomes several rows, or is cut, dropped or refused."""
    fitted: Fitted[Encoded] = Fitted(longest=longest)
    unknown = encoder.unknown
    for batch in _batches(rows):
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
                fitted.rows.append(Encoded(part, [True] * len(part), (), row.origin))
                fitted.lengths.append(len(part))
                fitted.trained += len(part)
                fitted.unknown += part.count(unknown)
    return fitted


def _rendered(
    rows: Sequence[R], fitted: Fitted[Any], render: Callable[[R], T]
) -> list[tuple[R, T]]:
    """Rows with what `render` makes of them; those the template refuses are dropped and counted."""
    made = []
    for row in rows:
        try:
            made.append((row, render(row)))
        except Malformed as error:
            fitted.tally.drop(error.what, row.origin)  # type: ignore[attr-defined]  # R is a Row
    return made


def _notice(fitted: Fitted[Any], origin: str, ids: Sequence[int], chat: Chat) -> None:
    fitted.unknown += list(ids).count(chat.encoder.unknown)
    bos = chat.tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        fitted.tally.find("double_bos", origin)


def _notice_sample(fitted: Fitted[Any], origin: str, sample: Sample) -> None:
    if sample.left_out:
        fitted.tally.find("left_out", origin, sample.left_out)
    if sample.special_text:
        fitted.tally.find("special_text", origin)


def fit_conversations(
    rows: Sequence[Conversation],
    chat: Chat,
    over: Overflow,
    longest: int | None,
    train_on: TrainOn,
) -> Fitted[Encoded]:
    """Conversations; one whose earlier turns the template rewrites becomes several rows."""
    fitted: Fitted[Encoded] = Fitted(longest=longest)
    for batch in _batches(rows):
        made = _rendered(
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
            _notice_sample(fitted, row.origin, sample)
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
    _notice(fitted, one.origin, one.input_ids, chat)
    if not any(one.trained):
        fitted.tally.find("nothing_trained", one.origin)
        fitted.tally.drop("nothing to train on", one.origin)
        return
    stops = chat.stops
    if any(one.input_ids[end - 1] not in stops for end in one.ends) or (not one.ends and not cut):
        fitted.tally.find("stop_untrained", one.origin)
    fitted.rows.append(one)
    fitted.lengths.append(len(one.input_ids))
    fitted.trained += sum(one.trained)


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
        samples = _quietly(lambda m=messages: chat.conversation(m, row.tools, train_on))  # type: ignore[misc]
        if samples and len(samples) == 1:
            short = chat.encode(samples, [row.origin])[0]
            if len(short.input_ids) <= longest:
                return short
    return None


def _quietly(render: Callable[[], T]) -> T | None:
    try:
        return render()
    except Malformed:
        return None


def without_oldest(messages: Messages) -> Iterator[Messages]:
    """`messages` without their first exchange, without their first two, and so on.

    System turns stay, and what is left always begins with a user's turn.
    """
    system = tuple(message for message in messages if message["role"] == "system")
    rest = messages[len(system) :]
    for index, message in enumerate(rest):
        if index and message["role"] == "user":
            yield (*system, *rest[index:])


def fit_preferences(
    rows: Sequence[Preference], chat: Chat, over: Overflow, longest: int | None
) -> Fitted[PreferenceTokens]:
    """Pairs; the length of one is that of its prompt with the longer answer."""
    fitted: Fitted[PreferenceTokens] = Fitted(longest=longest)
    for batch in _batches(rows):
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

    made = _rendered(rows, fitted, render)
    parts = [part for _, sides in made for part in sides]
    prompts = chat.encode([Sample(sample.pieces[:count]) for sample, count in parts])
    answers = chat.encode([Sample(sample.pieces[count:]) for sample, count in parts])
    pairs = []
    for index, (row, sides) in enumerate(made):
        asked, chosen = prompts[2 * index], answers[2 * index]
        rejected = answers[2 * index + 1]
        if asked.input_ids != prompts[2 * index + 1].input_ids:
            fitted.tally.drop(
                "the template shows the prompt otherwise before either answer", row.origin
            )
            continue
        _notice_sample(fitted, row.origin, sides[0][0])
        pair = PreferenceTokens(
            asked.input_ids, chosen.input_ids, rejected.input_ids,
            chosen.trained, rejected.trained, row.margin, row.origin,
        )  # fmt: skip
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
    _notice(fitted, pair.origin, pair.prompt_ids + both, chat)
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
    fitted.rows.append(pair)
    fitted.lengths.append(2 * len(pair.prompt_ids) + len(both))
    fitted.trained += sum(pair.chosen_trained) + sum(pair.rejected_trained)


def fit_labels(
    rows: Sequence[Labelled], chat: Chat, over: Overflow, longest: int | None
) -> Fitted[LabelTokens]:
    """Labelled answers, as conversations whose last part is the answer."""
    fitted: Fitted[LabelTokens] = Fitted(longest=longest)
    for batch in _batches(rows):
        made = _rendered(
            batch, fitted, lambda row: chat.pair(row.prompt, row.completion, row.tools)
        )
        prompts = chat.encode([Sample(sample.pieces[:count]) for _, (sample, count) in made])
        answers = chat.encode([Sample(sample.pieces[count:]) for _, (sample, count) in made])
        for (row, (sample, _)), asked, said in zip(made, prompts, answers, strict=True):
            _notice_sample(fitted, row.origin, sample)
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
    _notice(fitted, row.origin, one.prompt_ids + one.completion_ids, chat)
    fitted.rows.append(one)
    fitted.lengths.append(len(one.prompt_ids) + len(one.completion_ids))
    fitted.trained += sum(one.completion_trained)


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


def fit_prompts(
    rows: Sequence[Prompt], chat: Chat, over: Overflow, longest: int | None
) -> Fitted[PromptTokens]:
    """Prompts; a longer one loses its oldest turns, or is dropped or refused."""
    fitted: Fitted[PromptTokens] = Fitted(longest=longest)
    for batch in _batches(rows):
        made = _rendered(batch, fitted, lambda row: chat.prompt(row.messages, row.tools))
        encoded = chat.encode([sample for _, sample in made])
        for (row, sample), one in zip(made, encoded, strict=True):
            _notice_sample(fitted, row.origin, sample)
            ids, messages = one.input_ids, row.messages
            if longest is not None and len(ids) > longest:
                short = _shorter_prompt(row, chat, longest) if over == "turns" else None
                if short is None:
                    fitted.refuse(row.origin, len(ids), over)
                    continue
                fitted.cut(row.origin, len(ids) - len(short[0]))
                ids, messages = short
            _notice(fitted, row.origin, ids, chat)
            fitted.rows.append(PromptTokens(ids, messages, row.row, row.origin))
            fitted.lengths.append(len(ids))
    return fitted


def _shorter_prompt(row: Prompt, chat: Chat, longest: int) -> tuple[list[int], Messages] | None:
    for messages in without_oldest(row.messages):
        sample = _quietly(lambda m=messages: chat.prompt(m, row.tools))  # type: ignore[misc]
        if sample is not None:
            ids = chat.encode([sample])[0].input_ids
            if len(ids) <= longest:
                return ids, messages
    return None
