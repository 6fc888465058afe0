"""A conversation as it grows: what was said, taken back, and saved as data to train on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aligner.data.rows import Messages


@dataclass(frozen=True)
class Dialogue:
    """A system turn, if any, and turns of user and assistant in alternation.

    >>> said = Dialogue("Be brief.").asked("Hi").answered("Hello.")
    >>> [turn["role"] for turn in said.messages]
    ['system', 'user', 'assistant']
    >>> said.taken_back().messages
    ({'role': 'system', 'content': 'Be brief.'},)
    """

    system: str = ""
    turns: Messages = ()

    @property
    def messages(self) -> Messages:
        head = ({"role": "system", "content": self.system},) if self.system else ()
        return (*head, *self.turns)

    def asked(self, text: str) -> Dialogue:
        return replace(self, turns=(*self.turns, {"role": "user", "content": text}))

    def answered(self, text: str) -> Dialogue:
        return replace(self, turns=(*self.turns, {"role": "assistant", "content": text}))

    def taken_back(self) -> Dialogue:
        """Without the last question and its answer."""
        asked = [n for n, turn in enumerate(self.turns) if turn["role"] == "user"]
        return replace(self, turns=self.turns[: asked[-1]] if asked else ())

    @property
    def last_question(self) -> str | None:
        asked = [str(turn["content"]) for turn in self.turns if turn["role"] == "user"]
        return asked[-1] if asked else None
