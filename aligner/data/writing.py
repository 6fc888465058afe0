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
"""What can be written, by the ends of files' names."""


@dataclass(frozen=True)
class Target:
    """A format to write rows in."""

    kind: RowKind
    raw: Callable[[Any, bool], Raw]
    """One row as the format has it; plain texts in place of turns where that is said."""


def _turns(messages: Messages) -> list[Raw]:
    return [dict(message) for message in messages]


def _side(messages: Messages, plain: bool) -> Any:
    return messages[0]["content"] if plain else _turns(messages)


def _with_tools(raw: Raw, row: Any) -> Raw:
    return raw if row.tools is None else raw | {"tools": [dict(one) for one in row.tools]}


def _messages(row: Any, plain: bool) -> Raw:
    return _with_tools({"messages": _turns(row.messages)}, row)


def _prompt_completion(row: Any, plain: bool) -> Raw:
    asked, answer = _parted(row.messages)
    if not asked or not answer:
        what = "the conversation has no last question that is answered"
        hint = "correct it, or write --to messages"
        raise DataError(what, where=row.origin, hint=hint)
    return _with_tools({"prompt": _side(asked, plain), "completion": _side(answer, plain)}, row)


def _parted(messages: Messages) -> tuple[Messages, Messages]:
    """A conversation up to its last run of answers, and that."""
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
    answers = [_side(one, plain) for one in row.completions]
    raw = {"prompt": _side(row.prompt, plain), "completions": answers, "scores": list(row.scores)}
    return _with_tools(raw, row)


def _judged(name: str) -> Callable[[Any, bool], Raw]:
    def raw(row: Any, plain: bool) -> Raw:
        sides = {side: _side(getattr(row, side), plain) for side in ("prompt", "completion")}
        return _with_tools(sides | {name: getattr(row, name)}, row)

    return raw


def _classified(row: Any, plain: bool) -> Raw:
    pair = {} if row.pair is None else {"pair": row.pair}
    return {"text": row.text, **pair, "label": row.label}


TARGETS: Mapping[str, Target] = {
    "messages": Target("conversation", _messages),
    "prompt-completion": Target("conversation", _prompt_completion),
    "prompt": Target("prompt", _prompt),
    "preference": Target("preference", _preference),
    "ranking": Target("ranking", _ranking),
    "prompt-completion-label": Target("label", _judged("label")),
    "prompt-completion-score": Target("score", _judged("score")),
    "text": Target("text", lambda row, plain: {"text": row.text}),
    "text-label": Target("class", _classified),
}
"""The formats that can be written; aligner reads all of them back as the rows they were."""


def find_target(name: str) -> Target:
    """The format of this name.

    Raises:
        DataError: rows are not written so.
    """
    if name not in TARGETS:
        raise DataError(f"rows are not written as {name!r}", hint=did_you_mean(name, TARGETS))
    return TARGETS[name]


def file_kind(path: Path) -> tuple[str, bool]:
    """What the name of a file to be written says: its format, and whether it is packed by gzip.

    Raises:
        DataError: nothing, or something that cannot be written.
    """
    kind, packing = suffixes(path.name)
    known = ", ".join(f".{one}" for one in FILES)
    if kind not in FILES or packing not in ("", "gz") or (kind == "parquet" and packing):
        hint = f"call it one of {known}; all but the last may end in .gz"
        raise DataError(f"files called like {path.name} are not written", hint=hint)
    return kind, packing == "gz"


def is_plain(row: Row) -> bool:
    """Whether a row says no more than one text from the user and one from the assistant."""
    given = vars(row)
    if "messages" in given:
        asked, answer = _parted(row.messages)  # type: ignore[attr-defined]
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
    """Write `rows` to `path`, so that it holds all of them or is not there; how many there are.

    Nothing is written where there are none. JSON lines and tables of cells are written row by row;
    Parquet and JSON hold all rows in memory.

    Args:
        path: Where; its name says the file's format. What is there is replaced.
        rows: Gives the rows of the target's kind, each time from the start: they are looked at first.
        to: The format.

    Raises:
        DataError: the file's format cannot hold the rows, or nothing can be written there.
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
        with _replacing(path) as beside:
            if kind == "parquet":
                return _parquet(beside, list(made), path)
            with _opened(beside, packed) as file:
                return {"jsonl": _lines, "json": _array, "csv": _cells(","), "tsv": _cells("\t")}[
                    kind
                ](file, made)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None


def _refuse_turns(plain: bool, to: Target, path: Path) -> None:
    if to.kind in ("text", "class"):
        return
    if to.raw is _messages or not plain or to.kind == "ranking":
        what = f"cells of {path.name} hold texts, and the rows have lists of turns"
        hint = "write .jsonl or .parquet; prompts and answers of one turn each fit `--to prompt-completion`"
        raise DataError(what, hint=hint)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A place to write, which takes the place of `path` if all goes well."""
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
def _opened(path: Path, packed: bool) -> Iterator[TextIO]:
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
        said = str(error).strip().split("\n")[0][:200]
        what = f"the rows do not fit one table, as {path.name} would hold: {said}"
        raise DataError(what, hint="write .jsonl") from None
    return len(rows)
