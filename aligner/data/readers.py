"""Read the rows of one file, each with the place it was written at, whatever the file's format."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping

from aligner.data import tables
from aligner.data.spec import DataSpec
from aligner.data.tables import Placed
from aligner.errors import AlignerError, DataError

SEPARATOR = "<|endoftext|>"
"""The line between documents in files of plain text, as GPT-2's training data had it."""


def suffixes(name: str) -> tuple[str, str]:
    """The format and the packing that a file's name says it has.

    >>> suffixes("a/train.jsonl.gz"), suffixes("b.CSV")
    (('jsonl', 'gz'), ('csv', ''))
    """
    parts = name.rsplit("/", 1)[-1].lower().split(".")[1:]
    packing = parts.pop() if parts and parts[-1] in PACKINGS else ""
    return (parts[-1] if parts else ""), packing


def _unzstd(data: bytes) -> bytes:
    try:
        import zstandard  # an extra: only .zst files need it
    except ImportError:
        hint = "pip install aligner[zstd], or unpack the file"
        raise DataError("reading .zst needs zstandard, which is not installed", hint=hint) from None
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        return bytes(stream.read())


PACKINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "zst": _unzstd,
}


def unpack(data: bytes, name: str, packing: str) -> bytes:
    """Undo the packing of a file.

    Raises:
        DataError: it is not packed so, or not whole.
    """
    if not packing:
        return data
    try:
        return PACKINGS[packing](data)
    except DataError as error:
        raise DataError(error.what, where=name, hint=error.hint) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"the .{packing} file cannot be unpacked: {error}", where=name) from None
    except Exception as error:  # zstandard's own error has no base class but Exception
        raise DataError(f"the .{packing} file cannot be unpacked: {error}", where=name) from None


def decode(data: bytes, name: str) -> str:
    """Bytes as UTF-8 text; a byte order mark is left out.

    Raises:
        DataError: naming the line that is not UTF-8.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("the file is UTF-16", where=name, hint="save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise DataError(what, where=f"{name}:{line}", hint="save the file as UTF-8") from None


def read(data: bytes, name: str, spec: DataSpec) -> Iterator[Placed]:
    """Rows of the file `name` with the (unpacked) content `data`.

    Raises:
        DataError: the file is not what its name says. What is wrong with a single row is yielded in
            its place, so that it can be skipped.
    """
    if not data.strip(b"\xef\xbb\xbf \t\r\n\0"):
        raise DataError("the file is empty" if not data else "the file holds nothing", where=name)
    kind, _ = suffixes(name)
    if kind in TABLES:
        yield from TABLES[kind](data, name)
    elif kind in TEXTS:
        yield from TEXTS[kind](decode(data, name), name, spec)
    else:
        hint = f"known: {', '.join('.' + k for k in sorted({*TEXTS, *TABLES}))}, packed or not"
        raise DataError(
            f"no reader for files called .{kind}"
            if kind
            else ("the file's name does not say its format"),
            where=name,
            hint=hint,
        )


def _json_lines(text: str, name: str, _: DataSpec) -> Iterator[Placed]:
    if text.lstrip()[0] == "[" and _is_array(text):
        hint = "call the file .json, or write one object a line"
        raise DataError("a JSON array where lines were expected", where=name, hint=hint)
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            origin = f"{name}:{number}"
            try:
                yield origin, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield origin, _not_json(error, origin)


def _is_array(text: str) -> bool:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(whole, list) and bool(whole) and isinstance(whole[0], dict | str)


def _not_json(error: Exception, origin: str, what: str = "not JSON") -> AlignerError:
    if not isinstance(error, json.JSONDecodeError):
        return DataError(f"{what}: nested too deeply", where=origin)
    return DataError(f"{what}: {error.msg} at column {error.colno}", where=origin)


def _json(text: str, name: str, spec: DataSpec) -> Iterator[Placed]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        first = text.lstrip().split("\n", 1)[0]
        if first.startswith("{") and _one_object(first):
            yield from _json_lines(text, name, spec)  # many .json files hold JSON lines
            return
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise _not_json(error, f"{name}:{line}") from None
    if isinstance(whole, dict):
        lists = [key for key, value in whole.items() if isinstance(value, list)]
        keys = ", ".join(repr(key[:30]) for key in list(whole)[:5])
        hint = "write a list of objects, or one object a line"
        if len(lists) == 1 and len(whole) == 1:
            hint += f": what {lists[0]!r} holds"
        raise DataError(f"the file holds one object ({keys}), not rows", where=name, hint=hint)
    if not isinstance(whole, list) or not whole:
        raise DataError("the file holds no rows", where=name)
    for index, row in enumerate(whole):
        yield f"{name}[{index}]", {"text": row} if isinstance(row, str) else row


def _one_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _text(text: str, name: str, spec: DataSpec) -> Iterator[Placed]:
    parted = re.compile(rf"^{re.escape(SEPARATOR)}[ \t\r]*$", re.MULTILINE)
    how = spec.documents
    if how == "auto":
        how = "separator" if parted.search(text) else "file"  # type: ignore[assignment]
    pattern = {
        "separator": parted,
        "line": re.compile(r"\n"),
        "paragraph": re.compile(r"\n[ \t\r]*\n\s*"),
        "file": re.compile(r"(?!)"),
    }[how]
    start, line = 0, 1
    for match in [*pattern.finditer(text), None]:
        end = match.start() if match else len(text)
        document = text[start:end]
        if document.strip():
            lead = document[: len(document) - len(document.lstrip())].count("\n")
            yield f"{name}:{line + lead}", {"text": document.strip()}
        following = match.end() if match else end
        line += text.count("\n", start, following)
        start = following


TEXTS: Mapping[str, Callable[[str, str, DataSpec], Iterator[Placed]]] = {
    "json": _json,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "csv": tables.separated(","),
    "tsv": tables.separated("\t"),
    "txt": _text,
    "md": _text,
}
TABLES: Mapping[str, Callable[[bytes, str], Iterator[Placed]]] = {
    "parquet": tables.parquet,
    "arrow": tables.arrow,
}
READABLE = frozenset({*TEXTS, *TABLES})
"""The file name endings, packing aside, that can be read."""
