"""Aligner's own data formats: how each is recognised by its columns, and what kind of row it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aligner.data import convert
from aligner.data.messages import TRANSCRIPT, filled
from aligner.data.rows import Row, Text
from aligner.offers import DataFormat, RowKind

Raw = Mapping[str, Any]
Recognise = Callable[[Sequence[Raw]], bool]

ANSWERS = ("chosen", "rejected", "completion", "completions")


def _test_of(value: type | tuple[type, ...] | Callable[[Any], bool]) -> Callable[[Any], bool]:
    return (lambda one: isinstance(one, value)) if isinstance(value, type | tuple) else value


def columns(lacks: Sequence[str] = (), /, **needed: Any) -> Recognise:
    """Recognise rows that have the `needed` columns, each of a type or passing a test.

    A column may hold nothing in some rows, but not in all: what is missing is the converter's to
    complain of.
    """
    tests = {name: _test_of(value) for name, value in needed.items()}

    def recognise(rows: Sequence[Raw]) -> bool:
        for name, test in tests.items():
            values = [row.get(name) for row in rows]
            given = [value for value in values if value is not None]
            # Half the rows decide, so that one malformed row is named and does not hide the format.
            if 2 * sum(map(test, given)) < len(rows) or not given:
                return False
        return not any(row.get(name) is not None for row in rows for name in lacks)

    recognise.needs = tuple(tests)  # type: ignore[attr-defined]  # read by `nearly`
    return recognise


def nearly(known: Mapping[str, DataFormat], rows: Sequence[Raw]) -> list[tuple[str, list[str]]]:
    """Formats that lack the fewest columns, with the columns that are lacking."""
    there = {name for row in rows for name in row}
    lacking = [
        (name, [column for column in needs if column not in there], len(needs))
        for name, one in known.items()
        if (needs := getattr(one.recognise, "needs", ()))
    ]
    # A format none of whose columns is there is not near.
    near = [(name, lack) for name, lack, needed in lacking if 0 < len(lack) < needed]
    return sorted(near, key=lambda pair: (len(pair[1]), pair[0]))[:3]


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and bool(TRANSCRIPT.match(value))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and not TRANSCRIPT.match(value)


def _is_verdict(value: Any) -> bool:
    return value in (0, 1)  # True and False are 1 and 0


def _is_list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list | tuple) and bool(value) and isinstance(value[0], kinds)
    )


SAID = (str, list, Mapping)
CLASS = (str, int, float)
TURNS = _is_list_of(Mapping)
TURN = (str, Mapping)


def _text(row: Raw) -> Row:
    return Text(text=filled(row["text"], "text"))


def _rows() -> list[tuple[str, RowKind, Recognise, Callable[[Raw], Row | list[Row]]]]:
    not_pairs = ("chosen", "rejected", "label", "score")
    explicit = columns(prompt=SAID, chosen=SAID, rejected=SAID)
    bare = ("prompt", "conversations")
    paired = ("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "pair")
    return [
        ("text", "text", columns(("label", "pair"), text=_is_plain), _text),
        ("transcript", "conversation", columns(("label",), text=_is_transcript), convert.transcript),
        ("messages", "conversation", columns(("label", "score"), messages=TURNS),
         convert.conversation("messages")),
        ("sharegpt", "conversation", columns(not_pairs, conversations=TURNS),
         convert.conversation("conversations")),
        ("prompt-completion", "conversation", columns(not_pairs, prompt=SAID, completion=SAID),
         convert.prompt_completion),
        ("question-answer", "conversation", columns(question=SAID, answer=SAID),
         convert.question_answer),
        ("alpaca", "conversation", columns(("chosen",), instruction=str, output=SAID), convert.alpaca),
        ("instances", "conversation", columns(instruction=str, instances=list), convert.instances),
        ("prompt", "prompt", columns(ANSWERS, prompt=SAID), convert.prompt),
        ("preference", "preference", explicit, convert.preference),
        ("implicit-preference", "preference", columns(bare, chosen=TURNS, rejected=TURNS),
         convert.implicit),
        ("implicit-preference-text", "preference",
         columns(bare, chosen=_is_plain, rejected=_is_plain), convert.implicit_text),
        ("hh", "preference", columns(bare, chosen=_is_transcript, rejected=_is_transcript),
         convert.transcripts),
        ("preference-messages", "preference", columns(chosen_messages=TURNS, rejected_messages=TURNS),
         convert.two_lists),
        ("sharegpt-preference", "preference",
         columns(conversations=TURNS, chosen=TURN, rejected=TURN), convert.sharegpt_pair),
        ("ranking", "ranking", columns(prompt=SAID, completions=list, scores=list), convert.ranking),
        ("ranking-by-rank", "ranking", columns(prompt=SAID, completions=list, ranks=list),
         convert.ranking),
        ("ultrafeedback", "ranking", columns(instruction=str, completions=_is_list_of(Mapping)),
         convert.ultrafeedback),
        ("prompt-completion-label", "label", columns(prompt=SAID, completion=SAID, label=_is_verdict),
         convert.labelled(convert.answered)),
        ("messages-label", "label", columns(messages=TURNS, label=_is_verdict),
         convert.labelled(convert.last_answer("messages"))),
        ("sharegpt-label", "label", columns(conversations=TURNS, label=_is_verdict),
         convert.labelled(convert.last_answer("conversations"))),
        ("prompt-completion-score", "score", columns(prompt=SAID, completion=SAID, score=CLASS),
         convert.scored(convert.answered)),
        ("messages-score", "score", columns(messages=TURNS, score=CLASS),
         convert.scored(convert.last_answer("messages"))),
        ("text-label", "class", columns(("pair",), text=str, label=CLASS), convert.classified("text")),
        ("sentence-label", "class", columns(sentence=str, label=CLASS),
         convert.classified("sentence")),
        *(
            (f"{one}-{two}-label", "class", columns(label=CLASS, **{one: str, two: str}),
             convert.classified(one, two))
            for one, two in paired
        ),
    ]  # fmt: skip


FORMATS: Mapping[str, DataFormat] = {
    name: DataFormat(name=name, kind=kind, recognise=recognise, convert=convert)
    for name, kind, recognise, convert in _rows()
}
"""Every format aligner reads by itself, by name; plugins add to them."""
