"""Chat templates and special tokens, as an aligner plugin."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_chat.stage import Chat


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Chat
