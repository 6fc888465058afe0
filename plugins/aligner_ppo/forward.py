"""Run a causal language model over prompts and responses, its head on response positions only.

Shapes: B rows, T columns, V words, H hidden width; M response tokens of all rows in one line, and
K = M + B states, which are each row's M states and the one after its last token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aligner.errors import ModelError

LOGITS_AT_ONCE = 1 << 24
"""Logits held in fp32 at one time (64 MiB); more come in pieces, and again for the gradient."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A causal language model taken apart, so that the head need not run on every position."""

    trunk: Any
    """A transformers model without its head: embeddings and layers."""
    head: nn.Module
    words: int
    """V, the number of logits."""
    scale: float = 1.0
    """What logits are multiplied by (Cohere's `logit_scale`, Granite's 1/`logits_scaling`)."""
    cap: float | None = None
    """Where logits are bent to by a tanh (Gemma 2's `final_logit_softcapping`)."""

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Last hidden states (B, T, H) of rows padded on the right.

        No attention mask is needed: a causal model's tokens never see what stands to their right.
        """
        hidden_BTH: Tensor = self.trunk(input_ids=tokens_BT, use_cache=False).last_hidden_state
        return hidden_BTH

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in fp32, (..., V)."""
        logits = self.head(hidden).float() * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def language_model(model: Any) -> LanguageModel:
    """Take `model` apart, with or without peft adapters, and make sure the parts are the whole.

    Raises:
        ModelError: trunk and head do not add up to what the model itself computes.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    config = base.config
    probe_BT = torch.tensor([[0, 1, 2, 3]], device=next(base.parameters()).device)
    training = model.training
    with torch.no_grad():
        model.eval()
        whole = model(input_ids=probe_BT).logits.float()
        parts = LanguageModel(
            trunk=base.base_model,
            head=base.get_output_embeddings(),
            words=whole.shape[-1],
            scale=_scale(config),
            cap=getattr(config, "final_logit_softcapping", None),
        )
        agree = torch.allclose(parts.logits(parts.hidden(probe_BT)), whole, rtol=1e-3, atol=1e-3)
        model.train(training)
    if not agree:
        raise ModelError(
            f"{type(base).__name__} computes logits in a way that ppo does not know",
            hint="prompt-learning adapters cannot be used here; use LoRA or full weights",
        )
    return parts


def _scale(config: Any) -> float:
    divisor = getattr(config, "logits_scaling", None)
    return 1.0 / float(divisor) if divisor else float(getattr(config, "logit_scale", None) or 1.0)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Prompts with their responses, padded on the right, and where the responses are."""

    tokens_BT: Tensor
    rows_K: Tensor
    """The row of each state."""
    columns_K: Tensor
    """The column of each state: the token that was last when the next one was chosen."""
    chosen_K: Tensor
    """True where a token was chosen after the state, so M of them; false on a row's last state."""
    targets_M: Tensor
    """The tokens chosen."""

    def states(self, hidden_BTH: Tensor) -> Tensor:
        """The hidden states (K, H) that values are read from."""
        return hidden_BTH[self.rows_K, self.columns_K]


def rows_of(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device
) -> Rows:
    """Lay prompts and responses out for one forward pass. What pads them is never looked at."""
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    chosen: list[bool] = []
    targets: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        first, length = len(prompt), len(response)
        tokens_BT[row, : first + length] = torch.tensor([*prompt, *response])
        rows += [row] * (length + 1)
        columns += range(first - 1, first + length)
        chosen += [True] * length + [False]
        targets += response
    return Rows(
        tokens_BT=tokens_BT.to(device),
        rows_K=torch.tensor(rows, device=device),
        columns_K=torch.tensor(columns, device=device),
        chosen_K=torch.tensor(chosen, device=device),
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
    """Log-probabilities of tokens, and the distributions' entropies in nats if asked for.

    log π = logit[target] − logsumexp(logits), so no (M, V) tensor of probabilities is made. Beyond
    `LOGITS_AT_ONCE` the head runs on pieces, whose logits are computed again for the gradient.

    Returns:
        (logps_M, entropies_M or None), fp32.
    """

    def of(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.logits(hidden) / temperature
        normaliser = logits.logsumexp(-1)
        logps = logits.gather(-1, targets[:, None])[:, 0] - normaliser
        if not entropy:
            return logps, logps.new_zeros(())
        return logps, normaliser - ((logits - normaliser[:, None]).exp() * logits).sum(-1)

    piece = max(LOGITS_AT_ONCE // model.words, 1)
    if len(targets_M) <= piece:
        logps_M, entropies_M = of(hidden_MH, targets_M)
    else:
        parts = [
            _again_for_the_gradient(of, hidden, targets)
            for hidden, targets in zip(
                torch.split(hidden_MH, piece), torch.split(targets_M, piece), strict=True
            )
        ]
        logps_M = torch.cat([logps for logps, _ in parts])
        entropies_M = torch.cat([entropies.view(-1) for _, entropies in parts])
    return logps_M, entropies_M if entropy else None


def _again_for_the_gradient(
    of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], hidden: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    if not torch.is_grad_enabled():
        return of(hidden, targets)
    return checkpoint(of, hidden, targets, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
