"""Rows being written by a causal model: their past, their next logits, and which have left.

Shapes: P prompts, B rows in the batch at the moment, Q columns computed at once, T columns so far,
V words.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from aligner.models.padding import left_padded


def keeps_cache(model: nn.Module) -> bool:
    """Whether the past of `model` can be kept as keys and values, one row apart from another.

    Recurrent states and the virtual tokens of prompt-learning adapters cannot; such models are run
    afresh over the whole row for each token, and only rows of one length share a batch.
    """
    active = getattr(model, "active_peft_config", None)
    if active is not None and active.is_prompt_learning:
        return False
    base = _base(model)
    return not getattr(base, "_is_stateful", False) and "past_key_values" in _accepts(base)


class DecodingBatch:
    """Prompts padded on the left, each computed once for all its samples; finished rows leave."""

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Sequence[int]],
        *,
        samples: int,
        device: torch.device,
    ) -> None:
        """Compute the prompts; `logits_BV` then has a row a sample, those of one prompt side by side."""
        tokens_PT, mask_PT = left_padded(prompts)
        base = _base(model)
        self._model, self._accepts = model, _accepts(base)
        self._cache = DynamicCache(config=base.config) if keeps_cache(model) else None
        self._padded = bool((mask_PT == 0).any())
        self._tokens_BT, self._mask_BT = tokens_PT.to(device), mask_PT.to(device)
        self.logits_BV = self._forward(self._tokens_BT)
        """What the next tokens are chosen by, fp32."""
        if samples > 1:
            self._repeat(samples)
        self.places_B = torch.arange(len(self.logits_BV), device=device)
        """Which row of the beginning each one is."""
        self.finished_B = torch.zeros(len(self.logits_BV), dtype=torch.bool, device=device)
        """Rows that have ended and not left yet."""

    def _repeat(self, samples: int) -> None:
        if self._cache is not None:
            self._cache.batch_repeat_interleave(samples)
        self._tokens_BT = self._tokens_BT.repeat_interleave(samples, 0)
        self._mask_BT = self._mask_BT.repeat_interleave(samples, 0)
        self.logits_BV = self.logits_BV.repeat_interleave(samples, 0)

    @torch.no_grad()
    def _forward(self, tokens_BQ: Tensor) -> Tensor:
        """The logits after the last of these tokens, (B, V), fp32."""
        inputs: dict[str, Any] = {"input_ids": tokens_BQ, "use_cache": self._cache is not None}
        if self._cache is not None:
            inputs["past_key_values"] = self._cache
        if self._padded:
            # Without padding the mask says nothing, and its absence spares building (B, 1, Q, T).
            inputs["attention_mask"] = self._mask_BT
            if "position_ids" in self._accepts:
                positions_BT = (self._mask_BT.cumsum(1) - 1).clamp(min=0)
                inputs["position_ids"] = positions_BT[:, -tokens_BQ.shape[1] :]
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = 1
        return self._model(**inputs).logits[:, -1].float()  # type: ignore[no-any-return]

    def go_on(self, tokens_B: Tensor, stopped_B: Tensor) -> bool:
        """Append the tokens just chosen, after finished rows have left; false when none is left."""
        self.finished_B = self.finished_B | stopped_B
        finished = int(self.finished_B.sum())
        if finished == len(self.finished_B):
            return False
        # Leaving copies the cache, so rows leave by the eighth and not one by one.
        if finished * 8 >= len(self.finished_B):
            staying = torch.nonzero(~self.finished_B)[:, 0]
            if self._cache is not None:
                self._cache.batch_select_indices(staying)
            self._tokens_BT, self._mask_BT = self._tokens_BT[staying], self._mask_BT[staying]
            self.places_B, self.finished_B = self.places_B[staying], self.finished_B[staying]
            tokens_B = tokens_B[staying]
        self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(tokens_B), 1)], 1)
        self._tokens_BT = torch.cat([self._tokens_BT, tokens_B[:, None]], 1)
        cached = self._cache is not None
        self.logits_BV = self._forward(tokens_B[:, None] if cached else self._tokens_BT)
        return True


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _accepts(base: Any) -> frozenset[str]:
    return frozenset(inspect.signature(type(base).forward).parameters)
