"""Next-token prediction mixed into every optimizer step (PPO-ptx)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aligner.data.context import DataContext, OptionContext
from aligner.data.encoding.prepare import PreparedData, prepare_conversations, prepare_texts
from aligner.data.options import DataOptions
from aligner.data.store.token_rows import SequenceTokens
from aligner.models.logps import token_logps
from aligner.models.padding import pad_right
from aligner.rl.actor import Actor
from aligner.rl.context import Mix
from aligner.rl.minibatches import derived_seed
from aligner.rl.options import PretrainingMix
from aligner.rl.processes import ProcessGroup
from aligner.rl.prompts import prompt_indices


def prepare_mix(
    mix: PretrainingMix, context: DataContext, tokenizer: Any
) -> PreparedData[SequenceTokens]:
    """Read and tokenize the rows to mix in.

    Raises:
        DataError: the data is missing, malformed or beyond its limits.
    """
    options = DataOptions(data=mix.data, max_length=mix.max_length)
    prepare = prepare_texts if mix.rows == "texts" else prepare_conversations
    return prepare(OptionContext(context, "pretraining.data"), options, tokenizer)


def make_mix(
    rows: Sequence[SequenceTokens],
    mix: PretrainingMix,
    *,
    seed: int,
    actor: Actor,
    processes: ProcessGroup,
) -> Mix:
    """Return the function that adds the gradient of next-token prediction to an optimizer step.

    The rows of a step are derived from its number, so that no position must be stored.
    """
    order = derived_seed(seed, "pretraining")

    def backward(step: int) -> Tensor:
        taken = prompt_indices(step, prompts=len(rows), each=mix.batch_size, seed=order)
        count = sum(sum(rows[i].trained[1:]) for i in taken)
        own = [rows[taken[k]] for k in processes.own_indices(len(taken))]
        own = [row for row in own if any(row.trained[1:])]
        if not own:
            return torch.zeros(())
        loss = mix.weight * _negative_logps(own, actor) / count
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return backward


def mix_batch(rows: Sequence[SequenceTokens]) -> tuple[Tensor, Tensor]:
    """Pad the token ids (B, T) of rows, and the mask (B, T) of trained tokens."""
    return pad_right([row.input_ids for row in rows], [row.trained for row in rows])


def _negative_logps(rows: Sequence[SequenceTokens], actor: Actor) -> Tensor:
    """Compute the sum of −log p over the trained tokens of rows, at temperature 1."""
    tokens_BT, trained_BT = mix_batch(rows)
    tokens_BT, trained_BT = tokens_BT.to(actor.device), trained_BT.to(actor.device)
    with actor.autocast():
        hidden_BTH = actor.parts.hidden(tokens_BT)[:, :-1]
        mask_BT = trained_BT[:, 1:]
        logps_M, _ = token_logps(
            actor.parts, hidden_BTH[mask_BT], tokens_BT[:, 1:][mask_BT], temperature=1.0
        )
    return -logps_M.sum()
