"""Render conversations through a tokenizer's chat template, and prove what in them the assistant says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from aligner.data.reading.messages import ROLES, MalformedRowError, catch_malformed, raise_malformed
from aligner.data.rows import Messages, Tools
from aligner.data.templates.renderer import Renderer, RenderReply, RenderRequest
from aligner.errors import ModelError

T = TypeVar("T")

# What users wrote is put between these two where it spells a control token, so that it can be told
# from the template's own after rendering. Unicode will never make characters of them.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
MARKED = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)


class RewrittenTurnError(MalformedRowError):
    """The template shows a turn of the assistant's otherwise once more turns follow it."""


@dataclass(frozen=True)
class TemplateInput:
    """A conversation that is to be rendered."""

    messages: Messages
    tools: Tools | None = None
    ask: bool = False
    """True if the prompt for an answer is to follow."""
    prove: Sequence[int] = ()
    """Assistant turns, counted from 0, for which `RenderedChat.proven` is wanted."""

    @cached_property
    def answers(self) -> list[int]:
        """The indices of the assistant's turns."""
        return assistant_indices(self.messages)


@dataclass(frozen=True)
class RenderedChat:
    """A conversation as text, with the part that is each of the assistant's turns."""

    text: str
    turns: tuple[tuple[int, int] | None, ...]
    """For each assistant turn, its start (what the model writes first) and its end (after its
    end-of-turn token); None where the text does not show them."""
    proven: Mapping[int, bool | MalformedRowError] = field(default_factory=dict)
    """For assistant turns, True if the prompt before it is exactly what precedes it in the text."""

    def proves(self, answer: int) -> bool:
        """Return True if the prompt before an assistant turn is exactly what precedes it.

        Raises:
            MalformedRowError: The template refuses the prompt.
        """
        return raise_malformed(self.proven[answer])


class TokenizerTemplate:
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
        self.control = control_tokens(tokenizer)
        longest_first = sorted(self.control, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._roles = {role for role in ROLES.values() if not self._special.search(role)}
        self.marked = bool(re.search(r"\{%-?\s*generation\s*-?%\}", self._source(None)))
        variables = dict(tokenizer.special_tokens_map)
        variables.pop("extra_special_tokens", None)
        # A tokenizer may have a template of its own for conversations with tools.
        sources = (self._source(None), self._source(({},)))
        self._renderer = Renderer(sources, variables, self.marked)
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
            rendered = self.render(TemplateInput((question, answer), prove=[0]))
            proven = rendered.turns[0] is not None and rendered.proves(0)
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

    def render(self, wanted: TemplateInput) -> RenderedChat:
        """Render a conversation.

        Raises:
            MalformedRowError: The template refuses it, fails, or exceeds a limit of time or memory.
        """
        (rendered,) = self.render_all([wanted], lambda _, rendered: rendered)
        return raise_malformed(rendered)

    def render_all(
        self, wanted: Sequence[TemplateInput], use: Callable[[TemplateInput, RenderedChat], T]
    ) -> list[T | MalformedRowError]:
        """Render conversations together, and use each.

        Returns:
            For each what `use` returns, or the error that it or the rendering raises.
        """
        requests, sent = self._requests(wanted)
        replies = self._renderer.render(sent)

        def used(each: TemplateInput, request: RenderRequest) -> T:
            return use(each, self._rendered(each, request, next(replies)))

        return [
            request
            if isinstance(request, MalformedRowError)
            else catch_malformed(used, each, request)
            for each, request in zip(wanted, requests, strict=True)
        ]

    def _requests(
        self, wanted: Sequence[TemplateInput]
    ) -> tuple[list[RenderRequest | MalformedRowError], list[RenderRequest]]:
        """Return a request or an error for each conversation, and the requests alone."""
        requests: list[RenderRequest | MalformedRowError] = []
        sent: list[RenderRequest] = []
        before: TemplateInput | None = None
        for each in wanted:
            shared = _shared(before, each) if before is not None else 0
            known = sent[-1] if shared else None
            request = catch_malformed(self._request, each, known, shared)
            requests.append(request)
            if not isinstance(request, MalformedRowError):
                sent.append(request)
                before = each
        return requests, sent

    def _request(
        self, wanted: TemplateInput, before: RenderRequest | None, shared: int
    ) -> RenderRequest:
        """Return a conversation as the template gets it, with the texts that are compared.

        Args:
            wanted: The conversation.
            before: The request that shares its first turns and its tools, if there is one.
            shared: Number of these turns.
        """
        prompts = wanted.answers
        texts = {(len(wanted.messages), wanted.ask): None}
        if self.marked:
            prompts = [prompts[number] for number in wanted.prove]
        for index in prompts:
            texts[index, True] = None
            if not self.marked:
                texts[index + 1, False] = None
        own = [self._turn(message) for message in wanted.messages[shared:]]
        if before is not None:
            messages = [*before.messages[:shared], *own]
            return RenderRequest(messages, before.tools, list(texts), shared)
        tools = self._marked(list(wanted.tools)) if wanted.tools else None
        return RenderRequest(own, tools, list(texts))

    def _rendered(
        self, wanted: TemplateInput, request: RenderRequest, reply: RenderReply
    ) -> RenderedChat:
        texts = dict(zip(request.wanted, reply.texts, strict=True))
        text = raise_malformed(reply.texts[0])
        if not self.marked:
            turns = []
            for index in wanted.answers:
                before = raise_malformed(texts[index, True])
                upto = raise_malformed(texts[index + 1, False])
                turns.append(self._by_prefix(wanted.messages[index], text, before, upto))
            # Each turn was found by its prompt.
            return RenderedChat(text, tuple(turns), dict.fromkeys(range(len(turns)), True))
        spans, answers = tuple((start, end) for start, end in reply.spans), wanted.answers
        if len(spans) != len(answers):
            what = f"the chat template marks {len(spans)} answers where there are {len(answers)}"
            raise MalformedRowError(what)
        proven: dict[int, bool | MalformedRowError] = {}
        for number in wanted.prove:
            prompt = texts[answers[number], True]
            proven[number] = (
                prompt
                if isinstance(prompt, MalformedRowError)
                else len(prompt) == spans[number][0] and text.startswith(prompt)
            )
        return RenderedChat(text, spans, proven)

    def _by_prefix(
        self, message: Mapping[str, Any], text: str, before: str, upto: str
    ) -> tuple[int, int] | None:
        """Find a turn in a text: it begins where its prompt ends, and ends where its conversation does."""
        if not text.startswith(before) or not text.startswith(upto) or len(upto) <= len(before):
            return None
        turn = upto[len(before) :]
        # The turn ends with its end-of-turn token; the white space after it is the template's.
        content_end = turn.rfind(self._mark(message["content"].strip()))
        ends = [match.end() for match in self._own(turn) if match.end() > content_end]
        tail = ends[-1] if ends and not turn[ends[-1] :].strip() else len(turn.rstrip())
        return len(before), len(before) + tail

    def _own(self, text: str) -> Iterator[re.Match[str]]:
        """Find the control tokens in a rendered text that the template itself wrote."""
        for match in self._special.finditer(text):
            if text[match.start() - 1 : match.start()] != OPEN:
                yield match

    def shows(self, message: Mapping[str, Any], turn: str) -> bool:
        """Return True if the rendered text contains all that an assistant turn says and calls."""
        parts = [message["content"], message.get("reasoning", "")]
        parts += [call["function"]["name"] for call in message.get("tool_calls", ())]
        return all(self._mark(part.strip()) in turn for part in parts)

    def left_out(self, messages: Messages, tools: Tools | None, text: str) -> str:
        """Name the first turn, or the tools, that the text does not contain; empty if it contains all."""
        for number, message in enumerate(messages, 1):
            content = message["content"].strip()
            if message["role"] == "assistant" or not content or self._mark(content) in text:
                continue
            if json.dumps(content, ensure_ascii=False)[1:-1] not in text:
                return f"turn {number}, the {message['role']}'s"
        for tool in tools or ():
            if str(tool["function"]["name"]) not in text:
                return "the tools"
        return ""

    def spells_control(self, messages: Messages) -> bool:
        """Return True if the text of a turn contains a control token."""
        return any(self._special.search(message["content"]) for message in messages)

    def _mark(self, text: str) -> str:
        return self._special.sub(f"{OPEN}\\g<0>{CLOSE}", text)

    def _marked(self, value: Any) -> Any:
        """Reduce a value to the types of JSON, and mark the control tokens in its texts."""
        if isinstance(value, str):
            if not value.isascii() and (OPEN in value or CLOSE in value):
                raise MalformedRowError("the text holds U+FDD0 or U+FDD1, which are no characters")
            return self._mark(str.__str__(value))
        if isinstance(value, Mapping):
            return {_plain(key): self._marked(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._marked(item) for item in value]
        if value is None or type(value) in (bool, int, float):
            return value
        plain = _plain(value)
        return plain if type(plain) in (bool, int, float) else self._marked(plain)

    def _turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message["content"]
        if len(message) > 2 or message["role"] not in self._roles or type(content) is not str:
            marked: dict[str, Any] = self._marked(_for_template(message))
            return marked
        return {**message, "content": self._marked(content)}


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the tokens that steer a model rather than write text, with their ids."""
    added = tokenizer.added_tokens_decoder
    control = {token.content: int(index) for index, token in added.items() if token.special}
    for token in tokenizer.all_special_tokens:
        control[str(token)] = cast(int, tokenizer.convert_tokens_to_ids(token))
    return {token: index for token, index in control.items() if token and not token.isspace()}


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a turn as templates expect it: no weight, reasoning under the names they know."""
    plain = {key: value for key, value in message.items() if key not in ("weight", "reasoning")}
    if message.get("reasoning"):
        plain["reasoning_content"] = message["reasoning"]
    for name in ("reasoning_content", "thinking"):
        if plain.get(name) is not None:
            return {"thinking": plain[name], **plain, "reasoning_content": plain[name]}
    return plain


def _shared(first: TemplateInput, second: TemplateInput) -> int:
    """Return the number of first turns that are the same objects in both, as a prompt of two answers is.

    Turns that are merely equal need not be rendered alike: numbers in them may be written differently.
    """
    if first.tools is not second.tools:
        return 0
    pairs = enumerate(zip(first.messages, second.messages, strict=False))
    fewer = min(len(first.messages), len(second.messages))
    return next((number for number, (a, b) in pairs if a is not b), fewer)


def _plain(value: Any) -> Any:
    """Reduce a value as transformers does for templates: cells of a table can contain anything."""
    return value if type(value) is str else chat_template_utils._plain_template_data(value)


def assistant_indices(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the indices of the assistant's turns in `messages`."""
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]
