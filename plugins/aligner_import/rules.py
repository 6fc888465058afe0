"""Rules of a table: the equivalent of a setting of another tool in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aligner.recipe.tree import show

Convert = Callable[[Any], Any]


class NoCounterpart(ValueError):
    """A value without an equivalent in a recipe; the message says why."""


def same_value(value: Any) -> Any:
    """Return the value unchanged."""
    return value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Rule for a setting: a row of the table in the documentation."""

    key: str
    to: str = ""
    """Path of our option; `chat.…` for the chat step, `recipe.…` for the head of the recipe."""
    convert: Convert = same_value
    default: Any = None
    """The tool's default, if it may differ from ours."""
    differs: str = ""
    """Difference in meaning."""
    ignored: str = ""
    """Reason why the setting can be ignored."""
    unsupported: str = ""
    """Reason why the setting is not supported, unless its value is `harmless`."""
    harmless: tuple[Any, ...] = (False, 0, 0.0)
    decides: bool = False
    """True if the setting determines the result, so that it is an error."""
    methods: frozenset[str] = frozenset()
    """Stages that the rule applies to; empty for all."""
    part: str = ""
    """Equivalent that depends on other settings too; a composer of the tool reads it."""


def same(
    key: str, to: str = "", *, convert: Convert = same_value, default: Any = None,
    differs: str = "", only: str = "",
) -> Rule:  # fmt: skip
    """Make a rule for a setting with an equivalent option, `to` or of the same name."""
    return Rule(
        key=key, to=to or key, convert=convert, default=default, differs=differs,
        methods=frozenset(only.split()),
    )  # fmt: skip


def part(key: str, says: str, *, differs: str = "", only: str = "") -> Rule:
    """Make a rule for a setting that a composer reads together with others."""
    return Rule(key=key, part=says, differs=differs, methods=frozenset(only.split()))


def ignored(why: str, *keys: str) -> tuple[Rule, ...]:
    return tuple(Rule(key=key, ignored=why) for key in keys)


def unsupported(
    why: str, *keys: str, harmless: tuple[Any, ...] = (False, 0, 0.0), decides: bool = False
) -> tuple[Rule, ...]:
    return tuple(Rule(key=key, unsupported=why, harmless=harmless, decides=decides) for key in keys)


def is_empty(value: Any) -> bool:
    """Return True if a setting has no value, as in `deepspeed:`."""
    return value is None or value == "" or value == [] or value == {}


def word(words: Mapping[Any, Any], what: str) -> Convert:
    """Return a converter that looks up values in a table."""

    def convert(value: Any) -> Any:
        key = value.lower() if isinstance(value, str) else value
        if key not in words:
            raise NoCounterpart(f"there is no {what} {show(value)}")
        return words[key]

    return convert


def switch(value: Any) -> bool:
    """Convert a boolean of YAML 1.1, which these tools accept."""
    if isinstance(value, str) and value.lower() in ("yes", "on", "true", "y"):
        return True
    if isinstance(value, str) and value.lower() in ("no", "off", "false", "n"):
        return False
    return bool(value)


def sampling_strategy(value: Any) -> str:
    """Return the value of `train_sampling_strategy` that a `group_by_length` switch means."""
    return "group_by_length" if switch(value) else "random"


def number(value: Any) -> Any:
    """Convert a number, which may be quoted."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise NoCounterpart(f"{show(value)} is not a number") from None
    return value


def count(value: Any) -> int | None:
    """Convert a number of steps; -1 and 0 mean that it is not set."""
    if isinstance(value, float) and value < 1:
        raise NoCounterpart("a fraction of the steps is not supported, only a number of steps")
    return int(value) if value and value > 0 else None


def share(value: Any) -> Any:
    """Convert the fraction of the evaluation split."""
    if value is not None and value >= 1:
        raise NoCounterpart("a number of rows is not supported, only a fraction: set hold_out")
    return value


def names(value: Any) -> list[str]:
    """Convert a list of names, or names separated by commas."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return [str(item) for item in value]


def targets(value: Any) -> Any:
    """Convert the target modules of an adapter."""
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
