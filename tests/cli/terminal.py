"""A terminal to run a command in: it knows just enough of the control sequences to say what is seen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping

_SEQUENCE = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])")


class Screen:
    """Lines as a terminal would show them, those scrolled away included."""

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            if found := _SEQUENCE.match(text, at):
                self._control(found[3], int(found[2] or 1), private=bool(found[1]))
                at = found.end()
                continue
            self._put(text[at])
            at += 1

    def seen(self) -> list[str]:
        return [line.rstrip() for line in self.lines]

    def _control(self, letter: str, number: int, *, private: bool) -> None:
        if private or letter == "m":
            return
        if letter == "A":
            self.row -= number
        elif letter == "K":
            self.lines[self.row] = ""
        else:
            raise AssertionError(f"control sequence {letter!r} is not known here")

    def _put(self, one: str) -> None:
        if one == "\r":
            self.column = 0
        elif one == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            assert one >= " ", f"control character {one!r} reached the terminal"
            assert self.column < self.columns, f"a line wider than the terminal: {self.lines[self.row]}"
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + one + line[self.column + 1 :]
            self.column += 1


def in_terminal(
    *words: str,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[list[str], subprocess.Popen[bytes]], None] = lambda seen, process: None,
    seconds: float = 30,
) -> tuple[int, list[str]]:
    """Run `python -m aligner.cli WORDS` in a terminal: its exit code, and what is seen at the end.

    Args:
        watch: Called with what is seen after each piece of output.
    """
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    settings = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "aligner.cli", *words],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=settings | {"TERM": "xterm-256color"} | dict(environment or {}),
        start_new_session=True,
    )
    os.close(inner)
    screen, held, end = Screen(columns), b"", time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if not select.select([outer], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(outer, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            held += piece
            # Of a character or control sequence that has not all arrived, nothing is shown yet.
            cut = max(held.rfind(b"\n"), held.rfind(b"m"), held.rfind(b"\r")) + 1
            screen.feed(held[:cut].decode())
            held = held[cut:]
            watch(screen.seen(), process)
        screen.feed(held.decode())
        return process.wait(timeout=5), screen.seen()
    finally:
        process.kill()
        process.wait()
        os.close(outer)
