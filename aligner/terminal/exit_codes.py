"""Run a command so that it ends well, whatever happens: a clear message and the right exit code."""

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
from aligner.terminal.text import one_line, safe, without_secrets

STOPPED = 75
"""EX_TEMPFAIL: stopped, and the same command goes on."""
_BROKEN_PIPE = 128 + signal.SIGPIPE
_NOBODY_READS = (errno.EPIPE, errno.EIO)
"""What writing to a closed pipe, or to a terminal that has gone, fails with."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Told(Exception):  # it says that an error has been dealt with
    """The user has been told; the process only has to end with `exit_code`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def guarded(arguments: argparse.Namespace) -> int:
    """Run the command in `arguments` and turn every way it can end into an exit code."""
    try:
        with _asked_to_stop():
            code = int(arguments.act(arguments))
            sys.stdout.flush()
            return code
    except Told as told:
        return told.exit_code
    except AlignerError as error:
        say(str(error), sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped\n  hint: give the same command again to go on", sys.stderr)
        return STOPPED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NOBODY_READS:
            # As when `head` has seen enough; the interpreter must not try to write it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE
        if getattr(arguments, "verbose", False):
            say(full_text(error), sys.stderr)
        else:
            say(f"{in_brief(error)}\n  the full text is in {_kept(error)}", sys.stderr)
        return 1


def say(text: str, file: TextIO) -> None:
    """Write `text` without control characters and secrets; of several processes, say which."""
    rank = processes.rank()
    with suppress(OSError):  # nobody is there to be told
        print(safe(f"process {rank}: {text}" if rank else text), file=file, flush=True)


def in_brief(error: BaseException) -> str:
    """What a library's error says, without its traceback: type, message, and the notes on it."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "\n  ".join([said, *(one_line(note) for note in getattr(error, "__notes__", ()))])


def full_text(error: BaseException) -> str:
    """The whole traceback, without secrets."""
    return without_secrets("".join(traceback.format_exception(error)))


def _kept(error: BaseException) -> Path:
    handle, name = tempfile.mkstemp(prefix="aligner-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(full_text(error))
    return Path(name)


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C: what runs then ends in good order."""

    def stop(number: int, frame: FrameType | None) -> None:  # a handler's signature
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Only where nobody has decided otherwise: `nohup` ignores SIGHUP, a program around us may
    # have a handler of its own.
    ours = [one for one in _SIGNALS if signal.getsignal(one) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
