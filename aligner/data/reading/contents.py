"""Open files, local or remote, compressed or not, as streams that can be opened again."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aligner.errors import DataError

_CHUNK = 1 << 18
"""Number of bytes that are decompressed at a time."""


def _zstandard(packed: BinaryIO) -> Any:
    try:
        import zstandard  # an extra: only .zst files need it
    except ImportError:
        hint = "pip install aligner[zstd], or unpack the file"
        raise DataError("reading .zst needs zstandard, which is not installed", hint=hint) from None
    return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)


PACKINGS: Mapping[str, Callable[[BinaryIO], Any]] = {
    "gz": lambda packed: gzip.GzipFile(fileobj=packed),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zst": _zstandard,
}
"""Function that decompresses a stream, by the ending of the file name."""


def suffixes(name: str) -> tuple[str, str]:
    """Return the format and the compression of a file, by its name.

    >>> suffixes("a/train.jsonl.gz"), suffixes("b.CSV")
    (('jsonl', 'gz'), ('csv', ''))
    """
    parts = name.rsplit("/", 1)[-1].lower().split(".")[1:]
    packing = parts.pop() if parts and parts[-1] in PACKINGS else ""
    return (parts[-1] if parts else ""), packing


@dataclass(frozen=True)
class Content:
    """A file, local or remote; only `whole` reads all its bytes into memory."""

    name: str
    """Name of the file in messages."""
    packed: Callable[[], BinaryIO]
    """Opens the stored bytes."""
    path: Path | None = None
    """Path of the file on this machine, if it is local."""

    @property
    def packing(self) -> str:
        return suffixes(self.name)[1]

    def open(self) -> BinaryIO:
        """Open the decompressed bytes; reading raises DataError if they are damaged or incomplete."""
        packed = self.packed()
        if not self.packing:
            return packed
        return io.BufferedReader(_Unpacked(packed, self.name, self.packing), _CHUNK)

    def whole(self) -> bytes:
        with self.open() as stream:
            return stream.read()

    def text(self, newline: str = "\n") -> io.TextIOWrapper:
        """Open the content as UTF-8 text without a byte order mark; `newline` is that of `open`.

        Reading anything else raises UnicodeDecodeError: see `not_utf8`.

        Raises:
            DataError: it is UTF-16.
        """
        with self.open() as beginning:
            if beginning.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise DataError("the file is UTF-16", where=self.name, hint="save it as UTF-8")
        return io.TextIOWrapper(self.open(), encoding="utf-8-sig", newline=newline)

    def not_utf8(self) -> DataError:
        """Return an error that names the first line that is not UTF-8."""
        hint = "save the file as UTF-8"
        with self.open() as stream:
            for number, line in enumerate(stream, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    what = f"byte 0x{line[error.start]:02x} is not UTF-8"
                    return DataError(what, where=f"{self.name}:{number}", hint=hint)
        return DataError("the file is not UTF-8", where=self.name, hint=hint)

    def refuse_blank(self) -> None:
        """Raise DataError if the file is empty or blank."""
        with self.open() as stream:
            chunk = stream.read(_CHUNK)
            if not chunk:
                raise DataError("the file is empty", where=self.name)
            while chunk and not chunk.strip(b"\xef\xbb\xbf \t\r\n\0"):
                chunk = stream.read(_CHUNK)
            if not chunk:
                raise DataError("the file is blank", where=self.name)


class _Unpacked(io.RawIOBase):
    """A compressed stream that is decompressed while it is read, and raises DataError."""

    def __init__(self, packed: BinaryIO, name: str, packing: str) -> None:
        self._packed, self._name, self._packing = packed, name, packing
        try:
            self._inner = PACKINGS[packing](packed)
        except DataError as error:
            raise DataError(error.what, where=name, hint=error.hint) from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise self._error(error) from None
        except Exception as error:  # zstandard's own error has no base class but Exception
            raise self._error(error) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._packed.close()
        super().close()

    def _error(self, error: Exception) -> DataError:
        return DataError(f"the .{self._packing} file cannot be unpacked: {error}", where=self._name)


def hash_chunks(chunks: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of bytes in chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()
