"""The chat stage: chat templates and special tokens."""

from collections.abc import Iterable
from typing import Any

import aligner
from aligner_chat.stage import Chat


@aligner.hookimpl
def aligner_stages() -> Iterable[type[aligner.Stage[Any]]]:
    yield Chat
