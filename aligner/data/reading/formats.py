"""Data formats of aligner: the columns that identify each, and its kind of row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.data.reading import row_conversion
from aligner.data.reading.messages import TRANSCRIPT, read_nonempty_text
from aligner.data.rows import Row, Text
from aligner.registry import DataFormat, RowKind

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class ColumnTest:
    """Test for rows with the `needed` columns, each of a type or passing a test.

    A column may be malformed in up to half of the rows; the conversion reports these.
    """

    needed: Mapping[str, Any]
    lacks: Mapping[str, Any] = field(default_factory=dict)
    """Columns whose presence with such a value makes the rows another format."""

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


def has_columns(lacks: Mapping[str, Any] | None = None, /, **needed: Any) -> ColumnTest:
    return ColumnTest(needed, lacks or {})


def _test_of(value: type | tuple[type, ...] | Callable[[Any], bool]) -> Callable[[Any], bool]:
    return (lambda cell: isinstance(cell, value)) if isinstance(value, type | tuple) else value


def nearest_formats(
    known: Mapping[str, DataFormat], rows: Sequence[Raw]
) -> list[tuple[str, list[str]]]:
    """Return the formats that lack the fewest columns, with these columns."""
    there = {name for row in rows for name in row}
    lacking = [
        (name, [column for column in test.needed if column not in there], len(test.needed))
        for name, data_format in known.items()
        if isinstance(test := data_format.recognize, ColumnTest)
    ]
    # A format without any matching column is not near.
    near = [(name, lack) for name, lack, needed in lacking if 0 < len(lack) < needed]
    return sorted(near, key=lambda pair: (len(pair[1]), pair[0]))[:3]


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and bool(TRANSCRIPT.match(value))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and not TRANSCRIPT.match(value)


def _is_verdict(value: Any) -> bool:
    return row_conversion.verdict(value) is not None


def _is_list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list | tuple) and bool(value) and isinstance(value[0], kinds)
    )


CHAT = (str, list, Mapping)
CLASS = (str, int, float)
TURNS = _is_list_of(Mapping)
TURN = (str, Mapping)


def _text(row: Raw) -> Row:
    return Text(text=read_nonempty_text(row["text"], "text"))


PAIR = {"chosen": object, "rejected": object}
ANSWERS = PAIR | {"completion": object, "completions": object}
VERDICT = {"label": _is_verdict}
BARE = {"prompt": object, "conversations": object}
TWO_TEXTS = ("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "pair")

_TABLE: Sequence[tuple[str, RowKind, ColumnTest, Callable[[Raw], Row | list[Row]]]] = (
("text", "text", has_columns(text=_is_plain), _text),
("transcript", "conversation", has_columns(VERDICT, text=_is_transcript), row_conversion.transcript),
("messages", "conversation", has_columns(VERDICT, messages=TURNS),
 row_conversion.conversation("messages")),
("sharegpt", "conversation", has_columns(PAIR | VERDICT, conversations=TURNS),
 row_conversion.conversation("conversations")),
("prompt-completion", "conversation", has_columns(PAIR | VERDICT, prompt=CHAT, completion=CHAT),
 row_conversion.prompt_completion),
("question-answer", "conversation", has_columns(question=CHAT, answer=CHAT),
 row_conversion.question_answer),
("alpaca", "conversation", has_columns(PAIR, instruction=str, output=CHAT), row_conversion.alpaca),
("instances", "conversation", has_columns(instruction=str, instances=list), row_conversion.instances),
("prompt", "prompt", has_columns(ANSWERS, prompt=CHAT), row_conversion.prompt),
("preference", "preference", has_columns(prompt=CHAT, chosen=CHAT, rejected=CHAT), row_conversion.preference),
("implicit-preference", "preference", has_columns(BARE, chosen=TURNS, rejected=TURNS),
 row_conversion.implicit),
("implicit-preference-text", "preference",
 has_columns(BARE, chosen=_is_plain, rejected=_is_plain), row_conversion.implicit_text),
("hh", "preference", has_columns(BARE, chosen=_is_transcript, rejected=_is_transcript),
 row_conversion.transcripts),
("preference-messages", "preference", has_columns(chosen_messages=TURNS, rejected_messages=TURNS),
 row_conversion.two_lists),
("sharegpt-preference", "preference",
 has_columns(conversations=TURNS, chosen=TURN, rejected=TURN), row_conversion.sharegpt_pair),
("ranking", "ranking", has_columns(prompt=CHAT, completions=list, scores=list), row_conversion.ranking),
("ranking-by-rank", "ranking", has_columns(prompt=CHAT, completions=list, ranks=list),
 row_conversion.ranking),
("ultrafeedback", "ranking", has_columns(instruction=str, completions=_is_list_of(Mapping)),
 row_conversion.ultrafeedback),
("prompt-completion-label", "label", has_columns(prompt=CHAT, completion=CHAT, label=_is_verdict),
 row_conversion.label_conversion(row_conversion.prompt_and_completion)),
("messages-label", "label", has_columns(messages=TURNS, label=_is_verdict),
 row_conversion.label_conversion(row_conversion.last_answer("messages"))),
("sharegpt-label", "label", has_columns(conversations=TURNS, label=_is_verdict),
 row_conversion.label_conversion(row_conversion.last_answer("conversations"))),
("prompt-completion-score", "score", has_columns(prompt=CHAT, completion=CHAT, score=CLASS),
 row_conversion.score_conversion(row_conversion.prompt_and_completion)),
("messages-score", "score", has_columns(messages=TURNS, score=CLASS),
 row_conversion.score_conversion(row_conversion.last_answer("messages"))),
("text-label", "class", has_columns(text=str, label=CLASS), row_conversion.class_conversion("text")),
("sentence-label", "class", has_columns(sentence=str, label=CLASS),
 row_conversion.class_conversion("sentence")),
*(
    (f"{first}-{second}-label", "class", has_columns(label=CLASS, **{first: str, second: str}),
     row_conversion.class_conversion(first, second))
    for first, second in TWO_TEXTS
),
)  # fmt: skip

FORMATS: Mapping[str, DataFormat] = {
    name: DataFormat(name=name, kind=kind, recognize=recognize, convert=convert)
    for name, kind, recognize, convert in _TABLE
}
"""Every format of aligner itself, by name; plugins add others."""
