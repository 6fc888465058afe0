"""Prompts of an online step, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aligner.data.context import DataContext
from aligner.data.encoding.prepare import prepare_prompts
from aligner.data.options import DataOptions
from aligner.data.store.lazy_rows import MappedRows
from aligner.data.store.token_rows import PromptTokens
from aligner.registry import Message
from aligner.rl.minibatches import derived_seed


@dataclass(frozen=True, kw_only=True)
class RLPrompt:
    """Prompt in the policy's tokens, with all that reward functions need to know about it."""

    tokens: tuple[int, ...]
    messages: tuple[Message, ...]
    row: Mapping[str, Any]
    """Other columns of the row."""
    tools: tuple[Mapping[str, Any], ...] | None = None


def read_prompts(
    options: DataOptions, context: DataContext, tokenizer: Any
) -> tuple[Sequence[RLPrompt], Sequence[RLPrompt]]:
    """Read the prompts to train on, and those held out."""
    data = prepare_prompts(context, options, tokenizer)
    return MappedRows(data.train, _prompt), MappedRows(data.held_out, _prompt)


def _prompt(row: PromptTokens) -> RLPrompt:
    return RLPrompt(
        tokens=tuple(row.input_ids), messages=tuple(row.messages), row=row.row, tools=row.tools
    )


def prompt_indices(iteration: int, *, prompts: int, each: int, seed: int) -> list[int]:
    """Return the prompts of iteration 0, 1, …: passes over all of them, each in a new order.

    >>> first, second = (prompt_indices(i, prompts=6, each=3, seed=0) for i in (0, 1))
    >>> len({*first, *second})
    6
    """
    taken: list[int] = []
    position = iteration * each
    while len(taken) < each:
        epoch, offset = divmod(position + len(taken), prompts)
        generator = torch.Generator().manual_seed(derived_seed(seed, "prompts", epoch))
        order = torch.randperm(prompts, generator=generator).tolist()
        taken += order[offset : offset + each - len(taken)]
    return taken
