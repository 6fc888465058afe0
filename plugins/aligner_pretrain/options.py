"""Options of the pretrain stage."""

from __future__ import annotations

from pydantic import Field, model_validator

from aligner.kit.declare import FreshModel, OfflineOptions


class PretrainOptions(OfflineOptions):
    """Options of training on plain text."""

    learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    stream: bool = True
    """Join the documents end to end and split them into rows of `max_length` tokens, as is usual in
    pretraining; otherwise each document is a row of its own."""
    fresh: FreshModel | None = None
    """Start from a new model of this shape with random weights, not from the chain's policy."""
    vocab_size: int = Field(1024, ge=260)
    """Number of tokens of the tokenizer that is trained on the data for a fresh model."""

    @model_validator(mode="after")
    def _options_agree(self) -> PretrainOptions:
        if self.stream and self.max_length is None:
            raise ValueError("stream needs max_length: how many tokens a row holds")
        if self.fresh and self.adapter:
            raise ValueError("a fresh model has nothing an adapter could build on: train it whole")
        return self
