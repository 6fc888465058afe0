"""Leave out rows that cannot be trained on, and count other findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aligner.data.ledger import Tally
from aligner.data.reading.kinds import has_empty_answer
from aligner.data.reading.messages import role_order_error
from aligner.data.rows import Conversation, LabeledCompletion, Messages, Preference, Prompt, Row


def drop_unusable(rows: Iterable[Row], tally: Tally) -> Iterator[Row]:
    """Yield the rows that can be used; `tally` counts the others by reason."""
    for row in rows:
        if isinstance(row, Preference) and has_empty_answer((*row.chosen, *row.rejected)):
            tally.drop("an answer is empty", row.origin)
        elif isinstance(row, Preference) and row.chosen == row.rejected:
            tally.drop("chosen and rejected are identical", row.origin)
        elif isinstance(row, Conversation) and has_empty_answer(row.messages):
            tally.drop("an answer is empty", row.origin)
        elif isinstance(row, Conversation) and not any(
            message["role"] == "assistant" for message in row.messages
        ):
            tally.drop("there is no answer", row.origin)
        elif isinstance(row, Prompt) and row.messages[-1]["role"] not in ("user", "tool"):
            tally.drop("there is no question", row.origin)
        elif isinstance(row, LabeledCompletion) and has_empty_answer(row.completion):
            tally.drop("an answer is empty", row.origin)
        elif error := role_order_error(_messages(row)):
            tally.find("role_order", row.origin, error)
            tally.drop("turns in the wrong order", row.origin)
        else:
            _count_findings(row, tally)
            yield row


def _messages(row: Row) -> Messages:
    messages = getattr(row, "messages", None)
    if messages is not None:
        return tuple(messages)
    answer = getattr(row, "chosen", getattr(row, "completion", ()))
    return (*getattr(row, "prompt", ()), *answer)


def _count_findings(row: Row, tally: Tally) -> None:
    if any(not m["content"].strip() and not m.get("tool_calls") for m in _messages(row)):
        tally.find("empty_turns", row.origin)
    if isinstance(row, Preference) and row.margin == 0:
        tally.find("ties", row.origin)
