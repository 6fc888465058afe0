"""Which tokens end a model's answers, wherever it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def answer_ends(model: Any, stop_tokens: Sequence[int]) -> tuple[int, ...]:
    """The template's and tokenizer's `stop_tokens`, then those that the model names itself, each once.

    A chat step may give the tokenizer another end of turn; a model still knows the one it was made
    with, and may write it.
    """
    settings = getattr(model, "generation_config", None)
    own = getattr(settings, "eos_token_id", None)
    named = own if isinstance(own, list) else [own]
    return tuple(dict.fromkeys([*stop_tokens, *(int(one) for one in named if one is not None)]))
