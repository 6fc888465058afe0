"""Redirect the output of libraries to a log file, without secrets."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO, cast

from aligner.terminal.text import sanitize

_OUR_FILES = str(Path(__file__).parents[2])


def _ignore(text: str) -> None:
    """Ignore a warning; the log has it in any case."""


class OutputCapture:
    """Collects the output of a command: first in a temporary file, then in the log of a run."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self.stdout, self.stderr = stdout, stderr
        """The original streams, for messages to the user."""
        self.log: Path | None = None
        self.warn: Callable[[str], None] = _ignore
        """Called with aligner's own warnings, which the user should see at once."""
        # Unbuffered, so that output through the descriptors keeps its place among the lines.
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `close` does
        self._start = 0

    @property
    def has_output(self) -> bool:
        """True if anything was written in this process."""
        return self._file.tell() > self._start

    def text(self) -> str:
        """Return the output so far."""
        end = self._file.tell()
        self._file.seek(0)
        text = self._file.read().decode("utf-8", "backslashreplace")
        self._file.seek(end)
        return sanitize(text)

    def write(self, line: str) -> None:
        # Without a lock, which a process that is forked just now would hold forever: each line is
        # one unbuffered write at the end of the file.
        self._file.write(sanitize(line).encode("utf-8", "backslashreplace"))

    def log_to(self, path: Path) -> None:
        """Append the output so far to `path`, and write further output there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, file = self._file, path.open("ab", buffering=0)
        self._start = file.tell()
        temporary.seek(0)
        shutil.copyfileobj(temporary, file)
        self._file, self.log = file, path
        self.redirect_descriptors()
        temporary.close()

    def redirect_descriptors(self) -> None:
        """Redirect descriptors 1 and 2, for output that does not pass through Python."""
        for number in _open_descriptors():
            os.dup2(self._file.fileno(), number)

    def close(self) -> None:
        self._file.close()


@contextmanager
def capture_output(*, warn: Callable[[str], None] = _ignore) -> Iterator[OutputCapture]:
    """Capture everything written to standard output and error, by any part of the process.

    Args:
        warn: Called with aligner's own warnings, until `OutputCapture.warn` is set.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    saved = {number: os.dup(number) for number in _open_descriptors()}
    capture = OutputCapture(_duplicate(before[0], saved), _duplicate(before[1], saved))
    capture.warn = warn
    streams = _LineStream(capture.write, before[0]), _LineStream(capture.write, before[1])
    try:
        capture.redirect_descriptors()
        # `print`, warnings and logging use only these methods of TextIO.
        sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", streams)
        with warnings.catch_warnings():
            warnings.showwarning = _showwarning(capture)
            yield capture
    finally:
        for stream in streams:
            stream.release()
        sys.stdout, sys.stderr = before
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)
        for ours, original in zip((capture.stdout, capture.stderr), before, strict=True):
            with suppress(OSError):  # the reader is gone
                ours.flush()
                if ours is not original:
                    ours.close()
        capture.close()


class _LineStream(io.TextIOBase):
    """A stream that passes on whole lines; of a line that is redrawn, only its last state.

    Libraries keep the stream that they found, so after `release` it writes to the original one.
    """

    encoding = "utf-8"

    def __init__(self, write_line: Callable[[str], None], original: TextIO) -> None:
        self._write_line, self._original = write_line, original
        self._rest, self._released = "", False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._released:
            return self._original.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        self._rest = _last_state(self._rest)
        for line in lines:
            self._write_line(_last_state(line).rstrip("\r") + "\n")
        return len(text)

    def flush(self) -> None:
        if self._released:
            self._original.flush()

    def fileno(self) -> int:
        return self._original.fileno()

    def release(self) -> None:
        if self._rest:
            self._write_line(self._rest + "\n")
        self._rest, self._released = "", True


def _last_state(line: str) -> str:
    """Return what a line shows after all its carriage returns."""
    before, _, last = line.rpartition("\r")
    return last or (before.rpartition("\r")[2] + "\r" if before else "")


def _showwarning(capture: OutputCapture) -> Callable[..., None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # the signature of warnings.showwarning
        line: str | None = None,
    ) -> None:
        capture.write(warnings.formatwarning(message, category, filename, lineno, line))
        if filename.startswith(_OUR_FILES):
            capture.warn(str(message))

    return show


def _open_descriptors() -> tuple[int, ...]:
    """Return those of descriptors 1 and 2 that are open."""
    numbers = []
    for number in (1, 2):
        with suppress(OSError):
            os.fstat(number)
            numbers.append(number)
    return tuple(numbers)


def _duplicate(stream: TextIO, saved: dict[int, int]) -> TextIO:
    """Return a stream to the current target of `stream`, independent of its descriptor."""
    try:
        copy = saved.get(stream.fileno())
    except (OSError, AttributeError, ValueError):
        copy = None
    if copy is None:
        return stream
    return os.fdopen(
        os.dup(copy), "w", encoding=stream.encoding, errors="backslashreplace", buffering=1
    )
