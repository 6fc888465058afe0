"""Forward pass over prompts and responses, with the LM head on response positions only.

Shapes: B rows, T columns, V vocabulary, H hidden width; M response tokens of all rows in one row
without padding; K = M + B states: each row's states before its tokens and the one after the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aligner.errors import ModelError

MAX_LOGITS = 1 << 24
"""Number of fp32 logits in memory at once (64 MiB); more are computed in chunks, and again for the
gradient."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Trunk and head of a causal language model, so that the head need not run on every position."""

    trunk: Any
    """A transformers model without its head: embeddings and layers."""
    head: nn.Module
    vocab_size: int
    """V, the number of logits."""
    scale: float = 1.0
    """Factor for the logits (Cohere's `logit_scale`, Granite's 1/`logits_scaling`)."""
    softcap: float | None = None
    """Limit to which a tanh bends the logits (Gemma 2's `final_logit_softcapping`)."""

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Compute the last hidden states (B, T, H) of rows padded on the right.

        No attention mask is needed: a causal model's tokens never see what is to their right.
        """
        hidden_BTH: Tensor = self.trunk(input_ids=tokens_BT, use_cache=False).last_hidden_state
        return hidden_BTH

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute logits in fp32, (..., V)."""
        logits = self.head(hidden).float() * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def language_model(model: Any) -> LanguageModel:
    """Split `model`, with or without peft adapters, into trunk and head, and verify the split.

    Raises:
        ModelError: trunk and head do not compute the logits of the model itself.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    config = base.config
    probe_BT = torch.tensor([[0, 1, 2, 3]], device=next(base.parameters()).device)
    training = model.training
    with torch.no_grad():
        model.eval()
        expected = model(input_ids=probe_BT).logits.float()
        split = LanguageModel(
            trunk=base.base_model,
            head=base.get_output_embeddings(),
            vocab_size=expected.shape[-1],
            scale=_logit_scale(config),
            softcap=getattr(config, "final_logit_softcapping", None),
        )
        found = split.logits(split.hidden(probe_BT))
        equal = torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
        model.train(training)
    if not equal:
        raise ModelError(
            f"{type(base).__name__} computes its logits in an unsupported way",
            hint="prompt-learning adapters cannot be used here; use LoRA or full weights",
        )
    return split


def _logit_scale(config: Any) -> float:
    divisor = getattr(config, "logits_scaling", None)
    return 1.0 / float(divisor) if divisor else float(getattr(config, "logit_scale", None) or 1.0)


@dataclass(frozen=True, kw_only=True)
class ResponseBatch:
    """Prompts with their responses, padded on the right, and the positions of the responses."""

    tokens_BT: Tensor
    rows_K: Tensor
    """Row of each state."""
    columns_K: Tensor
    """Column of each state: that of the last token before the next one is sampled."""
    sampled_K: Tensor
    """True where a token was sampled from the state, M of them; false on the last state of a row."""
    targets_M: Tensor
    """Tokens sampled."""

    def states(self, hidden_BTH: Tensor) -> Tensor:
        """Select the hidden states (K, H)."""
        return hidden_BTH[self.rows_K, self.columns_K]


def response_batch(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device
) -> ResponseBatch:
    """Join prompts and responses for one forward pass. Padding is never read."""
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    sampled: list[bool] = []
    targets: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        first, length = len(prompt), len(response)
        tokens_BT[row, : first + length] = torch.tensor([*prompt, *response])
        rows += [row] * (length + 1)
        columns += range(first - 1, first + length)
        sampled += [True] * length + [False]
        targets += response
    return ResponseBatch(
        tokens_BT=tokens_BT.to(device),
        rows_K=torch.tensor(rows, device=device),
        columns_K=torch.tensor(columns, device=device),
        sampled_K=torch.tensor(sampled, device=device),
        targets_M=torch.tensor(targets, device=device),
    )


def token_logps(
    model: LanguageModel,
    hidden_MH: Tensor,
    targets_M: Tensor,
    *,
    temperature: float,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute log-probabilities of tokens and, on request, the entropies of the distributions.

    log π = logit[target] − logsumexp(logits), so no (M, V) tensor of probabilities is made. Beyond
    `MAX_LOGITS` the head runs on chunks, whose logits are computed again for the gradient.

    Returns:
        (logps_M, entropies_M in nats or None), fp32.
    """

    def compute(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.logits(hidden) / temperature
        normalizer = logits.logsumexp(-1)
        logps = logits.gather(-1, targets[:, None])[:, 0] - normalizer
        if not entropy:
            return logps, logps.new_zeros(())
        return logps, normalizer - ((logits - normalizer[:, None]).exp() * logits).sum(-1)

    chunk = max(MAX_LOGITS // model.vocab_size, 1)
    if len(targets_M) <= chunk:
        logps_M, entropies_M = compute(hidden_MH, targets_M)
    else:
        chunks = [
            _recompute_for_gradient(compute, hidden, targets)
            for hidden, targets in zip(
                torch.split(hidden_MH, chunk), torch.split(targets_M, chunk), strict=True
            )
        ]
        logps_M = torch.cat([logps for logps, _ in chunks])
        entropies_M = torch.cat([entropies.view(-1) for _, entropies in chunks])
    return logps_M, entropies_M if entropy else None


def _recompute_for_gradient(
    compute: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], hidden: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    if not torch.is_grad_enabled():
        return compute(hidden, targets)
    return checkpoint(  # type: ignore[no-any-return]
        compute, hidden, targets, use_reentrant=False, preserve_rng_state=False
    )
