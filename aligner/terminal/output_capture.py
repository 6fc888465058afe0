"""Keep what libraries print out of the display and in a log file, without secrets."""

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

from aligner.terminal.text import safe

_OURS = str(Path(__file__).parents[2])


def _unheard(text: str) -> None:
    """Where warnings go that nobody asked to hear; they are in the log in any case."""


class Chatter:
    """Where the standard streams lead while a command runs: first aside, then to a run's log."""

    def __init__(self, screen: TextIO, errors: TextIO) -> None:
        self.screen, self.errors = screen, errors
        """The streams as they were: what is for the user goes there."""
        self.log: Path | None = None
        self.warn: Callable[[str], None] = _unheard
        """Hears aligner's own warnings, which the user should see at once."""
        # Without a buffer, so that what comes through the descriptors falls into line.
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `close` does
        self._begun = 0

    @property
    def anything(self) -> bool:
        """Whether anything was written since the log was opened, or before."""
        return self._file.tell() > self._begun

    def said(self) -> str:
        """What has been kept aside so far."""
        end = self._file.tell()
        self._file.seek(0)
        text = self._file.read().decode("utf-8", "backslashreplace")
        self._file.seek(end)
        return safe(text)

    def write(self, line: str) -> None:
        # Without a lock, which a process that is forked just now would hold for ever: each line is
        # one unbuffered write at the end of the file.
        self._file.write(safe(line).encode("utf-8", "backslashreplace"))

    def into(self, path: Path) -> None:
        """Append what has been kept aside to `path`, and keep the rest there too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside, file = self._file, path.open("ab", buffering=0)
        self._begun = file.tell()
        aside.seek(0)
        shutil.copyfileobj(aside, file)
        self._file, self.log = file, path
        self.lead_descriptors()
        aside.close()

    def lead_descriptors(self) -> None:
        """Send what is written past Python, to descriptors 1 and 2, the same way."""
        _lead(self._file, _standard())

    def close(self) -> None:
        self._file.close()


@contextmanager
def kept(*, warn: Callable[[str], None] = _unheard) -> Iterator[Chatter]:
    """Keep everything written to standard output and error, by whatever part of the process.

    Args:
        warn: Hears aligner's own warnings until `Chatter.warn` is set to something else.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    saved = {number: os.dup(number) for number in _standard()}
    chatter = Chatter(_apart(before[0], saved), _apart(before[1], saved))
    chatter.warn = warn
    streams = _Lines(chatter.write, before[0]), _Lines(chatter.write, before[1])
    try:
        chatter.lead_descriptors()
        # They are streams of text as `print`, warnings and logging use them, if not all of TextIO.
        sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", streams)
        with warnings.catch_warnings():
            warnings.showwarning = _showing(chatter)
            yield chatter
    finally:
        for stream in streams:
            stream.release()
        sys.stdout, sys.stderr = before
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)
        for ours, old in zip((chatter.screen, chatter.errors), before, strict=True):
            with suppress(OSError):  # what has not been shown by now has nobody to see it
                ours.flush()
                if ours is not old:
                    ours.close()
        chatter.close()


class _Lines(io.TextIOBase):
    """A stream that passes whole lines on; of a line drawn over and over, what it said last.

    Libraries keep hold of the stream they found, so after `release` it leads to the old one.
    """

    encoding = "utf-8"

    def __init__(self, keep: Callable[[str], None], old: TextIO) -> None:
        self._keep, self._old, self._held, self._released = keep, old, "", False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._released:
            return self._old.write(text)
        *lines, self._held = (self._held + text).split("\n")
        self._held = _last_drawn(self._held)
        for line in lines:
            self._keep(_last_drawn(line).rstrip("\r") + "\n")
        return len(text)

    def flush(self) -> None:
        if self._released:
            self._old.flush()

    def fileno(self) -> int:
        return self._old.fileno()

    def release(self) -> None:
        if self._held:
            self._keep(self._held + "\n")
        self._held, self._released = "", True


def _last_drawn(line: str) -> str:
    """What a line shows once every carriage return in it has taken effect."""
    kept, _, last = line.rpartition("\r")
    return last or (kept.rpartition("\r")[2] + "\r" if kept else "")


def _showing(chatter: Chatter) -> Callable[..., None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # the signature of warnings.showwarning
        line: str | None = None,
    ) -> None:
        chatter.write(warnings.formatwarning(message, category, filename, lineno, line))
        if filename.startswith(_OURS):
            chatter.warn(str(message))

    return show


def _standard() -> tuple[int, ...]:
    """Descriptors 1 and 2, those of them that are open."""
    found = []
    for number in (1, 2):
        with suppress(OSError):
            os.fstat(number)
            found.append(number)
    return tuple(found)


def _apart(stream: TextIO, saved: dict[int, int]) -> TextIO:
    """A stream to where `stream` leads now, whatever becomes of its descriptor."""
    try:
        copy = saved.get(stream.fileno())
    except (OSError, AttributeError, ValueError):
        copy = None
    if copy is None:
        return stream
    return os.fdopen(
        os.dup(copy), "w", encoding=stream.encoding, errors="backslashreplace", buffering=1
    )


def _lead(file: IO[bytes], numbers: tuple[int, ...]) -> None:
    for number in numbers:
        os.dup2(file.fileno(), number)
