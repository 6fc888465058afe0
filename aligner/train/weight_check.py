"""Check that training changed the weights and left them finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aligner.errors import StageError
from aligner.stage import StepContext

_SAMPLED = 64
"""Number of elements of each parameter that are compared."""


def sample_weights(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the first elements of each parameter, to compare them after training."""
    return {
        name: parameter.detach().flatten()[:_SAMPLED].to("cpu", copy=True)
        for name, parameter in parameters.items()
    }


def check_weights_changed(
    before: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    context: StepContext,
    *,
    hint: str = "raise learning_rate, or use precision: fp32 so that small updates count",
) -> None:
    """Raise an error if training changed no parameter, or if one is not finite.

    Args:
        before: `sample_weights` of the same parameters before training.
        parameters: Trained parameters, by name.
        context: That of the step.
        hint: Shown if no parameter changed.

    Raises:
        StageError: a parameter is not finite, or none changed.
    """
    after = sample_weights(parameters)
    broken = [name for name, tensor in after.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise StageError(
            f"{len(broken)} parameters became NaN or infinite (first: {broken[0]!r}); "
            "the result was discarded",
            where=context.where,
            hint="lower learning_rate or use precision: fp32",
        )
    if all(torch.equal(tensor, after[name]) for name, tensor in before.items()):
        raise StageError(
            f"training changed none of {len(after)} trained parameters",
            where=context.where,
            hint=hint,
        )
