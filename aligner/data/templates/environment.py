"""The dialect of Jinja that chat templates are written in, as transformers defines it.

transformers itself would take a second to load in each process that renders, and twice the time for
each text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Sandbox in which one template is compiled and rendered."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        self.blocks: list[str] = []
        """The parts of the text that is being rendered."""
        self.spans: list[tuple[int, int]] = []
        """The stretches of it that are inside `{% generation %}`."""
        self.filters["tojson"] = _to_json
        self.globals.update(
            raise_exception=_raise, strftime_now=_now, dict=_Dict(), namespace=_Namespace
        )


class GenerationTag(Extension):
    """The tag `{% generation %}`, which marks the parts of a text that the model writes."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's attribute
    environment: ChatEnvironment

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_mark"), [], [], body, lineno=line)

    def _mark(self, caller: Callable[[], str]) -> str:
        text = caller()
        start = sum(map(len, self.environment.blocks))
        self.environment.spans.append((start, start + len(text)))
        return text


@lru_cache(maxsize=64)
def _compiled(source: str) -> tuple[ChatEnvironment, Template, dict[str, Any]]:
    environment = ChatEnvironment()
    template = environment.from_string(source)
    # The template's own globals are a chain of mappings, which is slow to copy.
    return environment, template, dict(template.globals)


def render(source: str, variables: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """Render a template, and give the stretches of the text that it marks.

    Raises:
        jinja2.TemplateError: The template is wrong, or refuses the variables.
    """
    environment, template, known = _compiled(source)
    environment.blocks, environment.spans = blocks, _ = [], []
    context = template.new_context({**known, **variables}, shared=True)
    try:
        for block in template.root_render_func(context):
            blocks.append(block)  # the tag counts the blocks so far
        return "".join(blocks), environment.spans
    finally:
        blocks.clear()  # the environment is kept: it must not hold the memory that others may use


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(  # the arguments that templates may give it
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON without escapes for HTML."""
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _now(format: str) -> str:
    return datetime.now().strftime(format)


class _Dict:
    """The `dict` of templates, without the attributes of a type."""

    def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
        return dict(*args, **named)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """The `namespace` of templates, without attributes that begin with an underscore."""

    def __init__(self, /, *args: Any, **named: Any) -> None:
        values = dict(*args, **named)
        for name in values:
            _refuse_private(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}: it begins with an underscore")
