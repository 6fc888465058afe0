"""Render the report of `aligner data inspect`: ledger, columns, first rows, lengths and biases."""

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
from aligner.terminal.text import format_count, format_number, one_line

_MAX_LINES = 5
"""Lines shown of one text."""


def render_data(
    ledger: Ledger,
    data_format: DataFormat,
    columns: Sequence[str],
    report: Survey,
    first: Sequence[Row],
) -> str:
    width = shutil.get_terminal_size().columns
    sections = [
        ledger.describe().split("\n"),
        _format(data_format, columns),
        *(list(_row(row, width)) for row in first),
        list(_lengths(report)),
        list(_beginnings(report)),
        list(_biases(report)),
        list(_groups(report)),
    ]
    lines = "\n\n".join("\n".join(section) for section in sections if section)
    return f"{lines}\n"


def _format(data_format: DataFormat, columns: Sequence[str]) -> list[str]:
    others = sorted(to for kind, to in CONVERSIONS if kind == data_format.kind)
    listed = " and ".join(filter(None, (", ".join(others[:-1]), *others[-1:])))
    convertible = f", which can become {listed} rows" if others else ""
    names = ", ".join(one_line(name)[:40] for name in columns)
    return [
        f"format   {data_format.name}: {data_format.kind} rows{convertible}",
        f"columns  {names}",
    ]


def _row(row: Row, width: int) -> Iterator[str]:
    yield f"{one_line(row.origin)}{_label(row)}"
    for name, role, text in _texts(row):
        label = role if name in ("messages", "prompt", "completion") else name
        lines = text.split("\n")
        for number, line in enumerate(lines[:_MAX_LINES]):
            lead = f"  {label:12} " if not number else " " * 15
            shown = one_line(line)
            room = max(20, width - len(lead))
            yield f"{lead}{shown if len(shown) <= room else shown[: room - 1] + '…'}".rstrip()
        if len(lines) > _MAX_LINES:
            yield f"{' ' * 15}… and {len(lines) - _MAX_LINES} more lines"


def _texts(row: Row) -> Iterator[tuple[str, str, str]]:
    """Return column, role and text of each turn; tool calls are listed by name."""
    if isinstance(row, Text | ClassifiedText):
        yield from texts_of(row)
    for name, messages in turns_of(row):
        for turn in messages:
            calls = [
                str(call.get("function", call).get("name")) for call in turn.get("tool_calls", ())
            ]
            content = [turn["content"]] if turn["content"] or not calls else []
            yield name, turn["role"], "\n".join([*content, *(f"calls {call}" for call in calls)])


def _label(row: Row) -> str:
    if isinstance(row, LabeledCompletion | ClassifiedText):
        return f", label {one_line(str(row.label))[:40]}"
    if isinstance(row, ScoredCompletion):
        return f", score {format_number(row.score)}"
    if isinstance(row, Preference) and row.margin is not None:
        return f", margin {format_number(row.margin)}"
    return ""


def _lengths(report: Survey) -> Iterator[str]:
    measures = ("min", "median", "mean", "p90", "p99", "max")
    tables = [("characters", report.characters), ("words", report.words)]
    tables += [("turns", {"conversation": report.turns})] if report.turns else []
    width = max((len(one_line(name)[:30]) for _, rows in tables for name in rows), default=0)
    for title, rows in tables:
        heads = "".join(f"{name:>9}" for name in measures)
        yield f"{title:{width + 2}}{heads}"
        for name, lengths in rows.items():
            cells = "".join(f"{lengths[measure]:>9g}" for measure in measures)
            yield f"  {one_line(name)[:30]:{width}}{cells}"


def _beginnings(report: Survey) -> Iterator[str]:
    for name, counts in report.beginnings.items():
        listed = ", ".join(f"{one_line(w)[:30]} {format_count(n)}" for w, n in counts.items())
        yield f"{one_line(name)[:30]} begins with: {listed}"


def _biases(report: Survey) -> Iterator[str]:
    repeated = (
        f"{report.repeated_rows:.1%} of the rows and {report.repeated_prompts:.1%} of the prompts"
    )
    yield f"{repeated} repeat earlier ones"
    if report.chosen_longer is not None:
        yield f"{report.chosen_longer:.1%} of the chosen answers are longer than the rejected ones"
    if report.margin_correlation is not None:
        what = "margins" if report.chosen_longer is not None else "scores"
        yield f"correlation of {what} and answer lengths: {report.margin_correlation:.2f}"
    if report.languages:
        judged = sum(report.languages.values())
        shares = ", ".join(
            f"{name} {n / judged:.0%}" for name, n in list(report.languages.items())[:8]
        )
        part = f" of the first {JUDGED} rows" if judged == JUDGED < report.rows else ""
        yield f"languages{part}: {shares}"


def _groups(report: Survey) -> Iterator[str]:
    if not report.groups:
        return
    columns: Mapping[str, None] = dict.fromkeys(
        c for counts in report.groups.values() for c in counts
    )
    names = [one_line(column)[:20] for column in columns]
    width = max(map(len, report.groups))
    yield f"{'texts with words for':{max(width, 20)}}" + "".join(f"{name:>22}" for name in names)
    for group, counts in report.groups.items():
        cells = "".join(f"{counts.get(column, 0):>22}" for column in columns)
        yield f"{one_line(group):{max(width, 20)}}{cells}"
