"""The turns of a chat, which can be retried, undone and saved as training data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aligner.data.rows import Messages


@dataclass(frozen=True)
class Dialogue:
    """An optional system turn, then alternating turns of user and assistant.

    >>> dialogue = Dialogue("Be brief.").with_user("Hi").with_assistant("Hello.")
    >>> [turn["role"] for turn in dialogue.messages]
    ['system', 'user', 'assistant']
    >>> dialogue.without_last_question().messages
    ({'role': 'system', 'content': 'Be brief.'},)
    """

    system: str = ""
    turns: Messages = ()

    @property
    def messages(self) -> Messages:
        head = ({"role": "system", "content": self.system},) if self.system else ()
        return (*head, *self.turns)

    def with_user(self, text: str) -> Dialogue:
        return replace(self, turns=(*self.turns, {"role": "user", "content": text}))

    def with_assistant(self, text: str) -> Dialogue:
        return replace(self, turns=(*self.turns, {"role": "assistant", "content": text}))

    def without_last_question(self) -> Dialogue:
        """Remove the last user turn and its answer."""
        users = [n for n, turn in enumerate(self.turns) if turn["role"] == "user"]
        return replace(self, turns=self.turns[: users[-1]] if users else ())

    @property
    def last_question(self) -> str | None:
        questions = [str(turn["content"]) for turn in self.turns if turn["role"] == "user"]
        return questions[-1] if questions else None
