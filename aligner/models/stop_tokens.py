"""Tokens that end a model's completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def add_model_stop_tokens(model: Any, stop_tokens: Sequence[int]) -> tuple[int, ...]:
    """Return the tokenizer's stop tokens and those of the model's generation config, without duplicates.

    After a chat step changes the tokenizer's end of turn, a model may still generate its original one.
    """
    config = getattr(model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    own = eos if isinstance(eos, list) else [eos]
    return tuple(dict.fromkeys([*stop_tokens, *(int(token) for token in own if token is not None)]))
