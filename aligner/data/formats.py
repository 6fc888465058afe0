"""Aligner's own data formats: how each is recognised by its columns, and what kind of row it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.data import convert
from aligner.data.messages import TRANSCRIPT, filled
from aligner.data.rows import Row, Text
from aligner.registry import DataFormat, RowKind

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """Recognises rows that have the `needed` columns, each of a type or passing a test.

    A column may be malformed in some rows, up to half of them: naming those is the converter's part.
    """

    needed: Mapping[str, Any]
    lacks: Mapping[str, Any] = field(default_factory=dict)
    """Columns that make the rows something else where they hold this."""

    def __call__(self, rows: Sequence[Raw]) -> bool:
        for name, wanted in self.needed.items():
            test = _test_of(wanted)
            given = [row[name] for row in rows if row.get(name) is not None]
            if not given or 2 * sum(map(test, given)) < len(rows):
                return False
        return not any(
            row.get(name) is not None and _test_of(unwanted)(row[name])
            for name, unwanted in self.lacks.items()
            for row in rows
        )


def columns(lacks: Mapping[str, Any] | None = None, /, **needed: Any) -> Columns:
    return Columns(needed, lacks or {})


def _test_of(value: type | tuple[type, ...] | Callable[[Any], bool]) -> Callable[[Any], bool]:
    return (lambda one: isinstance(one, value)) if isinstance(value, type | tuple) else value


def nearly(known: Mapping[str, DataFormat], rows: Sequence[Raw]) -> list[tuple[str, list[str]]]:
    """Formats that lack the fewest columns, with the columns that are lacking."""
    there = {name for row in rows for name in row}
    lacking = [
        (name, [column for column in test.needed if column not in there], len(test.needed))
        for name, one in known.items()
        if isinstance(test := one.recognise, Columns)
    ]
    # A format none of whose columns is there is not near.
    near = [(name, lack) for name, lack, needed in lacking if 0 < len(lack) < needed]
    return sorted(near, key=lambda pair: (len(pair[1]), pair[0]))[:3]


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and bool(TRANSCRIPT.match(value))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and not TRANSCRIPT.match(value)


def _is_verdict(value: Any) -> bool:
    return convert.verdict(value) is not None


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


PAIR = {"chosen": object, "rejected": object}
ANSWERS = PAIR | {"completion": object, "completions": object}
VERDICT = {"label": _is_verdict}
BARE = {"prompt": object, "conversations": object}
TWO_TEXTS = ("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "pair")

_TABLE: Sequence[tuple[str, RowKind, Columns, Callable[[Raw], Row | list[Row]]]] = (
("text", "text", columns(text=_is_plain), _text),
("transcript", "conversation", columns(VERDICT, text=_is_transcript), convert.transcript),
("messages", "conversation", columns(VERDICT, messages=TURNS),
 convert.conversation("messages")),
("sharegpt", "conversation", columns(PAIR | VERDICT, conversations=TURNS),
 convert.conversation("conversations")),
("prompt-completion", "conversation", columns(PAIR | VERDICT, prompt=SAID, completion=SAID),
 convert.prompt_completion),
("question-answer", "conversation", columns(question=SAID, answer=SAID),
 convert.question_answer),
("alpaca", "conversation", columns(PAIR, instruction=str, output=SAID), convert.alpaca),
("instances", "conversation", columns(instruction=str, instances=list), convert.instances),
("prompt", "prompt", columns(ANSWERS, prompt=SAID), convert.prompt),
("preference", "preference", columns(prompt=SAID, chosen=SAID, rejected=SAID), convert.preference),
("implicit-preference", "preference", columns(BARE, chosen=TURNS, rejected=TURNS),
 convert.implicit),
("implicit-preference-text", "preference",
 columns(BARE, chosen=_is_plain, rejected=_is_plain), convert.implicit_text),
("hh", "preference", columns(BARE, chosen=_is_transcript, rejected=_is_transcript),
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
("text-label", "class", columns(text=str, label=CLASS), convert.classified("text")),
("sentence-label", "class", columns(sentence=str, label=CLASS),
 convert.classified("sentence")),
*(
    (f"{one}-{two}-label", "class", columns(label=CLASS, **{one: str, two: str}),
     convert.classified(one, two))
    for one, two in TWO_TEXTS
),
)  # fmt: skip

FORMATS: Mapping[str, DataFormat] = {
    name: DataFormat(name=name, kind=kind, recognise=recognise, convert=convert)
    for name, kind, recognise, convert in _TABLE
}
"""Every format aligner reads by itself, by name; plugins add to them."""
