"""Read the prompts that are answered, and the text that is mixed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aligner.data.context import DataContext, OptionContext
from aligner.data.encoding.prepare import (
    PreparedData,
    prepare_conversations,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.options import DataOptions
from aligner.data.store.row_store import MappedRows
from aligner.data.store.token_rows import PromptTokens, SequenceTokens
from aligner.models.padding import right_padded
from aligner_ppo.actor import Actor
from aligner_ppo.experience import derived_seed, prompts_of
from aligner_ppo.forward import token_logps
from aligner_ppo.options import PPOOptions, PretrainingMix
from aligner_ppo.parallel import ProcessGroup
from aligner_ppo.setting import PPOPrompt
from aligner_ppo.update import Mix


def prompts_of_step(
    options: PPOOptions, context: DataContext, tokenizer: Any
) -> tuple[Sequence[PPOPrompt], Sequence[PPOPrompt]]:
    """The prompts to learn on, and those held out."""
    data = prepare_prompts(context, options, tokenizer)
    return MappedRows(data.train, _prompt), MappedRows(data.held_out, _prompt)


def _prompt(row: PromptTokens) -> PPOPrompt:
    return PPOPrompt(
        tokens=tuple(row.input_ids), messages=tuple(row.messages), row=row.row, tools=row.tools
    )


def mixed_in(
    mix: PretrainingMix, context: DataContext, tokenizer: Any
) -> PreparedData[SequenceTokens]:
    """The rows that are mixed into learning, as tokens.

    Raises:
        DataError: as reading any data does.
    """
    options = DataOptions(data=mix.data, max_length=mix.max_length)
    read = prepare_texts if mix.rows == "texts" else prepare_conversations
    return read(OptionContext(context, "pretraining.data"), options, tokenizer)


def mix_of(
    rows: Sequence[SequenceTokens],
    mix: PretrainingMix,
    *,
    seed: int,
    actor: Actor,
    together: ProcessGroup,
) -> Mix:
    """What each optimizer step adds: the gradient of next-token prediction on some rows.

    The rows of a step follow from its number, so nothing about them need be remembered.
    """
    order = derived_seed(seed, "pretraining")

    def backward(step: int) -> Tensor:
        taken = prompts_of(step, prompts=len(rows), each=mix.batch_size, seed=order)
        count = sum(sum(rows[i].trained[1:]) for i in taken)
        mine = [rows[taken[k]] for k in together.mine(len(taken))]
        mine = [row for row in mine if any(row.trained[1:])]
        if not mine:
            return torch.zeros(())
        loss = mix.weight * _negative_logps(mine, actor) / count
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return backward


def mixed_batch(rows: Sequence[SequenceTokens]) -> tuple[Tensor, Tensor]:
    """Ids of mixed-in rows, (B, T) int64, and which of them are learnt, (B, T) bool."""
    return right_padded([row.input_ids for row in rows], [row.trained for row in rows])


def _negative_logps(rows: Sequence[SequenceTokens], actor: Actor) -> Tensor:
    """Sum of −log p over the trained tokens of rows, at temperature 1."""
    tokens_BT, trained_BT = mixed_batch(rows)
    tokens_BT, trained_BT = tokens_BT.to(actor.device), trained_BT.to(actor.device)
    with actor.computing():
        hidden_BTH = actor.parts.hidden(tokens_BT)[:, :-1]
        here = trained_BT[:, 1:]
        logps_M, _ = token_logps(
            actor.parts, hidden_BTH[here], tokens_BT[:, 1:][here], temperature=1.0
        )
    return -logps_M.sum()
