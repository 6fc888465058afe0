"""Options of every step in which the policy writes: how it samples, and how it is held."""

from __future__ import annotations

from pydantic import Field, model_validator

from aligner.data.options import Limits
from aligner.models.options import LoadOptions


class WritingOptions(LoadOptions):
    """How the policy writes."""

    max_new_tokens: int = Field(256, gt=0)
    """Where an answer is cut off."""
    min_new_tokens: int = Field(0, ge=0)
    """No answer ends before this many tokens stand."""
    temperature: float = Field(1.0, ge=0)
    """What logits are divided by before sampling; 0 always takes the likeliest token."""
    top_k: int = Field(0, ge=0)
    """Sample among this many likeliest tokens; 0 for all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample among the likeliest tokens that together have this probability (Holtzman 2020)."""

    max_length: int | None = Field(None, gt=1)
    """Longest prompt in tokens; longer ones are left out and counted. None sets no limit."""
    limits: Limits = Limits()
    """How much of each finding in the data is too much."""
    batch_size: int = Field(64, gt=0, json_schema_extra={"determines": False})
    """Answers written or scored at one time; changes memory and speed, not the result."""
    samples: int = Field(10, ge=0, json_schema_extra={"determines": False})
    """How many prompts are kept in `samples.jsonl`, with all that was written for each."""

    @model_validator(mode="after")
    def _an_end_in_sight(self) -> WritingOptions:
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError("min_new_tokens must be below max_new_tokens")
        return self
