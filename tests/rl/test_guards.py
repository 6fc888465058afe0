"""Guards: each named, with the iteration and samples; stopping or skipping as the recipe says."""

from __future__ import annotations

import pytest

from aligner.errors import StageError
from aligner.rl.guards import GuardState, check_guards
from aligner.rl.options import Guards

FINE = {"reward": 0.5, "kl": 1.0, "entropy": 2.0, "ended": 0.9, "length": 10.0}


def checked(metrics, guards, state=None, *, iteration=8):
    return check_guards(
        FINE | metrics,
        guards,
        state or GuardState(first_length=10.0),
        iteration=iteration,
        samples=["a\nb", "c", "d", "e"],
    )


@pytest.mark.parametrize(
    ("guard", "limit", "metrics", "message", "hint"),
    [
        (
            "kl",
            50.0,
            {"kl": 51.0},
            "the KL divergence to the reference is 51 nats per response, above 50",
            "raise kl_coef, set kl_target, or lower learning_rate",
        ),
        (
            "entropy",
            0.1,
            {"entropy": 0.05},
            "the policy has collapsed: its entropy is 0.05 nats per token, below 0.1",
            "lower learning_rate, set entropy_coef, or raise kl_coef",
        ),
        (
            "unending",
            0.5,
            {"ended": 0.25},
            "75% of the responses were truncated, above 50%",
            "set missing_eos_penalty, raise max_new_tokens, and check that the stop token was trained",
        ),
        (
            "length",
            2.0,
            {"length": 25.0},
            "responses are 2.5 times as long as in the first iteration, above 2",
            "remove length from the reward, or add the `length` reward function with a maximum",
        ),
    ],
)
def test_a_metric_beyond_its_limit_stops_the_step_by_name(
    guard, limit, metrics, message, hint
) -> None:
    guards = Guards(**{guard: limit})
    with pytest.raises(StageError) as stopped:
        checked(metrics, guards)
    assert str(stopped.value) == (
        f"guard '{guard}' at iteration 8: {message}\n"
        "    'a\\nb'\n    'c'\n    'd'\n"
        f"  hint: {hint}; or set guards.{guard}"
    )
    skipping = Guards(**{guard: {"limit": limit, "then": "skip"}})
    verdict = checked(metrics, skipping)
    assert verdict.skip == guard
    assert verdict.state.skipped == 1
    assert checked(metrics, Guards(**{guard: None})).skip == ""


def test_patience_counts_iterations_in_a_row() -> None:
    guards = Guards(kl={"limit": 5, "then": "skip", "patience": 2})
    state = GuardState(first_length=10.0)
    skips = []
    for kl in (6.0, 1.0, 6.0, 6.0, 6.0):
        verdict = checked({"kl": kl}, guards, state)
        state = verdict.state
        skips.append(verdict.skip)
    assert skips == ["", "", "", "kl", "kl"]
    assert state.skipped == 2


def test_growth_is_measured_against_the_first_iteration() -> None:
    guards = Guards(length={"limit": 2, "then": "skip"})
    first = checked({"length": 3.0}, guards, GuardState(), iteration=1)
    assert first.state.first_length == 3.0
    assert checked({"length": 6.0}, guards, first.state).skip == ""
    assert checked({"length": 6.1}, guards, first.state).skip == "length"


@pytest.mark.parametrize("metric", ["reward", "kl", "entropy"])
def test_nan_and_infinity_are_never_trained_on(metric) -> None:
    with pytest.raises(StageError, match=f"iteration 8: {metric} is NaN or infinite"):
        checked({metric: float("inf")}, Guards())
    verdict = checked({metric: float("nan")}, Guards(not_finite="skip"))
    assert verdict.skip == "not_finite"


def test_the_defaults_let_a_healthy_run_pass() -> None:
    assert checked({}, Guards()).skip == ""


def test_a_hint_names_the_option_for_the_kl_coefficient() -> None:
    with pytest.raises(StageError) as stopped:
        check_guards(
            FINE | {"kl": 101.0},
            Guards(),
            GuardState(first_length=10.0),
            iteration=2,
            samples=[],
            kl_option="beta",
        )
    assert str(stopped.value) == (
        "guard 'kl' at iteration 2: the KL divergence to the reference is 101 nats per response, "
        "above 100\n"
        "  hint: raise beta, set kl_target, or lower learning_rate; or set guards.kl"
    )
