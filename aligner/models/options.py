"""Options of models: adapters, loading, sampling, and fresh models. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aligner.errors import ModelError
from aligner.stage import StageOptions

Incoming = Literal["continue", "merge", "stack"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "pure_bf16"]
Quantize = Literal["nf4", "int8"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]
AdapterPlan = Literal["full", "fresh", "continue", "merge", "merge and fresh", "stack"]
"""How a step trains the weights that it receives.

`full` trains all weights; `fresh` adds a new adapter; `continue` trains the topmost incoming adapter;
`merge` merges all adapters and trains all weights; `merge and fresh` merges them and adds a new adapter;
`stack` freezes them and adds a new adapter on top.
"""


class Adapter(StageOptions):
    """Low-rank adapter, trained instead of the full weights."""

    method: Literal["lora", "rslora", "dora"] = "lora"
    """`lora` (Hu 2021), `rslora` (scaled by `lora_alpha` / sqrt(`r`), Kalajdzievski 2023) or `dora`
    (direction and magnitude separately, Liu 2024)."""
    r: int = Field(16, gt=0)
    """Rank of the update matrices."""
    lora_alpha: float = Field(32, gt=0)
    """Scale of the update: `lora_alpha` / `r`, or `lora_alpha` / sqrt(`r`) for rslora."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout probability of the adapter's input in training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Modules that the adapter applies to: all linear modules except the LM head (`all-linear`), or names
    such as `q_proj`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules that are trained in full and saved with the adapter, such as `embed_tokens`."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _check_type(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "all-linear":
            raise ValueError(f"give 'all-linear' or a list of module names, such as [{value}]")
        return value

    @field_validator("target_modules")
    @classmethod
    def _check_length(cls, value: Any) -> Any:
        if not value:
            raise ValueError("an adapter needs at least one target module")
        return value


class LoadOptions(StageOptions):
    """Precision, quantization and attention kernel of loaded models."""

    precision: Precision = "auto"
    """Precision of weights and computation. `bf16` and `fp16` keep trained weights in fp32 and compute in
    16 bits; frozen weights are held in 16 bits. `pure_bf16` holds all weights but adapters in bf16. `auto`
    is bf16 on a GPU that supports it, and fp32 elsewhere."""
    quantize: Quantize | None = None
    """Quantize the frozen weights below adapters to 4 bits (`nf4`, Dettmers 2023) or 8 bits (`int8`). Needs
    `pip install aligner[quantize]`."""
    attn_implementation: Attention = "auto"
    """Attention kernel; `auto` is sdpa if the architecture supports it, and eager otherwise."""


class SamplingOptions(StageOptions):
    """Sampling of completions."""

    max_new_tokens: int = Field(256, gt=0)
    """Longest completion in tokens; one that has not ended by then is truncated."""
    min_new_tokens: int = Field(0, ge=0)
    """Number of tokens before the first that may be a stop token."""
    temperature: float = Field(1.0, ge=0)
    """Softmax temperature of sampling; 0 always takes the most likely token."""
    top_k: int = Field(0, ge=0)
    """Sample among this many most likely tokens; 0 for all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample among the most likely tokens of this total probability (Holtzman 2020)."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError("min_new_tokens must be below max_new_tokens")
        return self


class ModelOptions(LoadOptions):
    """Options of the model that a step trains; a stage's options inherit them."""

    adapter: Adapter | None = None
    """Train this adapter instead of the full weights."""
    incoming: Incoming | None = None
    """Treatment of adapters that earlier steps trained: `continue` trains the topmost further, `merge` merges
    all into the weights, `stack` freezes them below a new one. By default `continue` if there are some and
    `adapter` is not given. Required if there are some and `adapter` is given; an error without any."""


class FreshModel(StageOptions):
    """Shape of a small Llama model with random weights."""

    hidden_size: int = Field(128, gt=0)
    """Width of the hidden states."""
    num_hidden_layers: int = Field(4, gt=0)
    """Number of transformer layers."""
    num_attention_heads: int = Field(4, gt=0)
    """Number of attention heads; `hidden_size` must be a multiple of twice this number."""
    num_key_value_heads: int | None = Field(None, gt=0)
    """Number of key and value heads; must divide `num_attention_heads`. By default as many."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layers; by default 8/3 of `hidden_size`, rounded up to a multiple of 8."""
    max_position_embeddings: int = Field(512, gt=0)
    """Longest sequence in tokens."""
    tie_word_embeddings: bool = True
    """Share the weights of the embedding and the LM head."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of the random weights; narrow models train much faster from about
    1/sqrt(`hidden_size`)."""


def adapter_plan(adapters: Sequence[object], options: ModelOptions) -> AdapterPlan:
    """Decide how a step with `options` trains a model with `adapters`.

    Raises:
        ModelError: the options are ambiguous, or refer to adapters that do not exist.

    >>> adapter_plan([], ModelOptions())
    'full'
    >>> adapter_plan(["sft"], ModelOptions(adapter=Adapter(), incoming="stack"))
    'stack'
    """
    adapter, incoming = options.adapter, options.incoming
    if not adapters:
        if incoming is not None:
            raise ModelError(
                f"`incoming: {incoming}`, but the incoming model has no adapter",
                hint="remove `incoming`",
            )
        return "full" if adapter is None else "fresh"
    if adapter is not None and incoming is None:
        raise ModelError(
            f"the incoming model has {_count(adapters)} and `adapter` describes a new one, so `incoming` "
            "is required",
            hint="add `incoming: merge` or `incoming: stack`, or remove `adapter` to train the "
            "incoming adapter further",
        )
    if incoming == "stack" and adapter is None:
        raise ModelError(
            "`incoming: stack` needs an `adapter` to add on top",
            hint="add one, such as `adapter: {method: lora, r: 16}`",
        )
    if incoming == "continue" and adapter is not None:
        raise ModelError(
            "`incoming: continue` trains the incoming adapter, but `adapter` describes another",
            hint="remove `adapter`, or use `incoming: merge` or `incoming: stack`",
        )
    if incoming == "merge":
        return "merge" if adapter is None else "merge and fresh"
    return "stack" if incoming == "stack" else "continue"


def _count(adapters: Sequence[object]) -> str:
    return "an adapter" if len(adapters) == 1 else f"{len(adapters)} adapters"
