"""Read the rows of a file as a stream, each with its file and line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from aligner.data.options import DataSpec
from aligner.data.reading import tables
from aligner.data.reading.contents import Content, suffixes
from aligner.data.reading.tables import RawRow
from aligner.errors import AlignerError, DataError

SEPARATOR = "<|endoftext|>"
"""Line between documents in files of plain text, as in the training data of GPT-2."""


def read_rows(content: Content, spec: DataSpec) -> Iterator[RawRow]:
    """Yield the rows of a file.

    Raises:
        DataError: the file does not have the format of its name. The error of a single row is yielded
            instead of the row, so that it can be skipped.
    """
    content.refuse_blank()
    kind, _ = suffixes(content.name)
    if kind not in READABLE:
        hint = f"known: {', '.join('.' + k for k in sorted(READABLE))}, packed or not"
        raise DataError(
            f"no reader for files called .{kind}"
            if kind
            else ("the file's name does not say its format"),
            where=content.name,
            hint=hint,
        )
    try:
        yield from READERS[kind](content, spec)
    except UnicodeDecodeError:
        raise content.not_utf8() from None


def _json_lines(content: Content, _: DataSpec) -> Iterator[RawRow]:
    with content.text() as text:
        first = next((line for line in text if line.strip()), "")
    if first.lstrip().startswith("[") and _is_array(content):
        hint = "call the file .json, or write one object a line"
        raise DataError("a JSON array where lines were expected", where=content.name, hint=hint)
    with content.text() as text:
        for number, line in enumerate(text, 1):
            if line.strip():
                origin = f"{content.name}:{number}"
                try:
                    yield origin, json.loads(line.removesuffix("\n"))
                except (ValueError, RecursionError) as error:
                    yield origin, _not_json(error, origin)


def _is_array(content: Content) -> bool:
    with content.text() as text:
        try:
            whole = json.load(text)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError):
            return False
    return isinstance(whole, list) and bool(whole) and isinstance(whole[0], dict | str)


def _not_json(error: Exception, origin: str, what: str = "not JSON") -> AlignerError:
    if not isinstance(error, json.JSONDecodeError):
        return DataError(f"{what}: nested too deeply", where=origin)
    return DataError(f"{what}: {error.msg} at column {error.colno}", where=origin)


def _json(content: Content, spec: DataSpec) -> Iterator[RawRow]:
    name = content.name
    if _holds_lines(content):
        yield from _json_lines(content, spec)  # many .json files hold JSON lines
        return
    with content.text() as text:
        try:
            whole = json.load(text)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
            raise _not_json(error, f"{name}:{line}") from None
    if isinstance(whole, dict):
        lists = [key for key, value in whole.items() if isinstance(value, list)]
        keys = ", ".join(repr(key[:30]) for key in list(whole)[:5])
        hint = "write a list of objects, or one object a line"
        if len(lists) == 1 and len(whole) == 1:
            hint += f": the content of {lists[0]!r}"
        raise DataError(f"the file contains one object ({keys}), not rows", where=name, hint=hint)
    if not isinstance(whole, list) or not whole:
        raise DataError("the file has no rows", where=name)
    for index, row in enumerate(whole):
        yield f"{name}[{index}]", {"text": row} if isinstance(row, str) else row


def _holds_lines(content: Content) -> bool:
    """Return True if the first of several lines is an object by itself."""
    with content.text() as text:
        written = (line for line in text if line.strip())
        first = next(written, "").lstrip()
        if not first.startswith("{") or next(written, None) is None:
            return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _text(content: Content, spec: DataSpec) -> Iterator[RawRow]:
    if spec.documents == "line":
        with content.text() as text:
            for number, line in enumerate(text, 1):
                yield from _document([line], number, content.name)
        return
    ends = _BORDERS[spec.documents]
    document: list[str] = []
    start = 1
    with content.text() as text:
        for number, line in enumerate(text, 1):
            if ends(line):
                yield from _document(document, start, content.name)
                document, start = [], number + 1
            else:
                document.append(line)
    yield from _document(document, start, content.name)


def _document(lines: Sequence[str], start: int, name: str) -> Iterator[RawRow]:
    document = "".join(lines)
    if document.strip():
        lead = document[: len(document) - len(document.lstrip())].count("\n")
        yield f"{name}:{start + lead}", {"text": document.strip()}


_BORDERS: Mapping[str, Callable[[str], bool]] = {
    # Without such a line the file is one document.
    "auto": lambda line: line.startswith(SEPARATOR) and line.rstrip(" \t\r\n") == SEPARATOR,
    "paragraph": lambda line: not line.strip(" \t\r\n"),
    "file": lambda line: False,
}

READERS: Mapping[str, Callable[[Content, DataSpec], Iterator[RawRow]]] = {
    "json": _json,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "csv": tables.separated_reader(","),
    "tsv": tables.separated_reader("\t"),
    "txt": _text,
    "md": _text,
    "parquet": tables.read_parquet,
    "arrow": tables.read_arrow,
}
READABLE = frozenset(READERS)
"""File name endings that can be read, without those of compression."""
