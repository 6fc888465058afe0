"""A causal language model split into trunk and LM head.

Shapes: B rows, T columns, H hidden size, V vocabulary size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aligner.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Trunk and LM head of a causal language model, so that the head can run on few positions."""

    trunk: Any
    """The transformers model without its head: embeddings and layers."""
    head: nn.Module
    vocab_size: int
    """V, the number of logits."""
    logit_scale: float = 1.0
    """Factor of the logits (Cohere's `logit_scale`, Granite's 1/`logits_scaling`)."""
    softcap: float | None = None
    """Bound of the logits, applied by a tanh (Gemma 2's `final_logit_softcapping`)."""

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Compute the last hidden states, (B, T, H), of rows padded on the right.

        No attention mask is needed: tokens of a causal model never attend to their right.
        """
        hidden_BTH: Tensor = self.trunk(input_ids=tokens_BT, use_cache=False).last_hidden_state
        return hidden_BTH

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute logits, (…, V) in fp32, from hidden states, (…, H)."""
        logits = self.head(hidden).float() * self.logit_scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def split_language_model(model: Any) -> LanguageModel:
    """Split `model`, with or without adapters, and verify that the parts compute what it computes.

    Raises:
        ModelError: trunk and head give other logits than the model.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    config = base.config
    probe_BT = torch.tensor([[0, 1, 2, 3]], device=next(base.parameters()).device)
    training = model.training
    with torch.no_grad():
        model.eval()
        expected = model(input_ids=probe_BT).logits.float()
        parts = LanguageModel(
            trunk=base.base_model,
            head=base.get_output_embeddings(),
            vocab_size=expected.shape[-1],
            logit_scale=_logit_scale(config),
            softcap=getattr(config, "final_logit_softcapping", None),
        )
        computed = parts.logits(parts.hidden(probe_BT))
        model.train(training)
    if not torch.allclose(computed, expected, rtol=1e-3, atol=1e-3):
        raise ModelError(
            f"the logits of {type(base).__name__} are not those of its trunk and head",
            hint="prompt-learning adapters cannot be trained here; use LoRA or full weights",
        )
    return parts


def _logit_scale(config: Any) -> float:
    divisor = getattr(config, "logits_scaling", None)
    return 1.0 / float(divisor) if divisor else float(getattr(config, "logit_scale", None) or 1.0)
