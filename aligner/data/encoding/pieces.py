"""Tokenize texts in pieces, so that no token crosses the start or end of a trained turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from aligner.data.encoding.tokenizers import reset_batching
from aligner.data.templates.rendering import MARKED, OPEN, control_tokens


class TextPiece(NamedTuple):
    """A section of text that becomes whole tokens."""

    text: str
    trained: bool = False
    answer: int | None = None
    """Number of the assistant turn that contains it, if that is trained."""
    literal: bool = False
    """True for the text of a control token that must be tokenized as plain text."""
    continues: bool = False
    """True if text precedes it, rather than a control token or nothing."""


class TextPieceEncoder:
    """Tokenizer of pieces; the ids of a piece do not depend on earlier calls."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._backend: Tokenizer = tokenizer.backend_tokenizer
        self.control = control_tokens(tokenizer)
        self.unknown = -1 if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)
        """Id of the token for what the tokenizer does not know; -1 where it knows everything."""
        reset_batching(tokenizer)
        self.anchor = self._find_anchor()
        self._alone = Lock()
        added = tokenizer.added_tokens_decoder.values()
        self._names = tuple(self.control)
        self._swallowing = tuple(
            token.content for token in added if token.rstrip and token.content in self.control
        )
        self._spelled = re.compile("|".join(map(re.escape, self.control)) or "(?!)")

    def _ends_in_control(self, text: str) -> bool:
        """Return True if `text` ends with a control token or white space that belongs to one."""
        if text.endswith(self._names):
            return True
        return bool(self._swallowing) and text.rstrip().endswith(self._swallowing)

    def _find_anchor(self) -> str:
        """Return a text to tokenize before continuing pieces, if the tokenizer adds a space to texts.

        Empty where encoding a piece alone and after other text is the same.
        """
        probes = ("a", " a", "\na", "1", ".")
        for anchor in ("\n", "\ue000", "|", ":"):
            alone = _plain_ids(self._backend, probes, literal=False)
            after = [self._after(anchor, probe) for probe in probes]
            if None not in after:
                return "" if alone == after else anchor
        return ""

    def _after(self, anchor: str, text: str) -> list[int] | None:
        return self._ids_after(
            self._backend.encode(anchor + text, add_special_tokens=False), anchor
        )

    @staticmethod
    def _ids_after(encoded: object, anchor: str) -> list[int] | None:
        """Return the ids after the anchor, or None if a token crosses its end."""
        ids, offsets = encoded.ids, encoded.offsets  # type: ignore[attr-defined]  # tokenizers.Encoding
        first = next((i for i, (_, end) in enumerate(offsets) if end > len(anchor)), len(ids))
        if first < len(ids) and offsets[first][0] < len(anchor):
            return None
        return list(ids[first:])

    def spells_control(self, text: str) -> bool:
        """Return True if `text` contains the text of a control token."""
        return bool(self._spelled.search(text))

    def frame(self) -> tuple[list[int], list[int]]:
        """Return the ids before and after a document: those that the tokenizer adds, and one `eos`."""
        encode = self._backend.encode
        reset_batching(self._tokenizer)
        bare, whole = encode("a", add_special_tokens=False).ids, encode("a").ids
        first = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0)
        begin, end = whole[:first], whole[first + len(bare) :]
        eos = self._tokenizer.eos_token_id
        return begin, end if eos is None or eos in end else [*end, eos]

    def split(self, text: str, sections: Sequence[tuple[int, bool, int | None]]) -> list[TextPiece]:
        """Split rendered text into sections, and these at control tokens that users wrote.

        Args:
            text: Rendered, with such spellings marked.
            sections: Of each, where it ends, whether it is trained, and which answer it is.
        """
        pieces: list[TextPiece] = []
        start = 0
        marked = OPEN in text
        continues = False
        for end, trained, answer in sections:
            section = text[start:end]
            parts = MARKED.split(section) if marked and OPEN in section else (section,)
            literal = False
            for part in parts:
                if part:
                    pieces.append(TextPiece(part, trained, answer, literal, continues))
                    # What users wrote is text, also where it ends like a control token.
                    continues = literal or not self._ends_in_control(part)
                literal = not literal
            start = end
        return pieces

    def encode(self, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Return the ids of each piece, in one batch; equal pieces share one list.

        Two threads may ask at once; they are served one after the other.
        """
        with self._alone:
            return self._encode(pieces)

    def _encode(self, pieces: Sequence[TextPiece]) -> list[list[int]]:
        wanted = [
            (piece.text, piece.literal, piece.continues and bool(self.anchor)) for piece in pieces
        ]
        ids: dict[tuple[str, bool, bool], list[int]] = {}
        for literal in (False, True):
            for anchored in (False, True):
                # Each once: the same words of a template stand in every row.
                chosen = list(
                    dict.fromkeys(key for key in wanted if key[1] == literal and key[2] == anchored)
                )
                if chosen:
                    texts = [text for text, _, _ in chosen]
                    encoded = self._batch(texts, literal=literal, anchored=anchored)
                    ids.update(zip(chosen, encoded, strict=True))
        return [ids[key] for key in wanted]

    def _batch(self, texts: list[str], *, literal: bool, anchored: bool) -> list[list[int]]:
        reset_batching(self._tokenizer)
        if not anchored:
            return _plain_ids(self._backend, texts, literal=literal)
        self._backend.encode_special_tokens = literal
        try:
            encoded = self._backend.encode_batch(
                [self.anchor + text for text in texts], add_special_tokens=False
            )
        finally:
            self._backend.encode_special_tokens = False
        ids_after = [self._ids_after(encoding, self.anchor) for encoding in encoded]
        alone = [text for text, ids in zip(texts, ids_after, strict=True) if ids is None]
        rest = iter(_plain_ids(self._backend, alone, literal=literal) if alone else ())
        return [next(rest) if ids is None else ids for ids in ids_after]


def _plain_ids(backend: Tokenizer, texts: Sequence[str], *, literal: bool) -> list[list[int]]:
    """Return the ids of texts without added special tokens."""
    backend.encode_special_tokens = literal
    try:
        return [
            encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)
        ]
    finally:
        backend.encode_special_tokens = False
