"""Write rows in one of the public formats, to JSON lines, CSV or Parquet, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow
import pyarrow.parquet

from aligner.data.reading.contents import suffixes
from aligner.data.rows import Messages, Row
from aligner.errors import DataError, did_you_mean
from aligner.registry import RowKind

Raw = dict[str, Any]

FILES = ("jsonl", "json", "csv", "tsv", "parquet")
"""File name endings of formats that can be written."""


@dataclass(frozen=True)
class Target:
    """A format in which rows are written."""

    kind: RowKind
    raw: Callable[[Any, bool], Raw]
    """Converts a row to the format; with plain texts instead of turns if the second argument is true."""


def _turns(messages: Messages) -> list[Raw]:
    return [dict(message) for message in messages]


def _side(messages: Messages, plain: bool) -> Any:
    return messages[0]["content"] if plain else _turns(messages)


def _with_tools(raw: Raw, row: Any) -> Raw:
    return raw if row.tools is None else raw | {"tools": [dict(tool) for tool in row.tools]}


def _messages(row: Any, plain: bool) -> Raw:
    return _with_tools({"messages": _turns(row.messages)}, row)


def _prompt_completion(row: Any, plain: bool) -> Raw:
    asked, answer = _split_answer(row.messages)
    if not asked or not answer:
        what = "the conversation has no last question that is answered"
        hint = "correct it, or write --to messages"
        raise DataError(what, where=row.origin, hint=hint)
    return _with_tools({"prompt": _side(asked, plain), "completion": _side(answer, plain)}, row)


def _split_answer(messages: Messages) -> tuple[Messages, Messages]:
    """Split a conversation before its last answers."""
    start = len(messages)
    while start and messages[start - 1]["role"] != "user":
        start -= 1
    return messages[:start], messages[start:]


def _prompt(row: Any, plain: bool) -> Raw:
    return _with_tools(dict(row.row) | {"prompt": _side(row.messages, plain)}, row)


def _preference(row: Any, plain: bool) -> Raw:
    sides = {name: _side(getattr(row, name), plain) for name in ("prompt", "chosen", "rejected")}
    return _with_tools(sides | ({} if row.margin is None else {"margin": row.margin}), row)


def _ranking(row: Any, plain: bool) -> Raw:
    answers = [_side(completion, plain) for completion in row.completions]
    raw = {"prompt": _side(row.prompt, plain), "completions": answers, "scores": list(row.scores)}
    return _with_tools(raw, row)


def _completion_with(name: str) -> Callable[[Any, bool], Raw]:
    def raw(row: Any, plain: bool) -> Raw:
        sides = {side: _side(getattr(row, side), plain) for side in ("prompt", "completion")}
        return _with_tools(sides | {name: getattr(row, name)}, row)

    return raw


def _classification(row: Any, plain: bool) -> Raw:
    pair = {} if row.pair is None else {"pair": row.pair}
    return {"text": row.text, **pair, "label": row.label}


TARGETS: Mapping[str, Target] = {
    "messages": Target("conversation", _messages),
    "prompt-completion": Target("conversation", _prompt_completion),
    "prompt": Target("prompt", _prompt),
    "preference": Target("preference", _preference),
    "ranking": Target("ranking", _ranking),
    "prompt-completion-label": Target("label", _completion_with("label")),
    "prompt-completion-score": Target("score", _completion_with("score")),
    "text": Target("text", lambda row, plain: {"text": row.text}),
    "text-label": Target("class", _classification),
}
"""Formats that can be written; aligner reads the same rows from them."""


def find_target(name: str) -> Target:
    """Return the format of this name.

    Raises:
        DataError: there is no such format.
    """
    if name not in TARGETS:
        raise DataError(f"rows cannot be written as {name!r}", hint=did_you_mean(name, TARGETS))
    return TARGETS[name]


def file_kind(path: Path) -> tuple[str, bool]:
    """Return the format of a file by its name, and True if it is compressed by gzip.

    Raises:
        DataError: the ending is unknown or cannot be written.
    """
    kind, packing = suffixes(path.name)
    known = ", ".join(f".{ending}" for ending in FILES)
    if kind not in FILES or packing not in ("", "gz") or (kind == "parquet" and packing):
        hint = f"use one of the endings {known}; all but the last may end in .gz"
        raise DataError(f"files named like {path.name} cannot be written", hint=hint)
    return kind, packing == "gz"


def is_plain(row: Row) -> bool:
    """Return True if a row has only a text of the user and one of the assistant."""
    given = vars(row)
    if "messages" in given:
        asked, answer = _split_answer(row.messages)  # type: ignore[attr-defined]
        sides = [asked, answer] if answer else [asked]
    else:
        sides = [
            given[name] for name in ("prompt", "chosen", "rejected", "completion") if name in given
        ]
        sides += given.get("completions", ())
    return given.get("tools") is None and all(
        len(side) == 1 and set(side[0]) == {"role", "content"} and side[0]["role"] != "system"
        for side in sides
    )


def write_rows(path: Path, rows: Callable[[], Iterable[Row]], to: Target) -> int:
    """Write all of `rows` to `path`, or nothing; return their number.

    Without rows, no file is written. JSON lines and tables of cells are written row by row;
    Parquet and JSON hold all rows in memory.

    Args:
        path: File to write or replace; its name decides the format of the file.
        rows: Returns the rows of the target's kind; called twice, as they are inspected first.
        to: Format of the rows.

    Raises:
        DataError: the format of the file cannot represent the rows, or the file cannot be written.
    """
    kind, packed = file_kind(path)
    plain = all(map(is_plain, rows())) if to.raw is not _messages else False
    if kind in ("csv", "tsv"):
        _refuse_turns(plain, to, path)
    made: Iterator[Raw] = (to.raw(row, plain) for row in rows())
    if (first := next(made, None)) is None:
        return 0
    made = chain([first], made)
    try:
        with _replace_on_success(path) as beside:
            if kind == "parquet":
                return _parquet(beside, list(made), path)
            with _open_text(beside, packed) as file:
                return {"jsonl": _lines, "json": _array, "csv": _cells(","), "tsv": _cells("\t")}[
                    kind
                ](file, made)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None


def _refuse_turns(plain: bool, to: Target, path: Path) -> None:
    if to.kind in ("text", "class"):
        return
    if to.raw is _messages or not plain or to.kind == "ranking":
        what = f"cells of {path.name} contain text, but the rows have lists of turns"
        hint = "write .jsonl or .parquet; prompts and answers of one turn each fit `--to prompt-completion`"
        raise DataError(what, hint=hint)


@contextmanager
def _replace_on_success(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if there is no error."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


@contextmanager
def _open_text(path: Path, packed: bool) -> Iterator[TextIO]:
    with path.open("wb") as file:
        # Without a name and a time in it, the same rows make the same file.
        packer = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if packed else None
        text = io.TextIOWrapper(
            cast("io.BufferedWriter", packer or file), encoding="utf-8", newline=""
        )
        yield text
        text.flush()
        if packer is not None:
            packer.close()


def _lines(file: TextIO, rows: Iterable[Raw]) -> int:
    number = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        number += 1
    return number


def _array(file: TextIO, rows: Iterable[Raw]) -> int:
    whole = list(rows)
    file.write(json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
    return len(whole)


def _cells(delimiter: str) -> Callable[[TextIO, Iterable[Raw]], int]:
    def cells(file: TextIO, rows: Iterable[Raw]) -> int:
        whole = iter(rows)
        first = next(whole)
        names = list(first)
        table = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(names)
        number = 0
        for number, row in enumerate(chain([first], whole), 1):
            if list(row) != names:
                what = f"row {number} has the columns {', '.join(row)}, the first one {', '.join(names)}"
                raise DataError(what, hint="write .jsonl")
            table.writerow([_cell(value) for value in row.values()])
        return number

    return cells


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _parquet(file: Path, rows: Sequence[Raw], path: Path) -> int:
    try:
        # A column that the first row lacks would be left out, without an error.
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: [row.get(name) for row in rows] for name in names}
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
    except pyarrow.ArrowException as error:
        reason = str(error).strip().split("\n")[0][:200]
        what = f"the rows do not fit one table, as {path.name} must contain: {reason}"
        raise DataError(what, hint="write .jsonl") from None
    return len(rows)
