"""How a table says what one setting of another tool is called here, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aligner.recipe.tree import show

Convert = Callable[[Any], Any]


class NoCounterpart(ValueError):
    """The value of a setting cannot be said in a recipe; the message says why."""


def same_value(value: Any) -> Any:
    """What is said in the same way."""
    return value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One setting: a row of the table that the documentation shows."""

    key: str
    to: str = ""
    """Our option, dotted below the step; `chat.…` for the chat step, `recipe.…` above the steps."""
    convert: Convert = same_value
    default: Any = None
    """What the tool takes where nothing is said, if that may differ from ours."""
    differs: str = ""
    """What is different in meaning."""
    ignored: str = ""
    """Why it needs no counterpart."""
    unsupported: str = ""
    """Why there is no counterpart, unless the value is `harmless`."""
    harmless: tuple[Any, ...] = (False, 0, 0.0)
    decides: bool = False
    """Whether a recipe without it would train something else, so that it must be refused."""
    methods: frozenset[str] = frozenset()
    """The stages it is for; empty for all."""
    part: str = ""
    """What it says together with others; then a composer of the tool reads it."""


def same(
    key: str, to: str = "", *, convert: Convert = same_value, default: Any = None,
    differs: str = "", only: str = "",
) -> Rule:  # fmt: skip
    """A setting that we have too, under the name `to` or its own."""
    return Rule(
        key=key, to=to or key, convert=convert, default=default, differs=differs,
        methods=frozenset(only.split()),
    )  # fmt: skip


def part(key: str, says: str, *, differs: str = "", only: str = "") -> Rule:
    """A setting that says something only together with others."""
    return Rule(key=key, part=says, differs=differs, methods=frozenset(only.split()))


def ignored(why: str, *keys: str) -> tuple[Rule, ...]:
    return tuple(Rule(key=key, ignored=why) for key in keys)


def unsupported(
    why: str, *keys: str, harmless: tuple[Any, ...] = (False, 0, 0.0), decides: bool = False
) -> tuple[Rule, ...]:
    return tuple(Rule(key=key, unsupported=why, harmless=harmless, decides=decides) for key in keys)


def is_empty(value: Any) -> bool:
    """Whether a value says nothing, as in `deepspeed:` with nothing behind it."""
    return value is None or value == "" or value == [] or value == {}


def word(words: Mapping[Any, Any], what: str) -> Convert:
    """Another word for the same thing."""

    def convert(value: Any) -> Any:
        key = value.lower() if isinstance(value, str) else value
        if key not in words:
            raise NoCounterpart(f"there is no {what} {show(value)}")
        return words[key]

    return convert


def switch(value: Any) -> bool:
    """A switch as YAML 1.1 writes it, which these tools read."""
    if isinstance(value, str) and value.lower() in ("yes", "on", "true", "y"):
        return True
    if isinstance(value, str) and value.lower() in ("no", "off", "false", "n"):
        return False
    return bool(value)


def sampling_strategy(value: Any) -> str:
    """Return the value of `train_sampling_strategy` that a `group_by_length` switch means."""
    return "group_by_length" if switch(value) else "random"


def number(value: Any) -> Any:
    """A number, which may stand in quotes."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise NoCounterpart(f"{show(value)} is not a number") from None
    return value


def count(value: Any) -> int | None:
    """A number of steps; -1 and 0 mean none was set."""
    if isinstance(value, float) and value < 1:
        raise NoCounterpart("a share of the steps cannot be given, only their number")
    return int(value) if value and value > 0 else None


def share(value: Any) -> Any:
    """A share of the rows to hold out."""
    if value is not None and value >= 1:
        raise NoCounterpart("a number of rows cannot be held out, only a share: set hold_out")
    return value


def names(value: Any) -> list[str]:
    """Names in a list or joined by commas."""
    if isinstance(value, str):
        return [one.strip() for one in value.split(",") if one.strip()]
    return [str(one) for one in value]


def targets(value: Any) -> Any:
    """Modules that get an adapter."""
    found = names(value)
    return "all-linear" if found in (["all"], ["all-linear"]) else found


SCHEDULES = {
    name: name
    for name in (
        "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt",
    )
}  # fmt: skip
OPTIMIZERS = {
    **dict.fromkeys(
        (
            "adamw_torch",
            "adamw_torch_fused",
            "adamw_hf",
            "adamw",
            "paged_adamw",
            "paged_adamw_32bit",
        ),
        "adamw_torch",
    ),
    "adafactor": "adafactor",
    "sgd": "sgd",
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit"), "adamw_bnb_8bit"),
    "paged_adamw_8bit": "paged_adamw_8bit",
    "lion_8bit": "lion_8bit",
}
ATTENTION = {
    "auto": "auto", "eager": "eager", "sdpa": "sdpa", "disabled": "eager",
    "flash_attention_2": "flash_attention_2", "fa2": "flash_attention_2",
    "flex_attention": "flex_attention",
}  # fmt: skip

schedule = word(SCHEDULES, "schedule")
optimizer = word(OPTIMIZERS, "optimizer")
attention = word(ATTENTION, "attention kernel")
