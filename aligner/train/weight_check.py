"""See that training moved what it trains, and left numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aligner.errors import StageError
from aligner.stage import StepContext

_SAMPLED = 64
"""Elements of each parameter that are looked at."""


def sample_of(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The first elements of each parameter, to hold against what becomes of them."""
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
    """Refuse to keep what training left, where it left nothing new or no numbers.

    Args:
        before: `sample_of` the same parameters when training began.
        parameters: What was trained, by name.
        run: Whose step it is.
        hint: What to do where nothing has moved.

    Raises:
        StageError: a parameter is not finite, or not one has moved.
    """
    after = sample_of(parameters)
    broken = [name for name, tensor in after.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise StageError(
            f"{len(broken)} parameters are no numbers any more, {broken[0]!r} first; nothing is kept",
            where=context.where,
            hint="lower learning_rate or use precision: fp32",
        )
    if all(torch.equal(tensor, after[name]) for name, tensor in before.items()):
        raise StageError(
            f"training ended and not one of {len(after)} trained parameters has moved",
            where=context.where,
            hint=hint,
        )
