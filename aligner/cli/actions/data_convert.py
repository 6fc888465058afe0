"""Write a data set in another format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

from aligner.cli.actions.data_input import data_input
from aligner.data.ledger import Tally, merge_counts
from aligner.data.reading.load import RowStream
from aligner.data.rows import Row
from aligner.data.writing import file_kind, find_target, write_rows
from aligner.errors import DataError
from aligner.terminal.json_output import print_json
from aligner.terminal.output_capture import capture_output
from aligner.terminal.text import sanitize


def convert(arguments: argparse.Namespace) -> int:
    """Write the rows in another format and print the ledger of the rows read.

    Raises:
        AlignerError: The data cannot be read or written in this format, or the file exists.
    """
    to, out = find_target(arguments.to), arguments.out
    file_kind(out)
    if out.exists() and not arguments.force:
        raise DataError(f"{out} exists already", hint="add --force to replace it")
    with capture_output():  # libraries print while they load
        data = data_input(arguments)
        passes: list[tuple[RowStream, Tally]] = []

        def rows() -> Iterator[Row]:
            passes.append((data.stream(to.kind), Tally()))
            return data.rows(*passes[-1])

        written = write_rows(out, rows, to)
    stream, tally = passes[-1]
    ledger = stream.ledger()
    if not written:
        reasons = (*ledger.skipped, *ledger.dropped, *ledger.filtered)
        hint = f"removed: {', '.join(reasons)}" if reasons else ""
        raise DataError(f"{data.spec.named}: no row is left to write", hint=hint)
    ledger = replace(
        ledger,
        found=merge_counts(ledger.found, tally.found),
        phrases={**ledger.phrases, **tally.phrases},
    )
    if arguments.json:
        print_json(
            {"path": str(out), "rows": written, "format": arguments.to, "ledger": ledger.as_dict()}
        )
    else:
        text = f"{ledger.describe()}\n{out}: {written} rows written as {arguments.to}\n"
        sys.stdout.write(sanitize(text))
        sys.stdout.flush()
    return 0
