"""Run a command and turn every outcome into a message and an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from aligner.errors import AlignerError
from aligner.run import processes
from aligner.terminal.text import hide_secrets, one_line, sanitize

STOPPED = 75
"""EX_TEMPFAIL: stopped; the same command resumes."""
_BROKEN_PIPE = 128 + signal.SIGPIPE
_READER_GONE = (errno.EPIPE, errno.EIO)
"""Errors of writing to a closed pipe or a closed terminal."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class ReportedError(Exception):
    """An error that has been printed; the process only has to end with `exit_code`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command in `arguments` and return its exit code, also after an error."""
    try:
        with _signals_as_interrupts():
            code = int(arguments.action(arguments))
            sys.stdout.flush()
            return code
    except ReportedError as error:
        return error.exit_code
    except AlignerError as error:
        print_message(str(error), sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print_message("stopped\n  hint: the same command resumes", sys.stderr)
        return STOPPED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _READER_GONE:
            # As with `| head`; the interpreter must not try to write the rest again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE
        if getattr(arguments, "verbose", False):
            print_message(full_text(error), sys.stderr)
        else:
            print_message(f"{short_text(error)}\n  full traceback: {_write(error)}", sys.stderr)
        return 1


def print_message(text: str, file: TextIO) -> None:
    """Print `text` without control characters and secrets; later processes add their rank."""
    rank = processes.rank()
    with suppress(OSError):  # the reader is gone
        print(sanitize(f"process {rank}: {text}" if rank else text), file=file, flush=True)


def short_text(error: BaseException) -> str:
    """Return type, message and notes of an error, without its traceback."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "\n  ".join([text, *(one_line(note) for note in getattr(error, "__notes__", ()))])


def full_text(error: BaseException) -> str:
    """Return the traceback without secrets."""
    return hide_secrets("".join(traceback.format_exception(error)))


def _write(error: BaseException) -> Path:
    handle, name = tempfile.mkstemp(prefix="aligner-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(full_text(error))
    return Path(name)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C, so that a run ends in order."""

    def stop(number: int, frame: FrameType | None) -> None:  # a handler's signature
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Only signals with the default handler: `nohup` ignores SIGHUP, and a program that calls us may
    # have its own handler.
    ours = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
