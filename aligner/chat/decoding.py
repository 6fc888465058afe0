"""Decode tokens to text one at a time, without partial characters or terminal control codes."""

from __future__ import annotations

from typing import Any

from aligner.terminal.text import escape_controls

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class StreamDecoder:
    """Takes tokens and returns the text that each adds; the parts add up to the whole answer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._returned = 0

    def feed(self, token: int) -> str:
        """Add a token and return the new text: nothing while a character lacks some of its bytes."""
        self._tokens.append(token)
        text = self.text
        return self._new(text, len(text.rstrip(_INCOMPLETE)))

    def end(self) -> str:
        """Return the rest of the text."""
        text = self.text
        return self._new(text, len(text))

    @property
    def text(self) -> str:
        """The text so far, exactly as the model generated it."""
        return str(
            self._tokenizer.decode(
                self._tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _new(self, text: str, end: int) -> str:
        new = text[self._returned : end]
        self._returned = max(self._returned, end)
        return escape_controls(new)
