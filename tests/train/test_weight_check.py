"""The result of training is kept only if a parameter changed and all are finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from aligner.errors import StageError
from aligner.registry import Registry
from aligner.stage import Plan, StepContext
from aligner.state import ModelCache
from aligner.train.weight_check import check_weights_changed, sample_weights


def run_in(folder: Path) -> StepContext:
    return StepContext(
        step="train",
        folder=folder,
        recipe_folder=folder,
        where="recipe.yaml:7",
        seed=0,
        plan=Plan(summary=""),
        model_cache=ModelCache(),
        registry=Registry(),
        memo={},
    )


def parameters() -> dict[str, nn.Parameter]:
    return {"one": nn.Parameter(torch.ones(100, 3)), "two": nn.Parameter(torch.zeros(2))}


def test_one_parameter_that_changed_is_enough(tmp_path: Path) -> None:
    trained = parameters()
    before = sample_weights(trained)
    with torch.no_grad():
        trained["two"][1] = 1e-6
    check_weights_changed(before, trained, run_in(tmp_path))


def test_no_changed_parameter_is_an_error_with_the_steps_own_hint(tmp_path: Path) -> None:
    trained = parameters()
    with pytest.raises(StageError) as caught:
        check_weights_changed(sample_weights(trained), trained, run_in(tmp_path), hint="pay more")
    assert str(caught.value) == (
        "recipe.yaml:7: training changed none of 2 trained parameters\n  hint: pay more"
    )


def test_an_infinite_parameter_is_an_error_that_names_it(tmp_path: Path) -> None:
    trained = parameters()
    before = sample_weights(trained)
    with torch.no_grad():
        trained["two"][0] = torch.inf
    with pytest.raises(StageError) as caught:
        check_weights_changed(before, trained, run_in(tmp_path))
    assert str(caught.value) == (
        "recipe.yaml:7: 1 parameters became NaN or infinite (first: 'two'); the result was discarded\n"
        "  hint: lower learning_rate or use precision: fp32"
    )
