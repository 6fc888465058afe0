"""State of a batch in generation: key-value cache, next logits, and finished rows.

Shapes: P prompts, B rows in the batch at the moment, Q columns computed at once, T columns so far,
V vocabulary size.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from aligner.models.padding import pad_left


def supports_cache(model: nn.Module) -> bool:
    """Return True if `model` has a key-value cache with separate rows.

    Recurrent models and prompt-learning adapters have none; they compute the full row for each token, and
    only rows of equal length share a batch.
    """
    active = getattr(model, "active_peft_config", None)
    if active is not None and active.is_prompt_learning:
        return False
    base = _base(model)
    return not getattr(base, "_is_stateful", False) and "past_key_values" in _accepts(base)


class DecodingBatch:
    """Prompts padded on the left, each computed once for all its samples; finished rows are removed."""

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Sequence[int]],
        *,
        samples: int,
        device: torch.device,
    ) -> None:
        """Compute the prompts; `logits_BV` then has a row per sample, those of a prompt adjacent."""
        tokens_PT, mask_PT = pad_left(prompts)
        base = _base(model)
        self._model, self._accepts = model, _accepts(base)
        self._cache = DynamicCache(config=base.config) if supports_cache(model) else None
        self._padded = bool((mask_PT == 0).any())
        self._tokens_BT, self._mask_BT = tokens_PT.to(device), mask_PT.to(device)
        self.logits_BV = self._forward(self._tokens_BT)
        """Logits of the next tokens, fp32."""
        if samples > 1:
            self._repeat(samples)
        self.rows_B = torch.arange(len(self.logits_BV), device=device)
        """Index of each row in the initial batch."""
        self.finished_B = torch.zeros(len(self.logits_BV), dtype=torch.bool, device=device)
        """True for rows that have ended and are not removed yet."""

    def _repeat(self, samples: int) -> None:
        if self._cache is not None:
            self._cache.batch_repeat_interleave(samples)
        self._tokens_BT = self._tokens_BT.repeat_interleave(samples, 0)
        self._mask_BT = self._mask_BT.repeat_interleave(samples, 0)
        self.logits_BV = self.logits_BV.repeat_interleave(samples, 0)

    @torch.no_grad()
    def _forward(self, tokens_BQ: Tensor) -> Tensor:
        """Compute the logits after the last of these tokens, (B, V), fp32."""
        inputs: dict[str, Any] = {"input_ids": tokens_BQ, "use_cache": self._cache is not None}
        if self._cache is not None:
            inputs["past_key_values"] = self._cache
        if self._padded:
            # Without padding no mask is needed, which saves a (B, 1, Q, T) tensor.
            inputs["attention_mask"] = self._mask_BT
            if "position_ids" in self._accepts:
                positions_BT = (self._mask_BT.cumsum(1) - 1).clamp(min=0)
                inputs["position_ids"] = positions_BT[:, -tokens_BQ.shape[1] :]
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = 1
        return self._model(**inputs).logits[:, -1].float()  # type: ignore[no-any-return]

    def append(self, tokens_B: Tensor, stopped_B: Tensor) -> bool:
        """Append sampled tokens and compute the next logits; return False if all rows have finished."""
        self.finished_B = self.finished_B | stopped_B
        finished = int(self.finished_B.sum())
        if finished == len(self.finished_B):
            return False
        # Removing rows copies the cache, so an eighth of the batch is removed at once.
        if finished * 8 >= len(self.finished_B):
            remaining = torch.nonzero(~self.finished_B)[:, 0]
            if self._cache is not None:
                self._cache.batch_select_indices(remaining)
            self._tokens_BT, self._mask_BT = self._tokens_BT[remaining], self._mask_BT[remaining]
            self.rows_B, self.finished_B = self.rows_B[remaining], self.finished_B[remaining]
            tokens_B = tokens_B[remaining]
        self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(tokens_B), 1)], 1)
        self._tokens_BT = torch.cat([self._tokens_BT, tokens_B[:, None]], 1)
        cached = self._cache is not None
        self.logits_BV = self._forward(tokens_B[:, None] if cached else self._tokens_BT)
        return True


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _accepts(base: Any) -> frozenset[str]:
    return frozenset(inspect.signature(type(base).forward).parameters)
