"""Render conversations through a chat template in the limited process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.data.reading.messages import MalformedRowError
from aligner.data.templates.process import worker_process

SECONDS = 10.0
"""Processor time that one text may take; unlike time on the clock, it does not depend on other programs."""
MAX_CONVERSATIONS = 100
"""Conversations in a batch."""
MAX_BYTES = 1 << 23
"""Size of a batch beyond which its conversations are rendered one by one."""


@dataclass(frozen=True)
class RenderRequest:
    """A conversation of JSON's types, and the texts that are wanted of it."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] | None
    wanted: Sequence[tuple[int, bool]]
    """For each text, the number of its messages, and True if it ends with the prompt for an answer."""
    shared: int = 0
    """Number of first messages that are the same as in the request before this one; if there are any,
    the tools are the same too. They are sent once, and their texts rendered once."""


@dataclass(frozen=True)
class RenderReply:
    """The texts of a conversation, in the order in which they were wanted."""

    texts: Sequence[str | MalformedRowError]
    spans: Sequence[tuple[int, int]] = ()
    """The stretches of the first text that the template marks with `{% generation %}`."""


@dataclass(frozen=True)
class Renderer:
    """A chat template with all that it needs besides conversations."""

    templates: tuple[str, str]
    """The template for conversations without tools, and the one for those with tools."""
    variables: Mapping[str, Any]
    """Names that the template knows, such as `bos_token`."""
    marked: bool
    """True if spans are wanted."""

    def render(self, requests: Sequence[RenderRequest]) -> Iterator[RenderReply]:
        """Render conversations in batches.

        A conversation that exceeds a limit has errors in place of its texts, and those after it are rendered.
        """
        for start in range(0, len(requests), MAX_CONVERSATIONS):
            for request, reply in self._exchange(requests[start : start + MAX_CONVERSATIONS]):
                if isinstance(reply, MalformedRowError):
                    yield RenderReply([reply] * len(request.wanted))
                else:
                    spans, *texts = reply
                    yield RenderReply([_text(text, texts[0]) for text in texts], spans)

    def _exchange(
        self, requests: Sequence[RenderRequest]
    ) -> Iterator[tuple[RenderRequest, list[Any] | MalformedRowError]]:
        # JSON keeps all that templates are given, NaN and halves of surrogate pairs too, but for tuples,
        # which become lists, and keys that are numbers, which become texts, as they do where rows are stored.
        conversations = [_sent(each, each.shared if n else 0) for n, each in enumerate(requests)]
        batch = {**vars(self), "seconds": SECONDS, "conversations": conversations}
        line = json.dumps(batch).encode()
        alone = len(requests) == 1
        if alone or len(line) <= MAX_BYTES:
            try:
                replies = json.loads(worker_process().exchange(line, seconds=SECONDS))
            except MalformedRowError as error:
                if alone:
                    yield requests[0], error
                    return
            else:
                yield from zip(requests, replies, strict=True)
                return
        # A conversation that ends the process is identified, and has all the memory, when it is sent alone.
        for request in requests:
            yield from self._exchange([request])


def _sent(request: RenderRequest, shared: int) -> tuple[int, Sequence[Any], Any, Sequence[Any]]:
    """Return a request as it is sent after one with the same first `shared` turns."""
    tools = None if shared else request.tools
    return shared, request.messages[shared:], tools, request.wanted


def _text(text: Any, first: str) -> str | MalformedRowError:
    if isinstance(text, int):
        return first[:text]
    return text if isinstance(text, str) else MalformedRowError(text[0])
