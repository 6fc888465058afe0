"""Test kit for plugin authors: contract tests, tiny models and data, a runner for one stage."""

from aligner.testing.contract import StageContract
from aligner.testing.run import Nothing, run_stage
from aligner.testing.tiny import (
    conversations,
    labels,
    preferences,
    prompts,
    texts,
    tiny_model,
    tiny_reward_model,
    tiny_tokenizer,
    write_files,
    write_tiny,
)

__all__ = [
    "Nothing",
    "StageContract",
    "conversations",
    "labels",
    "preferences",
    "prompts",
    "run_stage",
    "texts",
    "tiny_model",
    "tiny_reward_model",
    "tiny_tokenizer",
    "write_files",
    "write_tiny",
]
