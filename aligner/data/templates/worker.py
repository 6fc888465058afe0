"""Program of the process that renders chat templates, with limited memory and processor time.

Requests are lines of JSON on the standard input, replies are lines of JSON on the standard output. The
process ends when its input ends, that is, with its parent, however that ends.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from jinja2 import TemplateError

from aligner.data.templates.environment import render

MEMORY = 512
"""MiB that requests and templates may take, beyond what the process has at its start."""
MAX_RATIO = 64
"""Factor by which a text may be longer than its conversation, beyond the first 1 Mi characters."""


def main() -> None:
    """Answer requests until the input ends."""
    _limit()
    gc.freeze()
    gc.set_threshold(50_000)  # rendering makes little garbage that refers to itself
    # The pipe breaks if the parent ends before it has read a reply.
    with suppress(BrokenPipeError), open(0, "rb", buffering=1 << 20) as requests:
        _answer(requests, sys.stdout.buffer)
    os._exit(0)


def _answer(requests: BinaryIO, replies: BinaryIO) -> None:
    replies.write(b"ready\n")
    replies.flush()
    while (line := requests.readline()).endswith(b"\n"):
        batch = json.loads(line)
        replies.write(json.dumps(list(_replies(batch))).encode() + b"\n")
        replies.flush()


def _limit() -> None:
    """Limit the memory of this process, forbid it to write files, and let SIGPROF end it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    mapped = Path("/proc/self/statm")
    if mapped.exists():  # as on Linux; macOS keeps to no such limit
        most = int(mapped.read_text().split()[0]) * resource.getpagesize() + (MEMORY << 20)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})


def _replies(batch: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Render the conversations of a batch, and once only what one shares with the one before it."""
    messages: list[Any] = []
    tools: Any = None
    wanted: list[tuple[int, bool]] = []
    reply: list[Any] = [[]]
    for shared, own_messages, own_tools, own_wanted in batch["conversations"]:
        known = {
            (count, ask): text
            for (count, ask), text in zip(wanted, reply[1:], strict=True)
            if count <= shared and not isinstance(text, list)
        }
        messages = messages[:shared] + own_messages
        tools, wanted = tools if shared else own_tools, own_wanted
        reply = _reply(batch, messages, tools, wanted, (known, reply[1] if known else ""))
        yield reply


def _reply(
    batch: Mapping[str, Any],
    messages: list[Any],
    tools: Any,
    wanted: list[tuple[int, bool]],
    before: tuple[Mapping[tuple[int, bool], str | int], str],
) -> list[Any]:
    """Render all texts of one conversation.

    Args:
        batch: The request.
        messages: Turns of the conversation.
        tools: Its tools, if it has any.
        wanted: Its texts.
        before: Texts in the reply before this one that are the same in this conversation, and the first
            text of that reply.

    Returns:
        The stretches of the first text that the template marks, then for each text itself, or the number
        of its characters where it is a beginning of the first, or a list with an error message.
    """
    (count, ask), *others = wanted
    first, spans = _text(batch, messages[:count], tools, ask=ask)
    reply: list[Any] = [spans, first]
    known, whole = before
    for count, ask in others:
        text: Any = known.get((count, ask))
        if isinstance(text, int):
            text = whole[:text]
        elif text is None:
            text, _ = _text(batch, messages[:count], tools, ask=ask)
        begins = isinstance(first, str) and isinstance(text, str) and first.startswith(text)
        reply.append(len(text) if begins else text)
    return reply


def _text(
    batch: Mapping[str, Any], messages: list[Any], tools: Any, *, ask: bool
) -> tuple[str | list[str], list[tuple[int, int]]]:
    """Render one text; return it with the stretches that the template marks, or a list with an error."""
    # The kernel sends SIGPROF at the limit, which ends loops inside the interpreter's C code too.
    signal.setitimer(signal.ITIMER_PROF, batch["seconds"])
    given = {
        **batch["variables"],
        "messages": messages,
        "tools": tools,
        "documents": None,
        "add_generation_prompt": ask,
    }
    try:
        text, spans = render(batch["templates"][tools is not None], given)
    except Exception as error:  # a template can raise anything
        return [_message(error)], []
    if len(text) > 1 << 20 and len(text) > (1 << 20) + MAX_RATIO * (length := _length(given)):
        what = f"the chat template makes {len(text)} characters from a conversation of {length}"
        return [what], []
    return text, spans


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError):
        gc.collect()
        return f"the chat template needs more than {MEMORY} MiB of memory"
    what = (str(error).strip().split("\n")[0] or type(error).__name__)[:200]
    if isinstance(error, TemplateError):
        return f"the chat template refuses it: {what}"
    return f"the chat template fails on it: {type(error).__name__}: {what}"


def _length(given: Mapping[str, Any]) -> int:
    return sum(len(str(message)) for message in given["messages"]) + len(str(given["tools"] or ""))


if __name__ == "__main__":
    main()
