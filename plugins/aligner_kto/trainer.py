"""Train on labeled completions by the KTO losses, and verify the reference in the first rewards.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.utils import gather
from torch import Tensor

from aligner import ModelState, StageError, StepContext
from aligner.kit.declare import RowKind
from aligner.kit.work import (
    CompletionLogps,
    DataContext,
    LogpsMethod,
    MappedRows,
    PreparedData,
    precision_of,
)
from aligner_kto.loss import kto_loss, reference_point
from aligner_kto.options import KTOOptions

_TOLERANCE = {"fp32": 1e-4}
"""Allowed difference of the first rewards from 0; other precisions round more."""


class KTOMethod(LogpsMethod[KTOOptions]):
    """Training by `kto_loss`; `kto` also scores each prompt with the completion of another row."""

    def __init__(self, options: KTOOptions) -> None:
        super().__init__(options)
        self.disable_dropout = options.disable_dropout
        self.sides = ("completion", "kl") if options.loss_type == "kto" else ("completion",)
        self.sides_without_gradient = len(self.sides) - 1
        self._longest = 0

    def prepare(self, reads: RowKind, context: DataContext, tokenizer: Any) -> PreparedData[Any]:
        data = super().prepare(reads, context, tokenizer)
        lengths = [ledger.lengths.get("max", 0) for ledger in data.ledgers.values()]
        self._longest = self.options.max_length or int(max(lengths))
        return data

    def rows(self, split: Sequence[Any], *, held_out: bool) -> Sequence[Mapping[str, Any]]:
        return MappedRows(range(len(split)), lambda place: self._row(split, place))

    def _row(self, split: Sequence[Any], place: int) -> dict[str, Any]:
        row, size = split[place], self.options.per_device_train_batch_size
        prompt_ids, completion_ids = row.prompt_ids, row.completion_ids
        columns = {"prompt_ids": prompt_ids, "completion_ids": completion_ids}
        if "kl" in self.sides:
            start = place - place % size
            last = min(start + size, len(split)) - 1
            # A batch's completions are rotated by one; a last batch of one row borrows one.
            other = place - 1 if place > start or start == last else last
            room = self._longest - len(prompt_ids)  # the longest sequence the model has to take
            columns["kl_ids"] = split[other].completion_ids[: max(room, 0)]
        length = len(prompt_ids) + len(completion_ids)
        return {**columns, "label": float(row.label), "length": length}

    def loss(self, batch: CompletionLogps) -> tuple[Tensor, dict[str, Tensor]]:
        logps, references = (x.chunk(len(self.sides)) for x in (batch.logps_N, batch.ref_logps_N))
        kl_logratios_B = (logps[-1] - references[-1]).detach()
        z0 = kl_logratios_B.new_zeros(())
        if "kl" in self.sides:
            z0 = reference_point(gather(kl_logratios_B))
        labels_B = batch.columns["label"].bool()
        losses_B, metrics = kto_loss(logps[0], references[0], labels_B, self.options, z0=z0)
        return losses_B.mean(), metrics

    def check(self, first: Mapping[str, float], state: ModelState, context: StepContext) -> None:
        """Raise StageError unless the first rewards are 0: then policy and reference are equal."""
        if not self.options.disable_dropout or state.reference:
            return
        tolerance = _TOLERANCE.get(precision_of(self.options.precision), 0.05)
        for name in ("rewards/chosen", "rewards/rejected"):
            reward = first.get(name, 0.0)
            if abs(reward) > tolerance:
                raise StageError(
                    f"the first {name} is {reward:.6f}, not 0: the reference is not the policy that "
                    "came in",
                    where=context.where,
                    hint="this is an error in aligner or in a plugin of an earlier step; please "
                    "report it",
                )
