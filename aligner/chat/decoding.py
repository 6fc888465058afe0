"""Turn tokens into text as they come, never half a character and never what would steer a terminal."""

from __future__ import annotations

from typing import Any

from aligner.terminal.text import clean

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Decoder:
    """Takes tokens and gives the text that they add; all of it together is the whole answer's text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._given = 0

    def feed(self, token: int) -> str:
        """What can be shown now: nothing while a character lacks some of its bytes."""
        self._tokens.append(token)
        text = self.text
        return self._new(text, len(text.rstrip(_UNFINISHED)))

    def end(self) -> str:
        """What was held back."""
        text = self.text
        return self._new(text, len(text))

    @property
    def text(self) -> str:
        """All of it so far, as the model said it."""
        return str(
            self._tokenizer.decode(
                self._tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _new(self, text: str, end: int) -> str:
        new = text[self._given : end]
        self._given = max(self._given, end)
        return clean(new)
