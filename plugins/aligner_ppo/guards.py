"""Hold what was sampled and measured to bounds before anything is learnt from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aligner.errors import StageError
from aligner_ppo.options import Guards

_SHOWN = 3
_HINTS = {
    "kl": "raise kl_coef, set kl_target, or lower learning_rate",
    "entropy": "lower learning_rate, set entropy_coef, or raise kl_coef",
    "unending": "set missing_eos_penalty, raise max_new_tokens, and see that the stop token was trained",
    "length": "take length out of the reward, or give it a `length` reward function with a maximum",
    "not_finite": "lower learning_rate, and look for rewards that are no numbers",
}
_MEANINGS = {
    "kl": "the policy has run away from the reference: KL a response is {value:.4g} nats, over {limit:.4g}",
    "entropy": "the policy has collapsed: its entropy is {value:.4g} nats a token, under {limit:.4g}",
    "unending": "responses no longer end: {value:.0%} were cut off, over {limit:.0%}",
    "length": "responses have grown to {value:.3g} times their first length, over {limit:.3g}",
    "not_finite": "{name} is no number",
}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the guards remember from one iteration to the next."""

    first_length: float = 0.0
    """Mean response length of the first iteration, in tokens."""
    in_a_row: Mapping[str, int] = field(default_factory=dict)
    """For each guard, iterations in a row that were out of bounds."""
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether to learn from this iteration."""

    watched: Watched
    skip: str = ""
    """The guard that leaves the iteration out, if one does."""


def judge(
    metrics: Mapping[str, float],
    guards: Guards,
    watched: Watched,
    *,
    iteration: int,
    samples: Sequence[str],
    where: str,
) -> Verdict:
    """Compare an iteration's metrics with the bounds.

    Args:
        metrics: `kl`, `entropy`, `ended` and `length`, and whatever else must be a number.
        guards: The bounds, and what happens outside them.
        watched: What was remembered from the iterations before.
        iteration: Its number, from 1.
        samples: Texts of this iteration, for the complaint.
        where: `file:line` for the complaint.

    Raises:
        StageError: a guard says stop. It names the guard, the iteration and samples.
    """
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        if guards.not_finite == "skip":
            return Verdict(watched=replace(watched, skipped=watched.skipped + 1), skip="not_finite")
        raise _stopped("not_finite", iteration, samples, where, name=broken[0])
    first = watched.first_length or metrics["length"]
    values = {
        "kl": metrics["kl"],
        "entropy": metrics["entropy"],
        "unending": 1.0 - metrics["ended"],
        "length": metrics["length"] / first,
    }
    in_a_row: dict[str, int] = {}
    skip = ""
    for name, value in values.items():
        guard = getattr(guards, name)
        if guard.limit is None:
            continue
        out = value < guard.limit if name == "entropy" else value > guard.limit
        in_a_row[name] = watched.in_a_row.get(name, 0) + 1 if out else 0
        if in_a_row[name] < guard.patience:
            continue
        if guard.then == "stop":
            raise _stopped(name, iteration, samples, where, value=value, limit=guard.limit)
        skip = skip or name
    return Verdict(
        watched=Watched(
            first_length=first, in_a_row=in_a_row, skipped=watched.skipped + bool(skip)
        ),
        skip=skip,
    )


def _stopped(
    guard: str, iteration: int, samples: Sequence[str], where: str, **facts: float | str
) -> StageError:
    shown = "".join(f"\n    {text[:120]!r}" for text in samples[:_SHOWN])
    return StageError(
        f"guard '{guard}' at iteration {iteration}: {_MEANINGS[guard].format(**facts)}{shown}",
        where=where,
        hint=f"{_HINTS[guard]}; or set guards.{guard}",
    )
