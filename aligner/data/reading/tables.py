"""Read rows of tables: CSV and TSV with or without a header, Parquet and Arrow."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TextIO

import pyarrow
import pyarrow.parquet

from aligner.data.options import DataSpec
from aligner.data.reading.contents import Content
from aligner.errors import DataError

HEADER_ROWS = 10_000
"""Number of lines of a table without a header that decide the names of its columns."""
_AT_ONCE = 1 << 20
"""Number of bytes that are searched for quotation marks at a time."""

RawRow = tuple[str, Any]
"""The origin of a row, and the row or the error because of which it cannot be read."""


def separated_reader(delimiter: str) -> Callable[[Content, DataSpec], Iterator[RawRow]]:
    def read_table(content: Content, spec: DataSpec) -> Iterator[RawRow]:
        # A quotation mark inside a cell of tab-separated text is nothing special; in CSV it quotes.
        plain = delimiter == "\t" and not _has_quoted_cells(content)
        with content.text(newline="") as text:
            lines = _cells(text, content.name, delimiter, plain=plain)
            head = list(islice(lines, HEADER_ROWS))
            if not head:
                raise DataError("the file has no rows", where=content.name)
            origin, first = head[0]
            named = spec.header if spec.header is not None else _is_header(first)
            columns = (
                [cell.strip() for cell in first] if named else _default_names([c for _, c in head])
            )
            for origin, cells in chain(head[1:] if named else head, lines):
                if len(cells) != len(columns):
                    what = f"{len(cells)} cells where there are {len(columns)} columns"
                    yield origin, DataError(what, where=origin)
                else:
                    yield (
                        origin,
                        {n: _parse_cell(n, c) for n, c in zip(columns, cells, strict=True)},
                    )

    return read_table


def _cells(
    text: TextIO, name: str, delimiter: str, *, plain: bool
) -> Iterator[tuple[str, list[str]]]:
    table = csv.reader(
        text, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
    )
    start = 1
    while (cells := _next_line(table, f"{name}:{start}")) is not None:
        if any(cell.strip() for cell in cells):
            yield f"{name}:{start}", cells
        start = table.line_num + 1


def _next_line(table: Iterator[list[str]], where: str) -> list[str] | None:
    before = csv.field_size_limit(1 << 30)  # of the whole process, so only while a line is read
    try:
        return next(table, None)
    except csv.Error as error:
        raise DataError(f"not readable as a table: {error}", where=where) from None
    finally:
        csv.field_size_limit(before)


def _has_quoted_cells(content: Content) -> bool:
    """Return True if a cell of tab-separated text begins and ends with a quotation mark."""
    quoted = re.compile(r'(?:^|\t)"[^\t]*"(?:\t|\r?$)', re.MULTILINE)
    rest = ""
    with content.text() as text:
        while lines := text.readlines(_AT_ONCE):
            part = rest + "".join(lines)
            if quoted.search(part):
                return True
            # A cell may go on in the next lines, up to the next tab.
            rest = part[max(part.rfind("\t"), 0) :]
    return False


def _is_header(cells: Sequence[str]) -> bool:
    """Return True if the first line looks like column names: short, distinct, no numbers."""
    names = [cell.strip() for cell in cells]
    wordy = all(re.fullmatch(r"[^\W\d][\w .()/#-]{0,40}", n) and n.count(" ") < 3 for n in names)
    return wordy and len(set(names)) == len(names)


def _default_names(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return column names for a table without a header: `text` and `label` if it looks like that."""
    width = len(lines[0])
    if width == 1:
        return ["text"]
    if width == 2:
        labels = {line[-1] for line in lines}
        if all(len(label) <= 20 for label in labels) and 2 * len(labels) <= len(lines):
            return ["text", "label"]
    return [f"column{number}" for number in range(1, width + 1)]


def _parse_cell(column: str, cell: str) -> Any:
    """Return a cell as text; in columns of labels, scores and margins as a number or boolean."""
    if column in ("label", "score", "margin") and cell.strip():
        word = cell.strip()
        if word.lower() in ("true", "false"):
            return word.lower() == "true"
        for kind in (int, float):
            try:
                return kind(word)
            except ValueError:
                continue
    return cell


def drop_nulls(value: Any, *, top: bool = True) -> Any:
    """Remove nested keys with null, which Arrow adds where another row has the key."""
    if isinstance(value, dict):
        kept = value.items() if top else ((k, v) for k, v in value.items() if v is not None)
        return {key: drop_nulls(item, top=False) for key, item in kept}
    if isinstance(value, list):
        return [drop_nulls(item, top=False) for item in value]
    return value


def read_parquet(content: Content, _: DataSpec) -> Iterator[RawRow]:
    try:
        with _seekable(content) as source:
            file = pyarrow.parquet.ParquetFile(source)
            yield from _batches(file.iter_batches(batch_size=1000), content.name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {_first_line(error)}", where=content.name) from None


def read_arrow(content: Content, _: DataSpec) -> Iterator[RawRow]:
    try:
        with _seekable(content) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            if is_file:
                file = pyarrow.ipc.open_file(source)
                batches = (file.get_batch(index) for index in range(file.num_record_batches))
                yield from _batches(batches, content.name)
            else:
                yield from _batches(pyarrow.ipc.open_stream(source), content.name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not an Arrow file: {_first_line(error)}", where=content.name) from None


def _seekable(content: Content) -> Any:
    """Open a file with random access, which these formats need."""
    if content.packing:
        return pyarrow.BufferReader(content.whole())
    if content.path is not None:
        return pyarrow.memory_map(str(content.path))
    return pyarrow.PythonFile(content.open(), "r")


def _batches(batches: Any, name: str) -> Iterator[RawRow]:
    index = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{name}[{index}]", drop_nulls(row)
            index += 1


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
