"""Read token sequences back from the tensors of a batch, as previews show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aligner.data.encoding.spelling import TokenSpeller
from aligner.preview import PreviewToken, Role, TokenSequence


class BatchReader:
    """Turns tensors of a batch back into token sequences, each token with its text and role."""

    def __init__(
        self, tokenizer: Any, *, stops: Sequence[int] = (), trained_label: str = "trained"
    ) -> None:
        """Args:
        tokenizer: That of the batch.
        stops: Tokens with which trained spans must end; by default spans are not checked.
        trained_label: Name of the tokens that enter the loss.
        """
        self.trained_label = trained_label
        self.tokenizer, self._stops = tokenizer, tuple(stops)
        self._spell = TokenSpeller(tokenizer)

    def text(self, token: int) -> str:
        """Return the text of a token."""
        return self._spell.text(token)

    def sequence(
        self,
        ids: Iterable[int],
        trained: Iterable[int],
        present: Iterable[int],
        *,
        name: str = "",
        boundaries: Mapping[int, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> TokenSequence:
        """Return a sequence of three lists, or tensors (T,), of one length.

        Args:
            ids: Token ids.
            trained: True for tokens that enter the loss.
            present: False for padding.
            name: `chosen`, or nothing if the row has one sequence.
            boundaries: Positions at which further rows begin, and which.
            notes: Shown with the sequence, in place of how it ends.
        """
        tokens = tuple(
            self._token(int(token), "padding" if not there else "trained" if on else "masked")
            for token, on, there in zip(ids, trained, present, strict=True)
        )
        found = TokenSequence(
            name=name, tokens=tokens, boundaries=dict(boundaries or {}), notes=notes
        )
        if notes or not self._stops:
            return found
        endings, warnings = self._endings(found)
        return replace(found, notes=endings, warnings=warnings)

    def scored_sequence(
        self, ids: Sequence[int], present: Iterable[int], *, pad: int, name: str = ""
    ) -> TokenSequence:
        """Return a sequence of a model that reads one score at the last token that is not `pad`."""
        read = max((place for place, token in enumerate(ids) if token != pad), default=0)
        note = f"the score is read at position {read}, {self.text(ids[read])}"
        scored = [place == read for place in range(len(ids))]
        return self.sequence(ids, scored, present, name=name, notes=(note,))

    def _token(self, token: int, role: Role) -> PreviewToken:
        return PreviewToken(token, self._spell.text(token), role, self._spell.special(token))

    def _endings(self, found: TokenSequence) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Describe the ends of the trained spans, and warn of those without a stop token."""
        label, ends = self.trained_label, _span_ends(found)
        if not ends:
            return (), (f"nothing in it is {label}",)
        good = [end for end in ends if found.tokens[end].id in self._stops]
        names = " or ".join(dict.fromkeys(found.tokens[end].text for end in good))
        endings: tuple[str, ...] = ()
        if len(good) == len(ends) == 1:
            endings = (f"ends with {names}, {label}",)
        elif good:
            endings = (f"{len(good)} of {len(ends)} answers end with {names}, {label}",)
        return endings, tuple(self._unstopped(found, end) for end in ends if end not in good)

    def _unstopped(self, found: TokenSequence, end: int) -> str:
        after = found.tokens[end + 1] if end + 1 < len(found.tokens) else None
        if after is not None and after.id in self._stops and after.role != "trained":
            return f"the stop token {after.text} at {end + 1} is not {self.trained_label}"
        last = found.tokens[end].text
        return f"no stop token is {self.trained_label} at {end}: it ends with {last!r}"


def _span_ends(found: TokenSequence) -> list[int]:
    """Return the position of the last token of each trained span."""
    roles = [token.role for token in found.tokens]
    following = [*roles[1:], "padding"]
    pairs = enumerate(zip(roles, following, strict=True))
    return [place for place, (role, after) in pairs if role == "trained" and after != "trained"]


def after_first(trained: Iterable[int]) -> list[int]:
    """Return `trained` with 0 for the first token: nothing predicts it, so it has no loss."""
    marked = list(trained)
    return [0, *marked[1:]]


def completion_note(reader: BatchReader, stops: Sequence[int], longest: int) -> str:
    """Describe the completion that follows a prompt."""
    names = " or ".join(reader.text(stop) for stop in stops)
    return f"here the answer begins: up to {longest} tokens, until {names}"


def shared_prompt_length(sequences: Sequence[TokenSequence], *, most: int | None = None) -> int:
    """Count the first tokens that all sequences have in common and that none of them trains.

    Args:
        sequences: Two or more.
        most: Upper limit, where the length of the prompt is known.
    """
    count = 0
    for tokens in zip(*(sequence.tokens for sequence in sequences), strict=False):
        same = len({token.id for token in tokens}) == 1
        if not same or any(token.role != "masked" for token in tokens):
            break
        count += 1
    return count if most is None else min(count, most)
