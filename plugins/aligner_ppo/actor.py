"""The policy and its value function as PPO needs them: measured before learning, trained while.

Shapes as in `forward` and `experience`: M tokens and K states of a micro-batch, N responses of at
most R tokens in an iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from aligner.models.adapters import belongs_to
from aligner.models.language_model import LanguageModel
from aligner.models.logps import token_logps
from aligner.models.reference import Reference
from aligner_ppo.experience import OldLogprobs, Rollouts, cells
from aligner_ppo.forward import Rows, rows_of
from aligner_ppo.parallel import ProcessGroup
from aligner_ppo.value import ADAPTER, ValueFunction


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A policy with its value function, on one device, in one precision.

    Both stay in evaluation mode, learning included: dropout would make the ratio of new to old
    probabilities noise from the first step on.
    """

    policy: Any
    parts: LanguageModel
    """The policy, taken apart."""
    value: ValueFunction
    device: torch.device
    temperature: float
    half: bool
    """Compute in bf16; weights and log-probabilities stay in 32 bits."""

    def policy_parameters(self) -> dict[str, nn.Parameter]:
        """What of the policy is trained, by name."""
        return {
            name: parameter
            for name, parameter in self.policy.named_parameters()
            if parameter.requires_grad and not belongs_to(name, ADAPTER)
        }

    def computing(self) -> torch.autocast:
        """The precision everything is computed in."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def rows(self, rollouts: Rollouts, places: Sequence[int]) -> Rows:
        return rows_of(
            [rollouts.prompts[i] for i in places],
            [rollouts.responses[i].tokens for i in places],
            device=self.device,
        )

    def evaluate(self, rows: Rows, *, entropy: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """Log-probabilities (M,), entropies (M,) if asked for, and values (K,), with gradients."""
        with self.computing():
            hidden_KH = rows.states(self.parts.hidden(rows.tokens_BT))
            logps_M, entropies_M = token_logps(
                self.parts,
                hidden_KH[rows.chosen_K],
                rows.targets_M,
                temperature=self.temperature,
                entropy=entropy,
            )
            return logps_M, entropies_M, self.value(rows, hidden_KH)

    def reference_logps(self, parts: LanguageModel, rows: Rows) -> Tensor:
        """Log-probabilities (M,) under the reference, which `parts` is at the moment."""
        with self.computing():
            hidden_KH = rows.states(parts.hidden(rows.tokens_BT))
            logps_M, _ = token_logps(
                parts, hidden_KH[rows.chosen_K], rows.targets_M, temperature=self.temperature
            )
            return logps_M

    @contextmanager
    def learning(self, *, recompute: bool) -> Iterator[None]:
        """Recompute activations in the backward pass, if asked to, while the body runs."""
        if not recompute:
            yield
            return
        layers = [
            layer
            for model in (self.policy, self.value)
            for layer in model.modules()
            if isinstance(layer, GradientCheckpointingLayer)
        ]
        for layer in layers:
            # A layer recomputes only in training mode; what is inside it stays without dropout.
            layer.training = layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(  # type: ignore[assignment]  # no types
                checkpoint, use_reentrant=False
            )
        try:
            yield
        finally:
            for layer in layers:
                layer.training = layer.gradient_checkpointing = False
                del layer._gradient_checkpointing_func


def measure(
    actor: Actor,
    reference: Reference,
    reference_parts: LanguageModel,
    rollouts: Rollouts,
    batches: Sequence[Sequence[int]],
    *,
    together: ProcessGroup,
) -> OldLogprobs:
    """Log-probabilities, entropies and values of all responses, by policy and reference.

    The policy is run by the very code, and on the very micro-batches, of the first pass of learning:
    the first ratio is then exactly 1.

    Args:
        actor: Policy and value function.
        reference: The reference, switched on while it is needed.
        reference_parts: It, taken apart.
        rollouts: All responses of the iteration.
        batches: This process's micro-batches of the first pass.
        together: The other processes, which measure the rest.
    """
    mask_NR = rollouts.mask_NR
    logps_NR, entropies_NR, values_NR, reference_NR = torch.zeros(4, *mask_NR.shape)
    last_values_N = torch.zeros(len(mask_NR))
    with torch.no_grad():
        for places in batches:
            rows = actor.rows(rollouts, places)
            logps_M, entropies_M, values_K = actor.evaluate(rows, entropy=True)
            assert entropies_M is not None
            here = cells(mask_NR, places)
            logps_NR[here] = logps_M.cpu()
            entropies_NR[here] = entropies_M.cpu()
            values_NR[here] = values_K[rows.chosen_K].cpu()
            last_values_N[list(places)] = values_K[~rows.chosen_K].cpu()
        with reference.active():
            for places in batches:
                rows = actor.rows(rollouts, places)
                found_M = actor.reference_logps(reference_parts, rows)
                reference_NR[cells(mask_NR, places)] = found_M.cpu()
    return OldLogprobs(
        logps_NR=together.sum(logps_NR),
        reference_logps_NR=together.sum(reference_NR),
        values_NR=together.sum(values_NR),
        last_values_N=together.sum(last_values_N),
        entropies_NR=together.sum(entropies_NR),
    )
