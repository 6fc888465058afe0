"""Show format, first rows, lengths, labels, duplicates and languages of a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from aligner.cli.actions.data_input import DataInput, data_input
from aligner.cli.actions.data_page import render_data
from aligner.data.language import language_of
from aligner.data.reading.format_detection import detect_any_format
from aligner.data.reading.operations import operations_of
from aligner.data.reading.sources import open_rows
from aligner.data.rows import Row
from aligner.data.survey import GROUPS, survey_rows
from aligner.errors import ChainError, DataError
from aligner.stage import PlanContext
from aligner.terminal.json_output import print_json
from aligner.terminal.output_capture import capture_output
from aligner.terminal.text import sanitize

_ROWS_FOR_COLUMNS = 1000
"""Rows, from the start, whose columns are listed."""


def inspect(arguments: argparse.Namespace) -> int:
    """Print a report of the data.

    Raises:
        AlignerError: The data is missing or has no known format, or an option is wrong.
    """
    with capture_output():  # libraries print while they load
        data = data_input(arguments, on_bad_row="skip")
        for named in operations_of(data.spec, "training entry"):
            what = f"{named.name} adds rows, and inspect shows existing rows only"
            raise ChainError(what, where="--with")
        data_format = detect_any_format(data.spec, data.context, "data")
        spec = data.spec.model_copy(update={"format": data_format.name})
        data = replace(data, spec=spec)
        columns = _columns(data)
        stream, first = data.stream(data_format.kind), list[Row]()
        report = survey_rows(
            _keep_first(stream.rows(), first, arguments.rows),
            groups=_groups(arguments.groups),
            language=_language_detector(data.context),
        )
        ledger = stream.ledger()
    if arguments.json:
        print_json(
            {
                "format": data_format.name,
                "kind": data_format.kind,
                "columns": columns,
                "ledger": ledger.as_dict(),
                "survey": report.as_dict(),
                "first": [vars(row) for row in first],
            }
        )
        return 0
    sys.stdout.write(sanitize(render_data(ledger, data_format, columns, report, first)))
    sys.stdout.flush()
    return 0


def _columns(data: DataInput) -> list[str]:
    rows = islice(open_rows(data.spec, data.context, "data").rows, _ROWS_FOR_COLUMNS)
    return list(dict.fromkeys(str(n) for _, row in rows if isinstance(row, Mapping) for n in row))


def _keep_first(rows: Iterator[Row], first: list[Row], number: int) -> Iterator[Row]:
    """Pass `rows` on and append the first `number` of them to `first`."""
    for row in rows:
        if len(first) < number:
            first.append(row)
        yield row


def _groups(words: str | None) -> Mapping[str, tuple[str, ...]]:
    if words is None:
        return {}
    names = [word.strip().lower() for word in words.split(",") if word.strip()]
    return {word: (word,) for word in names} or GROUPS


def _language_detector(context: PlanContext) -> Callable[[str], str] | None:
    """Return the language detector if its library is installed."""
    try:
        return language_of(context.memo, context.at("data"))
    except DataError:
        return None
