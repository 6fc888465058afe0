"""Guards: each named, with the iteration and samples; stopping or skipping as the recipe says."""

from __future__ import annotations

import pytest

from aligner.errors import StageError
from aligner_ppo.guards import Watched, judge
from aligner_ppo.options import Guards

FINE = {"reward": 0.5, "kl": 1.0, "entropy": 2.0, "ended": 0.9, "length": 10.0}


def judged(metrics, guards, watched=None, *, iteration=8):
    return judge(
        FINE | metrics,
        guards,
        watched or Watched(first_length=10.0),
        iteration=iteration,
        samples=["a\nb", "c", "d", "e"],
        where="recipe.yaml:7",
    )


@pytest.mark.parametrize(
    ("guard", "limit", "metrics", "said", "hint"),
    [
        (
            "kl",
            50.0,
            {"kl": 51.0},
            "the policy has run away from the reference: KL a response is 51 nats, over 50",
            "raise kl_coef, set kl_target, or lower learning_rate",
        ),
        (
            "entropy",
            0.1,
            {"entropy": 0.05},
            "the policy has collapsed: its entropy is 0.05 nats a token, under 0.1",
            "lower learning_rate, set entropy_coef, or raise kl_coef",
        ),
        (
            "unending",
            0.5,
            {"ended": 0.25},
            "responses no longer end: 75% were cut off, over 50%",
            "set missing_eos_penalty, raise max_new_tokens, and see that the stop token was trained",
        ),
        (
            "length",
            2.0,
            {"length": 25.0},
            "responses have grown to 2.5 times their first length, over 2",
            "take length out of the reward, or give it a `length` reward function with a maximum",
        ),
    ],
)
def test_a_figure_out_of_bounds_stops_the_step_by_name(guard, limit, metrics, said, hint) -> None:
    guards = Guards(**{guard: limit})
    with pytest.raises(StageError) as stopped:
        judged(metrics, guards)
    assert str(stopped.value) == (
        f"recipe.yaml:7: guard '{guard}' at iteration 8: {said}\n"
        "    'a\\nb'\n    'c'\n    'd'\n"
        f"  hint: {hint}; or set guards.{guard}"
    )
    skipping = Guards(**{guard: {"limit": limit, "then": "skip"}})
    verdict = judged(metrics, skipping)
    assert verdict.skip == guard
    assert verdict.watched.skipped == 1
    assert judged(metrics, Guards(**{guard: None})).skip == ""


def test_patience_counts_iterations_in_a_row() -> None:
    guards = Guards(kl={"limit": 5, "then": "skip", "patience": 2})
    watched = Watched(first_length=10.0)
    skips = []
    for kl in (6.0, 1.0, 6.0, 6.0, 6.0):
        verdict = judged({"kl": kl}, guards, watched)
        watched = verdict.watched
        skips.append(verdict.skip)
    assert skips == ["", "", "", "kl", "kl"]
    assert watched.skipped == 2


def test_growth_is_measured_against_the_first_iteration() -> None:
    guards = Guards(length={"limit": 2, "then": "skip"})
    first = judged({"length": 3.0}, guards, Watched(), iteration=1)
    assert first.watched.first_length == 3.0
    assert judged({"length": 6.0}, guards, first.watched).skip == ""
    assert judged({"length": 6.1}, guards, first.watched).skip == "length"


@pytest.mark.parametrize("metric", ["reward", "kl", "entropy"])
def test_no_number_is_never_learnt_from(metric) -> None:
    with pytest.raises(StageError, match=f"iteration 8: {metric} is no number"):
        judged({metric: float("inf")}, Guards())
    verdict = judged({metric: float("nan")}, Guards(not_finite="skip"))
    assert verdict.skip == "not_finite"


def test_the_defaults_let_a_healthy_run_pass() -> None:
    assert judged({}, Guards()).skip == ""
