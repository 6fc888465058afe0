"""Start, use and end the process that renders chat templates."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache

from aligner.data.reading.messages import MalformedRowError


class WorkerProcess:
    """The process that runs `worker.py`: started when first needed, and anew after it has ended.

    It is a fresh interpreter, never a fork: this process runs the threads of torch and of tokenizers, may
    fill most of the memory, and has files, sockets and an accelerator open that must not stay open in
    another one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def exchange(self, request: bytes, *, seconds: float) -> bytes:
        """Send a line of JSON, and return the line that answers it.

        Raises:
            MalformedRowError: A template ended the process, at its limit of `seconds` or otherwise.
        """
        with self._lock:
            try:
                if self._process is None or self._process.poll() is not None:
                    self.stop()
                    self._process = _start()
                reply = _reply(self._process, request)
                if not reply.endswith(b"\n"):
                    raise MalformedRowError(_end_reason(self._process.wait(), seconds))
            except BaseException:
                # A reply that nobody took must not be read as that to the next request.
                self.stop()
                raise
            return reply

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _reply(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    unsent = memoryview(request + b"\n")
    with suppress(BrokenPipeError):
        while unsent:
            unsent = unsent[os.write(process.stdin.fileno(), unsent) :]
    return process.stdout.readline()


def _end_reason(code: int, seconds: float) -> str:
    if code == -signal.SIGPROF:
        return f"the chat template has not finished after {seconds:g} seconds"
    how = signal.strsignal(-code) if code < 0 else f"exit status {code}"
    return f"the process that renders the chat template ended: {how}"


def _start() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "aligner.data.templates.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=1 << 20,
        # It finds all modules where this process does.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # The signals of a terminal are for this process, which ends the other one itself.
        start_new_session=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        process.kill()
        process.communicate()
        what = "the process that renders chat templates does not start; its error is printed above"
        raise RuntimeError(what)
    return process


@cache
def worker_process() -> WorkerProcess:
    """Return the process that all templates of this process share."""
    return WorkerProcess()


# A fork must neither write to the process of its parent nor end it: it starts one of its own.
os.register_at_fork(after_in_child=worker_process.cache_clear)
atexit.register(lambda: worker_process().stop())
