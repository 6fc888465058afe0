"""Render conversations through a tokenizer's chat template, and prove what in them the assistant says."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from aligner.data.messages import Malformed
from aligner.data.rows import Messages, Tools
from aligner.errors import ModelError

# What users wrote is put between these two where it spells a control token, so that it can be told
# from the template's own after rendering. Unicode will never make characters of them.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
MARKED = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)

LARGEST = 64
"""A rendered conversation may be this many times as long as what was said, beyond the first megabyte."""
SLOWEST = 10.0
"""Seconds that one rendering may take before the template is taken to be endless."""


class Rewritten(Malformed):
    """The template shows a turn of the assistant's otherwise once more turns follow it."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with the part that is each of the assistant's turns."""

    text: str
    turns: tuple[tuple[int, int] | None, ...]
    """For each assistant turn, where it starts (what the model writes first) and ends (after its
    end-of-turn token); None where that cannot be told."""


class Template:
    """A tokenizer's chat template, and how to read what it writes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, where: str = "") -> None:
        """Compile the template and try it.

        Raises:
            ModelError: there is none, or it cannot render a question and its answer.
        """
        if not tokenizer.chat_template:
            hint = "put a step before this one that gives it one: `stage: chat`"
            raise ModelError("the tokenizer has no chat template", where=where, hint=hint)
        self._tokenizer = tokenizer
        self._names = dict(tokenizer.special_tokens_map)
        self._names.pop("extra_special_tokens", None)
        self.control = control_tokens(tokenizer)
        longest_first = sorted(self.control, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self.marked = bool(re.search(r"\{%-?\s*generation\s*-?%\}", self._source(None)))
        self._try(where)

    def _source(self, tools: Tools | None) -> str:
        source: str = self._tokenizer.get_chat_template(
            None, [dict(tool) for tool in tools] if tools else None
        )
        return source

    def _try(self, where: str) -> None:
        question = {"role": "user", "content": "question"}
        answer = {"role": "assistant", "content": "answer"}
        try:
            rendered = self.render((question, answer))
        except Malformed as error:
            raise ModelError(f"the chat template fails: {error.what}", where=where) from None
        try:
            proven = self.proves((question, answer), None, rendered, 0)
        except Malformed as error:
            raise ModelError(f"the chat template fails: {error.what}", where=where) from None
        if not proven:
            what = "the chat template's generation prompt is not how its answers begin"
            hint = "mark the answers in the template with {% generation %} … {% endgeneration %}"
            if self.marked:
                hint = (
                    "let what stands before {% generation %} be what add_generation_prompt writes"
                )
            raise ModelError(what, where=where, hint=hint)
        start, end = rendered.turns[0] or (0, 0)
        if not self.shows(answer, rendered.text[start:end]):
            what = "the chat template does not show what the assistant says"
            raise ModelError(what, where=where)

    def prompt(self, messages: Messages, tools: Tools | None = None) -> Rendered:
        """Render turns that wait for an answer, up to where the answer begins."""
        text, spans = self._render(messages, tools, ask=True)
        return self._turns(messages, tools, text, spans)

    def render(self, messages: Messages, tools: Tools | None = None) -> Rendered:
        """Render a conversation.

        Raises:
            Malformed: the template refuses it, or writes without end.
        """
        text, spans = self._render(messages, tools, ask=False)
        return self._turns(messages, tools, text, spans)

    def _turns(
        self, messages: Messages, tools: Tools | None, text: str, spans: list[tuple[int, int]]
    ) -> Rendered:
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not self.marked:
            found = [self._by_prefix(messages, i, tools, text) for i in answers]
            return Rendered(text, tuple(found))
        if len(spans) != len(answers):
            what = f"the chat template marks {len(spans)} answers where there are {len(answers)}"
            raise Malformed(what)
        return Rendered(text, tuple(spans))

    def _by_prefix(
        self, messages: Messages, index: int, tools: Tools | None, text: str
    ) -> tuple[int, int] | None:
        """Where turn `index` is in `text`: from where its prompt ends to where its own text does."""
        before, _ = self._render(messages[:index], tools, ask=True)
        upto, _ = self._render(messages[: index + 1], tools, ask=False)
        if not text.startswith(before) or not text.startswith(upto) or len(upto) <= len(before):
            return None
        turn = upto[len(before) :]
        # The turn ends with its end-of-turn token; the white space after it is the template's.
        said_until = turn.rfind(self._mark(messages[index]["content"].strip()))
        ends = [match.end() for match in self._own(turn) if match.end() > said_until]
        tail = ends[-1] if ends and not turn[ends[-1] :].strip() else len(turn.rstrip())
        return len(before), len(before) + tail

    def _own(self, text: str) -> Iterator[re.Match[str]]:
        """The control tokens in rendered text that the template itself wrote."""
        for match in self._special.finditer(text):
            if text[match.start() - 1 : match.start()] != OPEN:
                yield match

    def proves(
        self, messages: Messages, tools: Tools | None, rendered: Rendered, answer: int
    ) -> bool:
        """Whether the prompt before assistant turn number `answer` is exactly what precedes it."""
        span = rendered.turns[answer]
        if span is None:
            return False
        if not self.marked:
            return True  # that is how it was found
        index = [i for i, m in enumerate(messages) if m["role"] == "assistant"][answer]
        before, _ = self._render(messages[:index], tools, ask=True)
        return rendered.text[: span[0]] == before

    def shows(self, message: Mapping[str, Any], turn: str) -> bool:
        """Whether all that an assistant turn says and calls is in its rendered text."""
        said = [message["content"], message.get("reasoning", "")]
        said += [call["function"]["name"] for call in message.get("tool_calls", ())]
        return all(self._mark(one.strip()) in turn for one in said)

    def left_out(self, messages: Messages, tools: Tools | None, text: str) -> str:
        """What of the other turns and of the tools the template does not show, in words, or nothing."""
        for number, message in enumerate(messages, 1):
            said = message["content"].strip()
            if message["role"] == "assistant" or not said or self._mark(said) in text:
                continue
            if json.dumps(said, ensure_ascii=False)[1:-1] not in text:
                return f"turn {number}, the {message['role']}'s"
        for tool in tools or ():
            if str(tool["function"]["name"]) not in text:
                return "the tools"
        return ""

    def spells_control(self, messages: Messages) -> bool:
        """Whether any turn spells a control token."""
        return any(self._special.search(message["content"]) for message in messages)

    def _mark(self, text: str) -> str:
        return self._special.sub(f"{OPEN}\\g<0>{CLOSE}", text)

    def _marked(self, value: Any) -> Any:
        if isinstance(value, str):
            if OPEN in value or CLOSE in value:
                raise Malformed("the text holds U+FDD0 or U+FDD1, which are no characters")
            return self._mark(value)
        if isinstance(value, Mapping):
            return {key: self._marked(one) for key, one in value.items()}
        return [self._marked(one) for one in value] if isinstance(value, list | tuple) else value

    def _render(
        self, messages: Messages, tools: Tools | None, *, ask: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        plain = [self._marked(_for_template(message)) for message in messages]
        try:
            with bounded(SLOWEST):
                # Its annotation says that it returns a text; it returns texts and what is marked in them.
                render: Any = chat_template_utils.render_jinja_template
                texts, spans = render(
                    [plain],
                    tools=self._marked(list(tools)) if tools else None,
                    chat_template=self._source(tools),
                    return_assistant_tokens_mask=self.marked,
                    add_generation_prompt=ask,
                    **self._names,
                )
        except Malformed:
            raise
        except TemplateError as error:
            raise Malformed(f"the chat template refuses it: {_line(error)}") from None
        except (
            TypeError,
            ValueError,
            KeyError,
            ArithmeticError,
            MemoryError,
            RecursionError,
        ) as error:
            said = f"{type(error).__name__}: {_line(error)}"
            raise Malformed(f"the chat template fails on it: {said}") from None
        text: str = texts[0]
        length = sum(len(str(message)) for message in plain) + len(str(tools or ""))
        if len(text) > (1 << 20) + LARGEST * length:
            raise Malformed(f"the chat template makes {len(text)} characters of {length}")
        return text, list(spans[0]) if spans else []


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The tokens that steer a model rather than say anything, and their ids."""
    added = tokenizer.added_tokens_decoder
    control = {token.content: int(index) for index, token in added.items() if token.special}
    for token in tokenizer.all_special_tokens:
        control[str(token)] = cast(int, tokenizer.convert_tokens_to_ids(token))
    return {token: index for token, index in control.items() if token and not token.isspace()}


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as templates expect it: no weight, reasoning under the name they know."""
    plain = {key: value for key, value in message.items() if key not in ("weight", "reasoning")}
    if message.get("reasoning"):
        plain["reasoning_content"] = message["reasoning"]
    return plain


def _line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Stop what runs longer than `seconds`. Only the main thread of a process on Unix can be stopped so.

    Raises:
        Malformed: it ran longer.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Malformed(f"the chat template has not finished after {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining)
        signal.signal(signal.SIGALRM, before)


def answers_of(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where in `messages` the assistant's turns are."""
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]
