"""How a recipe describes models: adapters, precision, and small fresh ones; light to import."""

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
"""What a step does with the weights it gets.

`full` trains all of them; `fresh` puts a new adapter on them; `continue` trains the topmost adapter
that came in; `merge` folds all adapters in and trains all weights; `merge and fresh` folds them in
and puts a new adapter on the sum; `stack` leaves them on, frozen, and puts a new adapter on top.
"""


class Adapter(StageOptions):
    """A low-rank adapter, trained in place of the whole model."""

    method: Literal["lora", "rslora", "dora"] = "lora"
    """`lora` (Hu 2021), `rslora` (scaled by alpha/sqrt(r), Kalajdzievski 2023) or `dora` (direction
    and magnitude apart, Liu 2024)."""
    r: int = Field(16, gt=0)
    """Rank of the update."""
    lora_alpha: float = Field(32, gt=0)
    """Scale of the update: `lora_alpha` / `r`, or `lora_alpha` / sqrt(`r`) for rslora."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input while training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Modules that get the adapter: every linear one but the head, or names such as `q_proj`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained whole and saved with the adapter, such as `embed_tokens`."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _a_list_of_names(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "all-linear":
            raise ValueError(f"give 'all-linear' or a list of module names, such as [{value}]")
        return value

    @field_validator("target_modules")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
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
    """Train this adapter in place of the whole model."""
    incoming: Incoming | None = None
    """What to do with adapters that an earlier step left on the model: `continue` trains the topmost
    one further, `merge` folds all of them into the weights, `stack` leaves them on, frozen, below a
    new one. Unset: `continue` if adapters come in and `adapter` is not given. If both come together
    it must be said, and without adapters coming in there is nothing to say."""


class FreshModel(StageOptions):
    """The shape of a small Llama-like model that starts from random weights."""

    hidden_size: int = Field(128, gt=0)
    """Width of the residual stream."""
    num_hidden_layers: int = Field(4, gt=0)
    """Number of blocks."""
    num_attention_heads: int = Field(4, gt=0)
    """Attention heads; must divide `hidden_size` into even widths."""
    num_key_value_heads: int | None = Field(None, gt=0)
    """Key and value heads; must divide `num_attention_heads`. Unset: as many as attention heads."""
    intermediate_size: int | None = Field(None, gt=0)
    """Width of the feed-forward layer; unset, 8/3 of `hidden_size`, rounded up to a multiple of 8."""
    max_position_embeddings: int = Field(512, gt=0)
    """Longest sequence in tokens."""
    tie_word_embeddings: bool = True
    """Use one matrix for the embedding and the head."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of the random weights; narrow models learn far faster from about
    1/sqrt(`hidden_size`)."""


def adapter_plan(adapters: Sequence[object], options: ModelOptions) -> AdapterPlan:
    """What a step with `options` does with a model on which `adapters` come in.

    Raises:
        ModelError: the options leave it open, or ask for what is not there.

    >>> adapter_plan([], ModelOptions())
    'full'
    >>> adapter_plan(["sft"], ModelOptions(adapter=Adapter(), incoming="stack"))
    'stack'
    """
    adapter, incoming = options.adapter, options.incoming
    if not adapters:
        if incoming is not None:
            raise ModelError(
                f"`incoming: {incoming}`, but no adapter comes in",
                hint="leave `incoming` out: the model that comes in is whole weights",
            )
        return "full" if adapter is None else "fresh"
    if adapter is not None and incoming is None:
        raise ModelError(
            f"{_count(adapters)} in and `adapter` describes a new one: which is meant is unclear",
            hint="say `incoming: merge` or `incoming: stack`, or leave `adapter` out to train the "
            "incoming one further",
        )
    if incoming == "stack" and adapter is None:
        raise ModelError(
            "`incoming: stack`, but no `adapter` to put on top",
            hint="describe it, as in `adapter: {method: lora, r: 16}`",
        )
    if incoming == "continue" and adapter is not None:
        raise ModelError(
            "`incoming: continue` trains the adapter that comes in, and `adapter` describes another",
            hint="leave `adapter` out, or say `incoming: merge` or `incoming: stack`",
        )
    if incoming == "merge":
        return "merge" if adapter is None else "merge and fresh"
    return "stack" if incoming == "stack" else "continue"


def _count(adapters: Sequence[object]) -> str:
    return "an adapter comes" if len(adapters) == 1 else f"{len(adapters)} adapters come"
