"""Read rows that stand in tables: CSV and TSV with or without a header, Parquet and Arrow."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from aligner.data.spec import DataSpec
from aligner.errors import DataError

Placed = tuple[str, Any]
"""A row's origin and the row; or, in place of the row, the error that says why it cannot be read."""


def separated(delimiter: str) -> Callable[[str, str, DataSpec], Iterator[Placed]]:
    def read_table(text: str, name: str, spec: DataSpec) -> Iterator[Placed]:
        lines = _cells(text, name, delimiter)
        origin, first = lines[0]
        named = spec.header if spec.header is not None else _names_columns(first)
        columns = [cell.strip() for cell in first] if named else _unnamed([c for _, c in lines])
        for origin, cells in lines[1:] if named else lines:
            if len(cells) != len(columns):
                what = f"{len(cells)} cells where there are {len(columns)} columns"
                yield origin, DataError(what, where=origin)
            else:
                yield origin, {n: _value(n, c) for n, c in zip(columns, cells, strict=True)}

    return read_table


def _cells(text: str, name: str, delimiter: str) -> list[tuple[str, list[str]]]:
    # A quotation mark inside a cell of tab-separated text is nothing special; in CSV it quotes.
    plain = delimiter == "\t" and not _quotes(text)
    before = csv.field_size_limit(1 << 30)
    try:
        table = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        )
        lines, start = [], 1
        for cells in table:
            if any(cell.strip() for cell in cells):
                lines.append((f"{name}:{start}", cells))
            start = table.line_num + 1
        return lines
    except csv.Error as error:
        raise DataError(f"not readable as a table: {error}", where=f"{name}:{start}") from None
    finally:
        csv.field_size_limit(before)


def _quotes(text: str) -> bool:
    """Whether cells of tab-separated text are quoted: some begin and end with the mark."""
    return bool(re.search(r'(?:^|\t)"[^\t]*"(?:\t|\r?$)', text, re.MULTILINE))


def _names_columns(cells: Sequence[str]) -> bool:
    """Whether a table's first line reads like names: short, distinct, and none of them a number."""
    names = [cell.strip() for cell in cells]
    wordy = all(re.fullmatch(r"[^\W\d][\w .()/#-]{0,40}", n) and n.count(" ") < 3 for n in names)
    return wordy and len(set(names)) == len(names)


def _unnamed(lines: Sequence[Sequence[str]]) -> list[str]:
    """Names for the columns of a table that has none: a text and its label where it looks so."""
    width = len(lines[0])
    if width == 1:
        return ["text"]
    if width == 2:
        labels = {line[-1] for line in lines}
        if all(len(label) <= 20 for label in labels) and 2 * len(labels) <= len(lines):
            return ["text", "label"]
    return [f"column{number}" for number in range(1, width + 1)]


def _value(column: str, cell: str) -> Any:
    """A cell as text; the columns that hold numbers or verdicts by their meaning as those."""
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


def without_nulls(value: Any, *, top: bool = True) -> Any:
    """Leave out the nested keys that Arrow's structs hold as null because a sibling row has them."""
    if isinstance(value, dict):
        kept = value.items() if top else ((k, v) for k, v in value.items() if v is not None)
        return {key: without_nulls(one, top=False) for key, one in kept}
    if isinstance(value, list):
        return [without_nulls(one, top=False) for one in value]
    return value


def parquet(data: bytes, name: str) -> Iterator[Placed]:
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        yield from _batches(file.iter_batches(batch_size=1000), name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {_line(error)}", where=name) from None


def arrow(data: bytes, name: str) -> Iterator[Placed]:
    source = pyarrow.BufferReader(data)
    try:
        is_file = data[:6] == b"ARROW1"
        if is_file:
            file = pyarrow.ipc.open_file(source)
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
            yield from _batches(batches, name)
        else:
            yield from _batches(pyarrow.ipc.open_stream(source), name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not an Arrow file: {_line(error)}", where=name) from None


def _batches(batches: Any, name: str) -> Iterator[Placed]:
    index = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{name}[{index}]", without_nulls(row)
            index += 1


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
