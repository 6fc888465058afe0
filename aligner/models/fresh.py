"""Create a small Llama model with random weights, determined by a seed."""

from __future__ import annotations

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from aligner.errors import ModelError
from aligner.models.adapters import seeded
from aligner.models.load import move_to
from aligner.models.options import FreshModel
from aligner.models.precision import device
from aligner.models.restore import snapshot_settings


def fresh_config(options: FreshModel, *, vocab_size: int) -> LlamaConfig:
    """Return the config of the model that `fresh_model` creates.

    Raises:
        ModelError: the numbers of heads do not divide the widths.
    """
    heads = options.num_attention_heads
    kv_heads = options.num_key_value_heads or heads
    width, odd = divmod(options.hidden_size, heads)
    if odd or width % 2:
        raise ModelError(
            f"hidden_size {options.hidden_size} is not num_attention_heads {heads} times an even width",
            hint=f"use hidden_size {heads * 2 * max(1, width // 2)}",
        )
    if heads % kv_heads:
        raise ModelError(
            f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}",
            hint=f"use a divisor of {heads}",
        )
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=options.hidden_size,
        intermediate_size=options.intermediate_size or -(-options.hidden_size // 3) * 8,
        num_hidden_layers=options.num_hidden_layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=options.max_position_embeddings,
        tie_word_embeddings=options.tie_word_embeddings,
        initializer_range=options.initializer_range,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        dtype="float32",
    )


def fresh_model(options: FreshModel, *, vocab_size: int, seed: int) -> PreTrainedModel:
    """Create a LlamaForCausalLM in fp32 on `device()` with random weights.

    Args:
        options: Its shape.
        vocabulary: Rows of the embedding.
        seed: The run's.
    """
    config = fresh_config(options, vocab_size=vocab_size)
    config._attn_implementation = "sdpa"
    with seeded(seed, "fresh model"):
        model: PreTrainedModel = LlamaForCausalLM(config)
    move_to(model, device())
    model.train(False)
    snapshot_settings(model)
    return model
