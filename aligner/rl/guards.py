"""Guards: limits of metrics that are checked after each rollout, before the policy is updated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aligner.errors import StageError
from aligner.rl.options import Guards

_SAMPLES = 3
_HINTS = {
    "kl": "raise {kl_option}, set kl_target, or lower learning_rate",
    "entropy": "lower learning_rate, set entropy_coef, or raise {kl_option}",
    "unending": "set missing_eos_penalty, raise max_new_tokens, and check that the stop token was "
    "trained",
    "length": "remove length from the reward, or add the `length` reward function with a maximum",
    "not_finite": "lower learning_rate, and look for rewards that are NaN or infinite",
}
_MESSAGES = {
    "kl": "the KL divergence to the reference is {value:.4g} nats per response, above {limit:.4g}",
    "entropy": "the policy has collapsed: its entropy is {value:.4g} nats per token, below {limit:.4g}",
    "unending": "{value:.0%} of the responses were truncated, above {limit:.0%}",
    "length": "responses are {value:.3g} times as long as in the first iteration, above {limit:.3g}",
    "not_finite": "{name} is NaN or infinite",
}


@dataclass(frozen=True, kw_only=True)
class GuardState:
    """Memory of the guards between iterations."""

    first_length: float = 0.0
    """Mean response length of the first iteration, in tokens."""
    in_a_row: Mapping[str, int] = field(default_factory=dict)
    """For each guard, the number of consecutive iterations beyond its limit."""
    skipped: int = 0
    """Iterations left out of training."""


@dataclass(frozen=True, kw_only=True)
class GuardVerdict:
    """Result of checking the guards: whether to train on this iteration."""

    state: GuardState
    skip: str = ""
    """Name of the guard that leaves the iteration out, if one does."""


def check_guards(
    metrics: Mapping[str, float],
    guards: Guards,
    state: GuardState,
    *,
    iteration: int,
    samples: Sequence[str],
    kl_option: str = "kl_coef",
) -> GuardVerdict:
    """Compare an iteration's metrics with the limits.

    Args:
        metrics: `kl`, `entropy`, `ended` and `length`, and others that must be finite.
        guards: Limits and actions.
        state: Memory from the iterations before.
        iteration: Number of the iteration, from 1.
        samples: Texts of this iteration, for the error message.
        kl_option: Name of the option for the KL coefficient, for the hint.

    Raises:
        StageError: a guard with the action `stop` was triggered.
    """
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        if guards.not_finite == "skip":
            state = replace(state, skipped=state.skipped + 1)
            return GuardVerdict(state=state, skip="not_finite")
        raise _stopped("not_finite", iteration, samples, kl_option, name=broken[0])
    first = state.first_length or metrics["length"]
    in_a_row: dict[str, int] = {}
    skip = ""
    for name, value in _guarded_values(metrics, first).items():
        guard = getattr(guards, name)
        if guard.limit is None:
            continue
        beyond = value < guard.limit if name == "entropy" else value > guard.limit
        in_a_row[name] = state.in_a_row.get(name, 0) + 1 if beyond else 0
        if in_a_row[name] < guard.patience:
            continue
        if guard.then == "stop":
            raise _stopped(name, iteration, samples, kl_option, value=value, limit=guard.limit)
        skip = skip or name
    skipped = state.skipped + bool(skip)
    state = GuardState(first_length=first, in_a_row=in_a_row, skipped=skipped)
    return GuardVerdict(state=state, skip=skip)


def _guarded_values(metrics: Mapping[str, float], first_length: float) -> dict[str, float]:
    return {
        "kl": metrics["kl"],
        "entropy": metrics["entropy"],
        "unending": 1.0 - metrics["ended"],
        "length": metrics["length"] / first_length,
    }


def _stopped(
    guard: str, iteration: int, samples: Sequence[str], kl_option: str, **values: float | str
) -> StageError:
    lines = "".join(f"\n    {text[:120]!r}" for text in samples[:_SAMPLES])
    return StageError(
        f"guard '{guard}' at iteration {iteration}: {_MESSAGES[guard].format(**values)}{lines}",
        hint=f"{_HINTS[guard].format(kl_option=kl_option)}; or set guards.{guard}",
    )
