"""Transformers' sandbox for chat templates, in which a template can make only so much text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Template
from jinja2.compiler import CodeGenerator, Frame
from jinja2.nodes import Concat
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

from aligner.data.reading.messages import MalformedRowError

MOST = 1 << 26
"""Characters that one rendering may make, those included that it throws away."""
FOR_EACH = 64
"""As many more for each character of what was said."""
_EACH = 56
"""As many characters as a list costs, whatever it holds."""
_TOO_MUCH = 1 << 62
_DIGITS = re.compile(r"\d+")


@lru_cache(maxsize=64)
def compiled(source: str) -> Template:
    """A chat template, with an environment of its own, which is `Bounded`.

    Raises:
        jinja2.TemplateError: it is not a template.
    """
    # There is no public way to transformers' sandbox but to render in it.
    theirs = chat_template_utils._compile_jinja_template("").environment
    environment = Bounded(
        trim_blocks=theirs.trim_blocks,
        lstrip_blocks=theirs.lstrip_blocks,
        extensions=[type(one) for one in theirs.extensions.values()],
    )
    environment.globals.update(theirs.globals)
    environment.globals.pop("lipsum", None)
    environment.filters = {
        name: environment.foreseen(name, one) if name in FILTERS or name in _WRITERS else one
        for name, one in theirs.filters.items()
    }
    template: Template = environment.from_string(source)
    return template


class _Foreseen(CodeGenerator):
    """Has the parts of `a ~ b` counted before they are joined."""

    def visit_Concat(self, node: Concat, frame: Frame) -> None:  # noqa: N802  # jinja2's name
        self.write("environment.joined(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Bounded(ImmutableSandboxedEnvironment):
    """Counts what is about to be made, before it is: a single operation can be larger than memory."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    code_generator_class = _Foreseen

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, finalize=self._shown)
        self.begin(())
        self.concat: Any = self._concatenated

    def begin(self, said: Any) -> None:
        """Start to count for a rendering of `said`."""
        self.spent, self.allowed, self._said = 0, MOST, said

    def tracked(
        self, blocks: list[str], spans: list[tuple[int, int]]
    ) -> AbstractContextManager[None]:
        """Write into `spans` where in `blocks` the template's `{% generation %}` stretches are."""
        track: Any = self.activate_tracker  # type: ignore[attr-defined]  # of transformers' extension
        made: AbstractContextManager[None] = track(blocks, spans)
        return made

    def spend(self, characters: int) -> None:
        """Count what is about to be made.

        Raises:
            Malformed: it is too much.
        """
        self.spent += characters
        if self.spent > self.allowed:
            self.allowed = MOST + FOR_EACH * len(str(self._said))
            if self.spent > self.allowed:
                raise MalformedRowError(
                    f"the chat template makes more than {self.allowed} characters"
                )

    def spend_on(self, value: Any) -> None:
        """Count a value as text; the same list inside it twice counts twice."""
        if isinstance(value, str | bytes):
            self.spend(len(value))
        elif isinstance(value, Mapping):
            for key, one in value.items():
                self.spend_on(key)
                self.spend_on(one)
        elif isinstance(value, list | tuple):
            self.spend(_EACH + 8 * len(value))
            for one in value:
                self.spend_on(one)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is type(right) is str:
            self.spend(len(left) + len(right))
            return left + right
        if operator == "%" and isinstance(left, str | bytes):
            self.spend_on(right)
        self.spend(OPERATORS[operator](left, right))
        return super().call_binop(context, operator, left, right)

    def joined(self, context: Context, parts: Sequence[Any]) -> str:
        """`a ~ b`."""
        for part in parts:
            self.spend_on(part)
        join: Callable[[Sequence[Any]], str] = (
            markup_join if context.eval_ctx.autoescape else str_join
        )
        return join(parts)

    def call(__self, __context: Context, __called: Any, *args: Any, **named: Any) -> Any:  # noqa: N805  # a template may name an argument `self`
        owner = getattr(__called, "__self__", None)
        if isinstance(owner, str | bytes | int):
            name = getattr(__called, "__name__", "")
            if name == "join" and args:
                args = (list(args[0]), *args[1:])
            if name in METHODS:
                __self.spend(METHODS[name](owner, (*args, *named.values())))
            else:
                __self.spend(_size(owner))
        return super().call(__context, __called, *args, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text = value.__self__

        @wraps(wrapped)
        def counted(*args: Any, **named: Any) -> str:
            self.spend_on(args)
            self.spend_on(named)
            self.spend(len(text) + _widths(text))
            # A width may itself be filled in: `{:{width}}`.
            if re.search(r"\{[^{}]*\{", text.replace("{{", "")):
                self.spend(_widths(f"{args}{named}"))
            return wrapped(*args, **named)

        return counted

    def foreseen(self, name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that counts first what it will make."""
        # Some filters are given what surrounds them before the value.
        start = 1 if hasattr(filter, "jinja_pass_arg") else 0

        @wraps(filter)
        def counted(*args: Any, **named: Any) -> Any:
            value, given = args[start], (*args[start + 1 :], *named.values())
            if name == "join":
                value = list(value)
                args = (*args[:start], value, *args[start + 1 :])
            if name in _WRITERS:
                self.spend_on(value)
                self.spend_on(given)
            if name in FILTERS:
                self.spend(FILTERS[name](value, given))
            return filter(*args, **named)

        return counted

    def _shown(self, value: Any) -> Any:
        if type(value) is not str:
            self.spend_on(value)
        return value

    def _concatenated(self, parts: Iterable[str]) -> str:
        made = list(parts)
        self.spend(sum(map(len, made)))
        return "".join(made)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else 8 * _items(value)


def _items(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | Mapping) else 0


def _largest(given: Sequence[Any]) -> int:
    """The largest number or longest text among arguments."""
    sizes = [abs(int(one)) for one in given if isinstance(one, int | float) and abs(one) < 1e18]
    vast = any(isinstance(one, int | float) and not abs(one) < 1e18 for one in given)
    return _TOO_MUCH if vast else max([*sizes, *map(_size, given)], default=0)


def _widths(text: str | bytes) -> int:
    """The numbers in a text, any of which may be a width to fill up to."""
    shown = text if isinstance(text, str) else text.decode("latin-1")
    return sum(int(one) if len(one) < 10 else _TOO_MUCH for one in _DIGITS.findall(shown))


def _sum(left: Any, right: Any) -> int:
    return _size(left) + _size(right)


def _product(left: Any, right: Any) -> int:
    if isinstance(left, int) and isinstance(right, int):
        return _of_bits(left.bit_length() + right.bit_length())
    times = left if isinstance(left, int) else right
    return _size(left if times is right else right) * max(times, 0) if isinstance(times, int) else 0


def _power(left: Any, right: Any) -> int:
    both = isinstance(left, int) and isinstance(right, int)
    return _of_bits(left.bit_length() * max(right, 0)) if both else 0


def _of_bits(bits: int) -> int:
    # Reckoning with longer numbers takes time that no alarm can end.
    return 0 if bits <= 1 << 16 else _TOO_MUCH


def _filled_in(left: Any, right: Any) -> int:
    """`left % right`: of a text, its widths, which `*` takes from what is filled in."""
    if not isinstance(left, str | bytes):
        return 0
    taken = "*" in left if isinstance(left, str) else b"*" in left
    return len(left) + _widths(left) + (_largest(_as_many(right)) if taken else 0)


def _as_many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


def _replaced(owner: Any, given: Sequence[Any]) -> int:
    if len(given) < 2:
        return _size(owner)
    text, old, new = (one if isinstance(one, bytes) else str(one) for one in (owner, *given[:2]))
    same = type(text) is type(old)
    return len(text) + (text.count(old) * len(new) if same else 0)  # type: ignore[arg-type]


def _joined(owner: Any, given: Sequence[Any]) -> int:
    parts = given[0] if given else ()
    return sum(len(one) if isinstance(one, str | bytes) else 0 for one in parts) + _size(
        owner
    ) * len(parts)


def _translated(owner: Any, given: Sequence[Any]) -> int:
    table = given[0] if given and isinstance(given[0], Mapping) else {}
    return _size(owner) * max([1, *map(_size, table.values())])


def _padded(owner: Any, given: Sequence[Any]) -> int:
    return _size(owner) + _largest(given)


def _lines(value: Any, given: Sequence[Any]) -> int:
    text = str(value)
    return len(text) + (text.count("\n") + 1) * max(4, _largest(given))


def _parts(value: Any, given: Sequence[Any]) -> int:
    """For filters that may put an argument between any two characters of the value."""
    return (_size(value) + 1) * max([1, *(len(one) for one in given if isinstance(one, str))])


OPERATORS: Mapping[str, Callable[[Any, Any], int]] = {
    "+": _sum, "*": _product, "**": _power, "%": _filled_in,
}  # fmt: skip
METHODS: Mapping[str, Callable[[Any, Sequence[Any]], int]] = {
    **dict.fromkeys(("ljust", "rjust", "center", "zfill", "to_bytes"), _padded),
    "expandtabs": lambda owner, given: _size(owner) * max(8, _largest(given)),
    "replace": _replaced,
    "join": _joined,
    "translate": _translated,
}
"""Methods of texts and numbers that make more than they are given, and how much."""
FILTERS: Mapping[str, Callable[[Any, Sequence[Any]], int]] = {
    **dict.fromkeys(("center", "batch", "slice"), _padded),
    "round": lambda value, given: 0 if _largest(given) < 300 else _TOO_MUCH,
    "indent": _lines,
    "tojson": lambda value, given: _largest(given) * len(str(value)) if given else 0,
    "wordwrap": _parts,
    "replace": _replaced,
    "join": lambda value, given: _largest(given) * len(value),
    "format": lambda value, given: _filled_in(str(value), tuple(given)),
}
"""The same of filters."""
_WRITERS = frozenset({
    "center", "e", "escape", "forceescape", "format", "indent", "join", "lower", "pprint", "replace",
    "safe", "string", "striptags", "title", "tojson", "trim", "truncate", "upper", "urlencode",
    "urlize", "wordcount", "wordwrap", "xmlattr", "capitalize",
})  # fmt: skip
"""Filters that write a value as text, whatever it is."""
