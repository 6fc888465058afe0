"""Decode single tokens exactly, and tell control tokens from text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from aligner.data.templates.rendering import control_tokens

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_METASPACE = "\u2581"
_PLAIN = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_BYTE_OF = {chr(byte): byte for byte in _PLAIN} | {
    chr(256 + number): byte for number, byte in enumerate(sorted({*range(256)} - {*_PLAIN}))
}
"""The byte that each character of byte-level vocabularies stands for (Radford 2019)."""


class TokenSpeller:
    """Decoder of the single tokens of a tokenizer; each is decoded once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._control = {token: name for name, token in control_tokens(tokenizer).items()}
        added = tokenizer.added_tokens_decoder
        self._added = {int(token): str(entry.content) for token, entry in added.items()}
        self._read = _reading(tokenizer)
        self._known: dict[int, str] = {}

    def special(self, token: int) -> bool:
        """Return True if `token` is a control token."""
        return token in self._control

    def text(self, token: int) -> str:
        """Return the text of `token`; bytes that are not a whole character are written as `\\xf0`."""
        if token not in self._known:
            self._known[token] = self._spelled(token)
        return self._known[token]

    def _spelled(self, token: int) -> str:
        if token in self._control or token in self._added:
            return self._control.get(token) or self._added[token]
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return f"<no token {token}>"
        read = self._read(str(piece))
        if read is not None:
            return read
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))


def _reading(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str | None]:
    """Return a function that decodes an entry of the vocabulary, or returns None if it cannot."""
    decoder = tokenizer.backend_tokenizer.decoder
    kinds = _kinds(json.loads(decoder.__getstate__())) if decoder is not None else ()
    if "ByteLevel" in kinds:
        return _of_byte_level
    return _of_metaspace if _METASPACE in str(kinds) or "Metaspace" in kinds else _of_nothing_known


def _kinds(decoder: Any) -> Sequence[str]:
    """Return the types of all decoders in `decoder`, and the patterns that they replace."""
    if isinstance(decoder, dict):
        own = [str(decoder.get("type", ""))]
        own += [str(value) for key, value in decoder.items() if key == "pattern"]
        return own + [kind for inner in decoder.get("decoders", ()) for kind in _kinds(inner)]
    return ()


def _of_byte_level(piece: str) -> str | None:
    if any(character not in _BYTE_OF for character in piece):
        return None
    return bytes(_BYTE_OF[character] for character in piece).decode("utf-8", "backslashreplace")


def _of_metaspace(piece: str) -> str:
    if match := _BYTE.fullmatch(piece):
        return bytes([int(match[1], 16)]).decode("utf-8", "backslashreplace")
    return piece.replace(_METASPACE, " ")


def _of_nothing_known(piece: str) -> None:
    return None
