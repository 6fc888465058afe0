"""Rules of a table: the equivalent of a setting of another tool in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aligner.kit.declare import show

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
    composed: str = ""
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


def composed(key: str, equivalent: str, *, differs: str = "", only: str = "") -> Rule:
    """Make a rule for a setting that a composer reads together with others."""
    return Rule(key=key, composed=equivalent, differs=differs, methods=frozenset(only.split()))


def ignored(why: str, *keys: str) -> tuple[Rule, ...]:
    """Make rules for settings that do not change the result."""
    return tuple(Rule(key=key, ignored=why) for key in keys)


def unsupported(
    why: str, *keys: str, harmless: tuple[Any, ...] = (False, 0, 0.0), decides: bool = False
) -> tuple[Rule, ...]:
    """Make rules for settings without an equivalent."""
    return tuple(Rule(key=key, unsupported=why, harmless=harmless, decides=decides) for key in keys)


def is_empty(value: Any) -> bool:
    """Return True if a setting has no value, as in `deepspeed:`."""
    return value is None or value == "" or value == [] or value == {}


def lookup(words: Mapping[Any, Any], what: str) -> Convert:
    """Return a converter that looks up values in a table."""

    def convert(value: Any) -> Any:
        key = value.lower() if isinstance(value, str) else value
        if key not in words:
            raise NoCounterpart(f"there is no {what} {show(value)}")
        return words[key]

    return convert


def parse_bool(value: Any) -> bool:
    """Convert a boolean of YAML 1.1, which these tools accept."""
    if isinstance(value, str) and value.lower() in ("yes", "on", "true", "y"):
        return True
    if isinstance(value, str) and value.lower() in ("no", "off", "false", "n"):
        return False
    return bool(value)


def parse_sampling_strategy(value: Any) -> str:
    """Return the value of `train_sampling_strategy` that a `group_by_length` switch means."""
    return "group_by_length" if parse_bool(value) else "random"


def parse_number(value: Any) -> Any:
    """Convert a number, which may be quoted."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise NoCounterpart(f"{show(value)} is not a number") from None
    return value


def parse_steps(value: Any) -> int | None:
    """Convert a number of steps; -1 and 0 mean that it is not set."""
    if isinstance(value, float) and value < 1:
        raise NoCounterpart("a fraction of the steps is not supported, only a number of steps")
    return int(value) if value and value > 0 else None


def parse_fraction(value: Any) -> Any:
    """Convert the fraction of the evaluation split."""
    if value is not None and value >= 1:
        raise NoCounterpart("a number of rows is not supported, only a fraction: set hold_out")
    return value


def parse_names(value: Any) -> list[str]:
    """Convert a list of names, or names separated by commas."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return [str(name) for name in value]


def parse_targets(value: Any) -> Any:
    """Convert the target modules of an adapter."""
    modules = parse_names(value)
    return "all-linear" if modules in (["all"], ["all-linear"]) else modules


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

parse_schedule = lookup(SCHEDULES, "schedule")
parse_optimizer = lookup(OPTIMIZERS, "optimizer")
