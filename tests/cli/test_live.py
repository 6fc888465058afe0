"""The live display, in a terminal emulator with the few control sequences that it uses."""

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
    """The lines of a terminal, including those that scrolled away."""

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            if match := _SEQUENCE.match(text, at):
                self._control(match[3], int(match[2] or 1), private=bool(match[1]))
                at = match.end()
                continue
            self._put(text[at])
            at += 1

    def text(self) -> list[str]:
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

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            assert char >= " ", f"control character {char!r} reached the terminal"
            assert self.column < self.columns, (
                f"a line wider than the terminal: {self.lines[self.row]}"
            )
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1


def reset_signals() -> None:
    """Restore the default handlers; the program that starts the tests may ignore signals."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def in_terminal(
    *words: str,
    columns: int = 80,
    environment: dict[str, str] | None = None,
    watch: Callable[[list[str], subprocess.Popen[bytes]], None] = lambda lines, process: None,
    seconds: float = 30,
) -> tuple[int, list[str]]:
    """Run `python -m aligner.cli` in a terminal, and return its exit code and the final lines.

    Args:
        watch: Called with the lines after each piece of output.
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
        preexec_fn=reset_signals,
    )
    os.close(inner)
    screen, pending, end = Screen(columns), b"", time.monotonic() + seconds
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
            pending += piece
            # An incomplete character or control sequence waits for its rest.
            complete = max(pending.rfind(b"\n"), pending.rfind(b"m"), pending.rfind(b"\r")) + 1
            screen.feed(pending[:complete].decode())
            pending = pending[complete:]
            watch(screen.text(), process)
        screen.feed(pending.decode())
        return process.wait(timeout=5), screen.text()
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


@pytest.mark.parametrize(("columns", "expected"), [(80, WIDE), (40, NARROW)])
def test_the_display_ends_with_finished_steps_and_the_summary_table(
    desk: Path, columns: int, expected: str
) -> None:
    code, lines = in_terminal("run", "small.yaml", columns=columns)
    assert (code, timeless(lines)) == (0, expected)


def test_the_running_step_is_drawn_in_place_with_bar_metrics_and_remaining_time(
    desk: Path,
) -> None:
    drawn: list[str] = []
    code, _ = in_terminal(
        "run",
        "small.yaml",
        "--set",
        "again.pause=0.5",
        watch=lambda lines, process: drawn.append(timeless(lines)),
    )
    assert code == 0
    assert RUNNING in drawn


def test_ctrl_c_keeps_finished_steps_and_prints_a_hint_to_resume(desk: Path) -> None:
    def interrupt(lines: list[str], process: subprocess.Popen[bytes]) -> None:
        if any("loss 0.5" in line for line in lines):
            process.send_signal(signal.SIGINT)

    code, lines = in_terminal("run", "small.yaml", "--set", "again.pause=0.5", watch=interrupt)
    assert code == 75
    assert timeless([line for line in lines if line]) == (
        "✓ 1/4 make  done in TTT s\n"
        "✓ 2/4 tune  done in TTT s · loss 0.7143 · accuracy 0.75\n"
        "■ 3/4 again  stopped after TTT s\n"
        "small.yaml:6: interrupted in step 'again'; the steps before it are kept\n"
        "  hint: run the same command again to resume"
    )


def test_a_closed_terminal_stops_the_run_in_order(desk: Path) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aligner.cli", "run", "small.yaml", "--set", "tune.pause=1"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
        preexec_fn=reset_signals,
    )
    os.close(inner)
    output = b""
    while b"tune  4 steps" not in output.replace(b"\x1b[2m", b"").replace(b"\x1b[0m", b""):
        output += os.read(outer, 65536)
    os.close(outer)
    # The terminal is not the controlling one of this session, so the kernel sends no signal.
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 75
    last = json.loads(Path("runs/small/journal.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"]) == ("step failed", "tune")


def test_output_of_libraries_does_not_disturb_the_display(desk: Path) -> None:
    words = ("--set", "tune.says=hello", "--set", "tune.pause=0.1")
    code, lines = in_terminal("run", "small.yaml", *words)
    assert (code, timeless(lines)) == (
        0,
        WIDE.replace("\ntime ", "\nlog       runs/small/log.txt\ntime "),
    )


def test_a_dumb_terminal_gets_plain_lines(desk: Path) -> None:
    code, lines = in_terminal("run", "small.yaml", environment={"TERM": "dumb"})
    assert (code, lines[0]) == (0, "[1/4] make: a new model, 8 wide")


@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_disables_colors(desk: Path, environment: dict[str, str], colored: bool) -> None:
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
    # 30 to 37 are colors; bold and dim may stay.
    assert bool(re.search(rb"\x1b\[(?:\d+;)*3[0-7]m", raw)) is colored
