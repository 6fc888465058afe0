"""What `aligner data inspect` shows: the ledger, columns, first rows, lengths, and where the data leans."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

from aligner.data.ledger import Ledger
from aligner.data.reading.kinds import CONVERSIONS
from aligner.data.row_texts import texts_of, turns_of
from aligner.data.rows import (
    ClassifiedText,
    LabeledCompletion,
    Preference,
    Row,
    ScoredCompletion,
    Text,
)
from aligner.data.survey import JUDGED, Survey
from aligner.registry import DataFormat
from aligner.terminal.text import count, format_number, one_line

_SHOWN = 5
"""Lines of a text that are shown."""


def page(
    ledger: Ledger, chosen: DataFormat, columns: Sequence[str], found: Survey, first: Sequence[Row]
) -> str:
    """All of it, for people."""
    width = shutil.get_terminal_size().columns
    sections = [
        ledger.describe().split("\n"),
        _what(chosen, columns),
        *(list(_row(row, width)) for row in first),
        list(_lengths(found)),
        list(_beginnings(found)),
        list(_leanings(found)),
        list(_groups(found)),
    ]
    lines = "\n\n".join("\n".join(section) for section in sections if section)
    return f"{lines}\n"


def _what(chosen: DataFormat, columns: Sequence[str]) -> list[str]:
    others = sorted(want for have, want in CONVERSIONS if have == chosen.kind)
    listed = " and ".join(filter(None, (", ".join(others[:-1]), *others[-1:])))
    serves = f", of which {listed} rows can be made" if others else ""
    names = ", ".join(one_line(name)[:40] for name in columns)
    return [f"format   {chosen.name}: {chosen.kind} rows{serves}", f"columns  {names}"]


def _row(row: Row, width: int) -> Iterator[str]:
    yield f"{one_line(row.origin)}{_verdict(row)}"
    for name, role, text in _said(row):
        label = role if name in ("messages", "prompt", "completion") else name
        lines = text.split("\n")
        for number, line in enumerate(lines[:_SHOWN]):
            lead = f"  {label:12} " if not number else " " * 15
            said = one_line(line)
            room = max(20, width - len(lead))
            yield f"{lead}{said if len(said) <= room else said[: room - 1] + '…'}".rstrip()
        if len(lines) > _SHOWN:
            yield f"{' ' * 15}… and {len(lines) - _SHOWN} lines more"


def _said(row: Row) -> Iterator[tuple[str, str, str]]:
    """The row's texts, with the tools that are called in place of empty ones."""
    if isinstance(row, Text | ClassifiedText):
        yield from texts_of(row)
    for name, messages in turns_of(row):
        for one in messages:
            calls = [
                str(call.get("function", call).get("name")) for call in one.get("tool_calls", ())
            ]
            said = [one["content"]] if one["content"] or not calls else []
            yield name, one["role"], "\n".join([*said, *(f"calls {call}" for call in calls)])


def _verdict(row: Row) -> str:
    if isinstance(row, LabeledCompletion | ClassifiedText):
        return f", label {one_line(str(row.label))[:40]}"
    if isinstance(row, ScoredCompletion):
        return f", score {format_number(row.score)}"
    if isinstance(row, Preference) and row.margin is not None:
        return f", margin {format_number(row.margin)}"
    return ""


def _lengths(found: Survey) -> Iterator[str]:
    measures = ("min", "median", "mean", "p90", "p99", "max")
    tables = [("characters", found.characters), ("words", found.words)]
    tables += [("turns", {"conversation": found.turns})] if found.turns else []
    wide = max((len(one_line(side)[:30]) for _, sides in tables for side in sides), default=0)
    for title, sides in tables:
        heads = "".join(f"{name:>9}" for name in measures)
        yield f"{title:{wide + 2}}{heads}"
        for side, lengths in sides.items():
            cells = "".join(f"{lengths[name]:>9g}" for name in measures)
            yield f"  {one_line(side)[:30]:{wide}}{cells}"


def _beginnings(found: Survey) -> Iterator[str]:
    for side, counts in found.beginnings.items():
        named = ", ".join(f"{one_line(words)[:30]} {count(n)}" for words, n in counts.items())
        yield f"{one_line(side)[:30]} begins with: {named}"


def _leanings(found: Survey) -> Iterator[str]:
    repeated = (
        f"{found.repeated_rows:.1%} of the rows and {found.repeated_prompts:.1%} of the prompts"
    )
    yield f"{repeated} repeat earlier ones"
    if found.chosen_longer is not None:
        yield f"{found.chosen_longer:.1%} of the chosen answers are longer than the rejected ones"
    if found.margin_correlation is not None:
        what = "margins" if found.chosen_longer is not None else "scores"
        yield f"{what} and lengths of answers correlate by {found.margin_correlation:.2f}"
    if found.languages:
        judged = sum(found.languages.values())
        said = ", ".join(
            f"{name} {n / judged:.0%}" for name, n in list(found.languages.items())[:8]
        )
        of = f" of the first {JUDGED} rows" if judged == JUDGED < found.rows else ""
        yield f"languages{of}: {said}"


def _groups(found: Survey) -> Iterator[str]:
    if not found.groups:
        return
    sides: Mapping[str, None] = dict.fromkeys(s for counts in found.groups.values() for s in counts)
    names = [one_line(side)[:20] for side in sides]
    wide = max(map(len, found.groups))
    yield f"{'texts with words for':{max(wide, 20)}}" + "".join(f"{name:>22}" for name in names)
    for group, counts in found.groups.items():
        cells = "".join(f"{counts.get(side, 0):>22}" for side in sides)
        yield f"{one_line(group):{max(wide, 20)}}{cells}"
