"""Turn texts into token ids piece by piece, so that no token crosses a border that matters."""

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
    """A stretch of text that becomes whole tokens."""

    text: str
    trained: bool = False
    answer: int | None = None
    """Which of the assistant's turns it belongs to, where it is trained."""
    literal: bool = False
    """Spells a control token that must be encoded as text."""
    continues: bool = False
    """Follows text, not a control token and not the start."""


class TextPieceEncoder:
    """Encodes pieces with one tokenizer, the same whatever was encoded before."""

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
            one.content for one in added if one.rstrip and one.content in self.control
        )
        self._spelled = re.compile("|".join(map(re.escape, self.control)) or "(?!)")

    def _ends_in_control(self, text: str) -> bool:
        """Whether `text` ends with a control token, or with what such a token swallows."""
        if text.endswith(self._names):
            return True
        return bool(self._swallowing) and text.rstrip().endswith(self._swallowing)

    def _find_anchor(self) -> str:
        """A text to encode in front of continuing pieces, where a tokenizer puts a space before texts.

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
        return self._cut(self._backend.encode(anchor + text, add_special_tokens=False), anchor)

    @staticmethod
    def _cut(encoded: object, anchor: str) -> list[int] | None:
        """The ids after the anchor, or None where a token crosses its end."""
        ids, offsets = encoded.ids, encoded.offsets  # type: ignore[attr-defined]  # tokenizers.Encoding
        first = next((i for i, (_, end) in enumerate(offsets) if end > len(anchor)), len(ids))
        if first < len(ids) and offsets[first][0] < len(anchor):
            return None
        return list(ids[first:])

    def spells_control(self, text: str) -> bool:
        """Whether `text` spells a control token."""
        return bool(self._spelled.search(text))

    def frame(self) -> tuple[list[int], list[int]]:
        """What a document begins and ends with: what the tokenizer itself adds, and `eos` once."""
        encode = self._backend.encode
        reset_batching(self._tokenizer)
        bare, whole = encode("a", add_special_tokens=False).ids, encode("a").ids
        first = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0)
        begin, end = whole[:first], whole[first + len(bare) :]
        eos = self._tokenizer.eos_token_id
        return begin, end if eos is None or eos in end else [*end, eos]

    def split(
        self, text: str, stretches: Sequence[tuple[int, bool, int | None]]
    ) -> list[TextPiece]:
        """Part rendered text into stretches, and these where users spelled control tokens.

        Args:
            text: Rendered, with such spellings marked.
            stretches: Of each, where it ends, whether it is trained, and which answer it is.
        """
        pieces: list[TextPiece] = []
        start = 0
        marked = OPEN in text
        continues = False
        for end, trained, answer in stretches:
            stretch = text[start:end]
            parts = MARKED.split(stretch) if marked and OPEN in stretch else (stretch,)
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
        """The ids of each piece, in one batch; pieces that are the same share one list.

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
                    dict.fromkeys(one for one in wanted if one[1] == literal and one[2] == anchored)
                )
                if chosen:
                    texts = [text for text, _, _ in chosen]
                    encoded = self._batch(texts, literal=literal, anchored=anchored)
                    ids.update(zip(chosen, encoded, strict=True))
        return [ids[one] for one in wanted]

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
        cut = [self._cut(one, self.anchor) for one in encoded]
        alone = [text for text, ids in zip(texts, cut, strict=True) if ids is None]
        rest = iter(_plain_ids(self._backend, alone, literal=literal) if alone else ())
        return [next(rest) if ids is None else ids for ids in cut]


def _plain_ids(backend: Tokenizer, texts: Sequence[str], *, literal: bool) -> list[list[int]]:
    """The ids that the tokenizer itself gives texts, nothing added to them."""
    backend.encode_special_tokens = literal
    try:
        return [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = False
