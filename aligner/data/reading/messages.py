"""Read turns, tools and transcripts in the spellings of public data sets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from aligner.data.describe import describe_value
from aligner.data.rows import Messages, Tools
from aligner.errors import did_you_mean

T = TypeVar("T")

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "function_call",
}
"""Role for each spelling in public data sets; a `function_call` is an assistant turn."""


class MalformedRowError(ValueError):
    """A row that does not have the fields of its format; the message names field and value."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what} ({hint})" if hint else what)


def catch_malformed(work: Callable[..., T], *given: Any) -> T | MalformedRowError:
    """Call `work`, and return the `MalformedRowError` that it raises."""
    try:
        return work(*given)
    except MalformedRowError as error:
        return error


def raise_malformed(result: T | MalformedRowError) -> T:
    """Return a result of `catch_malformed`, or raise the error that it is.

    Raises:
        MalformedRowError: It is one.
    """
    if isinstance(result, MalformedRowError):
        raise result
    return result


def read_text(value: Any, field: str) -> str:
    """Return `value` as text, which may be empty.

    Raises:
        MalformedRowError: it is something else, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise MalformedRowError(f"field '{field}' should be text, not {describe_value(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            half = value[error.start]
            raise MalformedRowError(
                f"field '{field}' contains {half!r}, half of a surrogate pair"
            ) from None
    return value


def read_nonempty_text(value: Any, field: str) -> str:
    """Return `value` as text that is not blank.

    Raises:
        MalformedRowError: it is something else, or holds nothing but white space.
    """
    if not read_text(value, field).strip():
        raise MalformedRowError(f"field '{field}' is empty")
    return str(value)


def read_turns(value: Any, field: str) -> Messages:
    """Read a list of turns in the OpenAI (`role`, `content`) or ShareGPT (`from`, `value`) spelling.

    Raises:
        MalformedRowError: naming the turn and its field.
    """
    if not isinstance(value, list | tuple):
        raise MalformedRowError(
            f"field '{field}' should be a list of turns, not {describe_value(value)}"
        )
    if not value:
        raise MalformedRowError(f"field '{field}' has no turns")
    return tuple(
        _simple(item) or read_turn(item, f"{field}[{index}]") for index, item in enumerate(value)
    )


_SIMPLE = {written: role for written, role in ROLES.items() if written != "function_call"}


def _simple(value: Any) -> dict[str, Any] | None:
    """Read a turn that has only a role and a text, as nearly all do; return None for any other."""
    if type(value) is not dict or len(value) != 2:
        return None
    role, content = value.get("role"), value.get("content")
    if role is None:
        role, content = value.get("from"), value.get("value")
    if type(content) is not str or type(role) is not str or not content.isascii():
        return None
    return {"role": _SIMPLE[role], "content": content} if role in _SIMPLE else None


def read_turn(value: Any, field: str) -> dict[str, Any]:
    """Read one turn; see `read_turns`."""
    if not isinstance(value, Mapping):
        raise MalformedRowError(
            f"field '{field}' should be a turn with role and content, not {describe_value(value)}"
        )
    role_key, content_key = ("from", "value") if "from" in value else ("role", "content")
    role = value.get(role_key)
    if not isinstance(role, str):
        raise MalformedRowError(
            f"field '{field}.{role_key}' should be a role, not {describe_value(role)}"
        )
    if role not in ROLES:
        hint = did_you_mean(role[:40], ROLES)
        raise MalformedRowError(
            f"field '{field}.{role_key}': unknown role {role[:40]!r}", hint=hint
        )
    content = value.get(content_key)
    if role == "function_call":
        calls = [_call(call, f"{field}.{content_key}") for call in _parsed(content, field)]
        return {"role": "assistant", "content": "", "tool_calls": calls}
    content_fields = _content(content, f"{field}.{content_key}", may_lack="tool_calls" in value)
    message: dict[str, Any] = {"role": ROLES[role], **content_fields}
    reasoning = value.get("reasoning_content") or value.get("reasoning") or value.get("thinking")
    if reasoning is not None:
        message["reasoning"] = read_text(reasoning, f"{field}.reasoning")
    if value.get("tool_calls"):
        message["tool_calls"] = [
            _call(call, f"{field}.tool_calls") for call in _parsed(value["tool_calls"], field)
        ]
    for name in ("name", "tool_call_id"):
        if value.get(name) is not None:
            message[name] = read_text(value[name], f"{field}.{name}")
    weight = value.get("weight", value.get("loss_weight"))
    if weight is not None:
        if weight not in (0, 1):
            raise MalformedRowError(
                f"field '{field}.weight' should be 0 or 1, not {describe_value(weight)}"
            )
        message["weight"] = int(weight)
    return message


def _content(value: Any, field: str, *, may_lack: bool) -> dict[str, Any]:
    """Read content: a text, or a list of parts of type text, reasoning and tool_call."""
    if value is None and may_lack:
        return {"content": ""}
    if not isinstance(value, list | tuple):
        return {"content": read_text(value, field)}
    message: dict[str, Any] = {"content": ""}
    for index, part in enumerate(value):
        where = f"{field}[{index}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            message["content"] += read_text(part, where)
        elif kind == "text":
            message["content"] += read_text(part.get("text", part.get("value")), f"{where}.text")
        elif kind in ("reasoning", "thinking"):
            reasoning = read_text(part.get(kind, part.get("value")), f"{where}.{kind}")
            message["reasoning"] = message.get("reasoning", "") + reasoning
        elif kind == "tool_call":
            called = _parsed(part.get("value", part.get("tool_call")), where)
            message.setdefault("tool_calls", []).extend(_call(call, where) for call in called)
        else:
            hint = "text, reasoning and tool_call can be read"
            raise MalformedRowError(f"field '{where}' is of type {kind!r}, not text", hint=hint)
    return message


def _parsed(value: Any, field: str) -> Sequence[Any]:
    """Read tool calls or tools, written as objects or as JSON inside a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise MalformedRowError(f"field '{field}' should contain JSON: {error}") from None
    return value if isinstance(value, list | tuple) else [value]


def _call(value: Any, field: str) -> dict[str, Any]:
    """Return a tool call as `{type: function, function: {name, arguments: object}}`."""
    function = value.get("function", value) if isinstance(value, Mapping) else value
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise MalformedRowError(
            f"field '{field}' should be a call with name and arguments, not {describe_value(value)}"
        )
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f"{field}.arguments")[0] if arguments.strip() else {}
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    if isinstance(value.get("id"), str):
        call["id"] = value["id"]
    return call


def read_tools(value: Any, field: str) -> Tools | None:
    """Read function descriptions, written as objects or as JSON; return None if there are none.

    Raises:
        MalformedRowError: a description has no name.
    """
    if value is None or value == "" or value == []:
        return None
    described = []
    for tool in _parsed(value, field):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise MalformedRowError(
                f"field '{field}' should describe functions by name, not {describe_value(tool)}"
            )
        described.append({"type": "function", "function": dict(function)})
    return tuple(described) or None


TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):[ ]?")


def read_transcript(value: Any, field: str) -> Messages:
    r"""Read the turns of an Anthropic transcript.

    >>> [m["content"] for m in read_transcript("\n\nHuman: Hi\n\nAssistant: Yes?", "chosen")]
    ['Hi', 'Yes?']

    Raises:
        MalformedRowError: it does not begin with `Human:`.
    """
    before, *parts = TRANSCRIPT.split(read_text(value, field))
    if before.strip() or not parts or parts[0] != "Human":
        raise MalformedRowError(
            f"field '{field}' should begin with 'Human:', not {describe_value(value)}"
        )
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple({"role": roles[speaker], "content": text.strip()} for speaker, text in pairs)


def read_answer(value: Any, field: str) -> Messages:
    """Read an answer written as text, as one turn, or as several turns."""
    if isinstance(value, Mapping):
        return (read_turn(value, field),)
    if isinstance(value, list | tuple):
        return read_turns(value, field)
    return ({"role": "assistant", "content": read_text(value, field)},)


def read_prompt(value: Any, field: str) -> Messages:
    """Read a prompt written as text, as one turn, or as several turns.

    Raises:
        MalformedRowError: it is empty.
    """
    if isinstance(value, Mapping):
        return (read_turn(value, field),)
    if isinstance(value, list | tuple):
        return read_turns(value, field)
    return ({"role": "user", "content": read_nonempty_text(value, field)},)


def role_order_error(messages: Messages) -> str:
    """Describe the first error in the order of roles; return an empty text if there is none.

    A system turn comes first; then users (or tools) and the assistant take turns. Tool results follow
    an assistant turn.
    """
    before = "start"
    for index, message in enumerate(messages):
        role = message["role"]
        allowed = {
            "start": ("system", "user"),
            "system": ("user",),
            "user": ("assistant",),
            "assistant": ("user", "tool"),
            "tool": ("assistant", "tool"),
        }[before]
        if role not in allowed:
            return (
                f"turn {index + 1} is the {role}'s after the {before}'s"
                if index
                else (f"the first turn is the {role}'s")
            )
        before = role
    return ""
