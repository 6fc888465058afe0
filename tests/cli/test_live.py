"""The live display, in a terminal that knows just enough control sequences to say what is seen."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

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
            assert self.column < self.columns, (
                f"a line wider than the terminal: {self.lines[self.row]}"
            )
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + one + line[self.column + 1 :]
            self.column += 1


def hearing() -> None:
    """Let signals act on the process to be: what starts the tests may have them ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def in_terminal(
    *words: str,
    columns: int = 80,
    environment: dict[str, str] | None = None,
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
        env=settings | {"TERM": "xterm-256color"} | (environment or {}),
        start_new_session=True,
        preexec_fn=hearing,
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


def timeless(lines: list[str]) -> str:
    return re.sub(r"\d+\.\d s", "TTT s", "\n".join(lines).rstrip())


WIDE = """\
✓ 1/4 make  done in TTT s
✓ 2/4 tune  done in TTT s · loss 0.7143 · accuracy 0.75
✓ 3/4 again  done in TTT s · loss 0.3333 · accuracy 0.75
✓ 4/4 measure  done in TTT s · score 0.5

    step       time   metrics
─────────────────────────────────────────────────
1   make      TTT s
2   tune      TTT s   loss 0.7143 · accuracy 0.75
3   again     TTT s   loss 0.3333 · accuracy 0.75
4   measure   TTT s   score 0.5

run       runs/small
policy    runs/small/steps/3-again/policy
tokenizer runs/small/steps/1-make/tokenizer
time      TTT s"""
NARROW = """\
✓ 1/4 make  done in TTT s
✓ 2/4 tune  done in TTT s ·
loss 0.7143 · accuracy 0.75
✓ 3/4 again  done in TTT s ·
loss 0.3333 · accuracy 0.75
✓ 4/4 measure  done in TTT s · score 0.5

1 make  TTT s
2 tune  TTT s
  loss 0.7143 · accuracy 0.75
3 again  TTT s
  loss 0.3333 · accuracy 0.75
4 measure  TTT s
  score 0.5

run       runs/small
policy
  runs/small/steps/3-again/policy
tokenizer
  runs/small/steps/1-make/tokenizer
time      TTT s"""
RUNNING = """\
✓ 1/4 make  done in TTT s
✓ 2/4 tune  done in TTT s · loss 0.7143 · accuracy 0.75
▶ 3/4 again  4 steps at rate 0.5
  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 50% 2/4
  TTT s · TTT s left
  loss 0.5 · 12.3k tokens/s
· then measure"""


@pytest.mark.parametrize(("columns", "shown"), [(80, WIDE), (40, NARROW)])
def test_the_display_leaves_finished_steps_and_the_closing_table(
    desk: Path, columns: int, shown: str
) -> None:
    code, seen = in_terminal("run", "small.yaml", columns=columns)
    assert (code, timeless(seen)) == (0, shown)


def test_the_running_step_is_drawn_in_place_with_its_bar_figures_and_time_left(
    desk: Path,
) -> None:
    drawn: list[str] = []
    code, _ = in_terminal(
        "run",
        "small.yaml",
        "--set",
        "again.pause=0.5",
        watch=lambda seen, process: drawn.append(timeless(seen)),
    )
    assert code == 0
    assert RUNNING in drawn


def test_ctrl_c_leaves_what_is_finished_and_says_how_to_go_on(desk: Path) -> None:
    def interrupt(seen: list[str], process: subprocess.Popen[bytes]) -> None:
        if any("loss 0.5" in line for line in seen):
            process.send_signal(signal.SIGINT)

    code, seen = in_terminal("run", "small.yaml", "--set", "again.pause=0.5", watch=interrupt)
    assert code == 75
    assert timeless([line for line in seen if line]) == (
        "✓ 1/4 make  done in TTT s\n"
        "✓ 2/4 tune  done in TTT s · loss 0.7143 · accuracy 0.75\n"
        "■ 3/4 again  stopped after TTT s\n"
        "small.yaml:6: interrupted in step 'again'; the steps before it are kept\n"
        "  hint: run the same command again to resume"
    )


def test_a_terminal_that_is_closed_stops_the_run_in_good_order(desk: Path) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aligner.cli", "run", "small.yaml", "--set", "tune.pause=1"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
        preexec_fn=hearing,
    )
    os.close(inner)
    held = b""
    while b"tune  4 steps" not in held.replace(b"\x1b[2m", b"").replace(b"\x1b[0m", b""):
        held += os.read(outer, 65536)
    os.close(outer)
    # The terminal is not this session's own, so the kernel does not send what it would send.
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 75
    last = json.loads(Path("runs/small/journal.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"]) == ("step failed", "tune")


def test_chatter_of_libraries_does_not_disturb_the_display(desk: Path) -> None:
    words = ("--set", "tune.says=hello", "--set", "tune.pause=0.1")
    code, seen = in_terminal("run", "small.yaml", *words)
    assert (code, timeless(seen)) == (
        0,
        WIDE.replace("\ntime ", "\nlog       runs/small/log.txt\ntime "),
    )


def test_a_dumb_terminal_gets_plain_lines(desk: Path) -> None:
    code, seen = in_terminal("run", "small.yaml", environment={"TERM": "dumb"})
    assert (code, seen[0]) == (0, "[1/4] make: a new model, 8 wide")


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_takes_the_colours_away(
    desk: Path, environment: dict[str, str], coloured: bool
) -> None:
    raw = b""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aligner.cli", "stages"],
        stdout=inner,
        env=os.environ | {"TERM": "xterm-256color"} | environment,
    )
    os.close(inner)
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:
            break
        raw += piece
    os.close(outer)
    assert process.wait(timeout=20) == 0
    # 30 to 37 are colours; bold and dim may stay.
    assert bool(re.search(rb"\x1b\[(?:\d+;)*3[0-7]m", raw)) is coloured
