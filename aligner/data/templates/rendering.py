"""Render conversations through a tokenizer's chat template, and prove what in them the assistant says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from aligner.data.reading.messages import ROLES, MalformedRowError
from aligner.data.rows import Messages, Tools
from aligner.data.sandbox import Sandboxed, Spans, Watch
from aligner.errors import ModelError

# What users wrote is put between these two where it spells a control token, so that it can be told
# from the template's own after rendering. Unicode will never make characters of them.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
MARKED = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)


class RewrittenTurnError(MalformedRowError):
    """The template shows a turn of the assistant's otherwise once more turns follow it."""


@dataclass(frozen=True)
class TemplateInput:
    """A conversation as templates get it, and what was rendered of it."""

    turns: list[dict[str, Any]]
    tools: list[Any] | None
    made: dict[tuple[int, bool], tuple[str, Spans]]
    """By the number of turns, and whether an answer is asked for."""


@dataclass(frozen=True)
class RenderedChat:
    """A conversation as text, with the part that is each of the assistant's turns."""

    text: str
    turns: tuple[tuple[int, int] | None, ...]
    """For each assistant turn, where it starts (what the model writes first) and ends (after its
    end-of-turn token); None where that cannot be told."""
    told: TemplateInput = field(repr=False, compare=False)


class ChatTemplate:
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
        self._roles = {role for role in ROLES.values() if not self._special.search(role)}
        self.marked = bool(re.search(r"\{%-?\s*generation\s*-?%\}", self._source(None)))
        # A tokenizer may have a template of its own for conversations with tools.
        self._templates = {
            there: Sandboxed(self._source(tools), self._names, marked=self.marked)
            for there, tools in ((False, None), (True, ({},)))
        }
        self._last = TemplateInput([], None, {})
        self.watch = Watch()
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
        except MalformedRowError as error:
            raise ModelError(f"the chat template fails: {error.what}", where=where) from None
        try:
            proven = self.proves((question, answer), rendered, 0)
        except MalformedRowError as error:
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

    def prompt(self, messages: Messages, tools: Tools | None = None) -> RenderedChat:
        """Render turns that wait for an answer, up to where the answer begins."""
        with self.watch:
            told = self._told(messages, tools)
            return self._turns(messages, told, *self._render(told, len(messages), ask=True))

    def render(self, messages: Messages, tools: Tools | None = None) -> RenderedChat:
        """Render a conversation.

        Raises:
            Malformed: the template refuses it, or writes without end.
        """
        with self.watch:
            told = self._told(messages, tools)
            return self._turns(messages, told, *self._render(told, len(messages), ask=False))

    def _turns(
        self, messages: Messages, told: TemplateInput, text: str, spans: Spans
    ) -> RenderedChat:
        answers = assistant_indices(messages)
        if not self.marked:
            found = [self._by_prefix(messages, i, told, text) for i in answers]
            return RenderedChat(text, tuple(found), told)
        if len(spans) != len(answers):
            what = f"the chat template marks {len(spans)} answers where there are {len(answers)}"
            raise MalformedRowError(what)
        return RenderedChat(text, spans, told)

    def _by_prefix(
        self, messages: Messages, index: int, told: TemplateInput, text: str
    ) -> tuple[int, int] | None:
        """Where turn `index` is in `text`: from where its prompt ends to where its own text does."""
        before, _ = self._render(told, index, ask=True)
        upto, _ = self._render(told, index + 1, ask=False)
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

    def proves(self, messages: Messages, rendered: RenderedChat, answer: int) -> bool:
        """Whether the prompt before assistant turn number `answer` is exactly what precedes it."""
        span = rendered.turns[answer]
        if span is None:
            return False
        if not self.marked:
            return True  # that is how it was found
        with self.watch:
            before, _ = self._render(rendered.told, assistant_indices(messages)[answer], ask=True)
        return len(before) == span[0] and rendered.text.startswith(before)

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
        """`value` of JSON's types alone, with the control tokens marked that it spells."""
        if isinstance(value, str):
            if not value.isascii() and (OPEN in value or CLOSE in value):
                raise MalformedRowError("the text holds U+FDD0 or U+FDD1, which are no characters")
            return self._mark(str.__str__(value))
        if isinstance(value, Mapping):
            return {_plain(key): self._marked(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._marked(one) for one in value]
        return value if value is None or type(value) in (bool, int, float) else _plain(value)

    def _turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        said = message["content"]
        if len(message) > 2 or message["role"] not in self._roles or type(said) is not str:
            marked: dict[str, Any] = self._marked(_for_template(message))
            return marked
        return {**message, "content": self._marked(said)}

    def _told(self, messages: Messages, tools: Tools | None) -> TemplateInput:
        """What is said, as the template gets it. What was rendered of a conversation that begins
        alike, as the other answer of a pair does, is not rendered again."""
        turns = [self._turn(message) for message in messages]
        described = self._marked(list(tools)) if tools else None
        last, same = self._last, 0
        if described is None and last.tools is None:
            for one, other in zip(turns, last.turns, strict=False):
                if one != other or not _only_texts(one):
                    break
                same += 1
        known = {key: made for key, made in last.made.items() if key[0] <= same} if same else {}
        self._last = TemplateInput(turns, described, known)
        return self._last

    def _render(self, told: TemplateInput, count: int, *, ask: bool) -> tuple[str, Spans]:
        """The first `count` turns as text."""
        made = told.made.get((count, ask))
        if made is None:
            turns = told.turns if count == len(told.turns) else told.turns[:count]
            made = self._templates[told.tools is not None].render(turns, told.tools, ask=ask)
            told.made[count, ask] = made
        return made


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The tokens that steer a model rather than say anything, and their ids."""
    added = tokenizer.added_tokens_decoder
    control = {token.content: int(index) for index, token in added.items() if token.special}
    for token in tokenizer.all_special_tokens:
        control[str(token)] = cast(int, tokenizer.convert_tokens_to_ids(token))
    return {token: index for token, index in control.items() if token and not token.isspace()}


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as templates expect it: no weight, reasoning under the names they know."""
    plain = {key: value for key, value in message.items() if key not in ("weight", "reasoning")}
    if message.get("reasoning"):
        plain["reasoning_content"] = message["reasoning"]
    for name in ("reasoning_content", "thinking"):
        if plain.get(name) is not None:
            return {"thinking": plain[name], **plain, "reasoning_content": plain[name]}
    return plain


def _plain(value: Any) -> Any:
    """As transformers makes it safe for templates, for there may be anything in a table's cells."""
    return value if type(value) is str else chat_template_utils._plain_template_data(value)


def _only_texts(turn: Mapping[str, Any]) -> bool:
    # Numbers that are equal need not be written alike.
    return list(turn) == ["role", "content"]


def assistant_indices(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where in `messages` the assistant's turns are."""
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]
