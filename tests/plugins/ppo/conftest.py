"""Tiny real models for the tests of PPO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


def _tiny(*, seed: int = 0, vocab: int = 32, layers: int = 2, width: int = 32, **more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        **more,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """Make a Llama of about 20,000 random parameters whose padding token is its stop token."""
    return _tiny
