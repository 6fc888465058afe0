"""Policy and value function on one device: log-probabilities, entropies and values of responses.

Shapes as in `forward` and `experience`: M tokens and K states of a micro-batch, N responses of at
most R tokens in an iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from aligner.models.language_model import LanguageModel
from aligner.models.logps import token_logps
from aligner.models.reference import Reference
from aligner.rl.experience import OldLogprobs, Rollouts, Values
from aligner.rl.forward import ResponseBatch, response_batch
from aligner.rl.minibatches import flat_index
from aligner.rl.processes import ProcessGroup
from aligner.rl.value import ValueFunction


@dataclass(frozen=True, kw_only=True)
class TokenOutputs:
    """Outputs of a forward pass, with gradients."""

    logps_M: Tensor
    entropies_M: Tensor | None
    """Given on request."""
    values_K: Tensor | None
    """Given where there is a value function."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Policy with its value function, if any, on one device, in one precision.

    Both stay in evaluation mode, also while they are trained: with dropout the ratio of new to old
    probabilities would be noise from the first step on.
    """

    policy: Any
    parts: LanguageModel
    """Trunk and head of the policy."""
    value: ValueFunction | None
    device: torch.device
    temperature: float
    bf16: bool
    """Compute in bf16; weights and log-probabilities stay in 32 bits."""

    def policy_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters of the policy by name."""
        value = self.value.trained().values() if self.value is not None else ()
        of_value = {id(parameter) for parameter in value}
        return {
            name: parameter
            for name, parameter in self.policy.named_parameters()
            if parameter.requires_grad and id(parameter) not in of_value
        }

    def autocast(self) -> torch.autocast:
        """Return the context in which everything is computed."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def batch(self, rollouts: Rollouts, places: Sequence[int]) -> ResponseBatch:
        """Make the batch of some responses."""
        return response_batch(
            [rollouts.prompts[i] for i in places],
            [rollouts.responses[i].tokens for i in places],
            device=self.device,
        )

    def evaluate(self, batch: ResponseBatch, *, entropy: bool) -> TokenOutputs:
        """Compute log-probabilities, values, and entropies on request."""
        with self.autocast():
            hidden_KH = batch.states(self.parts.hidden(batch.tokens_BT))
            logps_M, entropies_M = token_logps(
                self.parts,
                hidden_KH[batch.sampled_K],
                batch.targets_M,
                temperature=self.temperature,
                entropy=entropy,
            )
            values_K = None if self.value is None else self.value(batch, hidden_KH)
            return TokenOutputs(logps_M=logps_M, entropies_M=entropies_M, values_K=values_K)

    def reference_logps(self, parts: LanguageModel, batch: ResponseBatch) -> Tensor:
        """Compute log-probabilities (M,) under the reference, given its trunk and head."""
        with self.autocast():
            hidden_KH = batch.states(parts.hidden(batch.tokens_BT))
            logps_M, _ = token_logps(
                parts, hidden_KH[batch.sampled_K], batch.targets_M, temperature=self.temperature
            )
            return logps_M

    @contextmanager
    def checkpointing(self, *, enabled: bool) -> Iterator[None]:
        """Recompute activations in backward passes within the `with` block, if enabled."""
        if not enabled:
            yield
            return
        layers = [
            layer
            for model in (self.policy, self.value)
            if model is not None
            for layer in model.modules()
            if isinstance(layer, GradientCheckpointingLayer)
        ]
        for layer in layers:
            # A layer recomputes only in training mode; the modules inside it stay without dropout.
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


def old_logprobs(
    actor: Actor,
    reference: Reference,
    reference_parts: LanguageModel,
    rollouts: Rollouts,
    batches: Sequence[Sequence[int]],
    *,
    processes: ProcessGroup,
) -> OldLogprobs:
    """Compute log-probabilities, entropies and values of all responses before the update.

    The policy runs the same code on the same micro-batches as in the first pass of the update: the
    first ratio is then exactly 1.

    Args:
        actor: Policy and value function.
        reference: Reference, active while it is needed.
        reference_parts: Its trunk and head.
        rollouts: All responses of the iteration.
        batches: This process's micro-batches of the first pass.
        processes: The processes that compute the other responses.
    """
    mask_NR = rollouts.mask_NR
    reference_NR = torch.zeros(mask_NR.shape)
    with torch.no_grad():
        old = _policy_logprobs(actor, rollouts, batches, processes=processes)
        with reference.active():
            for places in batches:
                batch = actor.batch(rollouts, places)
                logps_M = actor.reference_logps(reference_parts, batch)
                reference_NR[flat_index(mask_NR, places)] = logps_M.cpu()
    return replace(old, reference_logps_NR=processes.sum(reference_NR))


def _policy_logprobs(
    actor: Actor,
    rollouts: Rollouts,
    batches: Sequence[Sequence[int]],
    *,
    processes: ProcessGroup,
) -> OldLogprobs:
    """Compute all but the reference's log-probabilities, which are left 0."""
    mask_NR = rollouts.mask_NR
    logps_NR, entropies_NR, values_NR, zeros_NR = torch.zeros(4, *mask_NR.shape)
    last_values_N = torch.zeros(len(mask_NR))
    for places in batches:
        batch = actor.batch(rollouts, places)
        outputs = actor.evaluate(batch, entropy=True)
        index = flat_index(mask_NR, places)
        logps_NR[index] = outputs.logps_M.cpu()
        assert outputs.entropies_M is not None
        entropies_NR[index] = outputs.entropies_M.cpu()
        if outputs.values_K is not None:
            values_NR[index] = outputs.values_K[batch.sampled_K].cpu()
            last_values_N[list(places)] = outputs.values_K[~batch.sampled_K].cpu()
    values = None
    if actor.value is not None:
        values = Values(values_NR=processes.sum(values_NR), last_N=processes.sum(last_values_N))
    return OldLogprobs(
        logps_NR=processes.sum(logps_NR),
        reference_logps_NR=zeros_NR,
        entropies_NR=processes.sum(entropies_NR),
        values=values,
    )
