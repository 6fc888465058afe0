"""TRL's DPO trainer, whose reference is the policy as the step found it, by construction."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from trl import DPOTrainer

from aligner.train.trainer import StepTrainer


class ChainedDPOTrainer(StepTrainer, DPOTrainer):
    """DPO on rows of `prompt_ids`, `chosen_ids`, `rejected_ids`, with reference log-probs in the rows.

    The reference's log-probabilities are computed once, before the first update, by the very model that
    is about to be trained: then it still is the incoming policy, whatever its mixture of weights and
    adapters. No second model is held, nothing is reloaded, and no adapter is copied. Where the chain
    names another reference, that model computes them.
    """

    def __init__(self, *, reference: Any | None, **arguments: Any) -> None:
        self._reference = reference
        super().__init__(**arguments)

    def _logps(self, model: Any, batch: Any) -> Any:
        return self.compute_ref_log_probs(model, batch)  # type: ignore[no-untyped-call]  # TRL

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # TRL keeps these on disk under a key that leaves out options which change them.
        model: Any = self._reference if self._reference is not None else self.model
        model.eval()
        loader = self.accelerator.prepare(
            DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        )
        sides: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for batch in loader:
            pair = self.accelerator.gather_for_metrics(self._logps(model, batch))
            for side, logps_B in zip(sides, pair, strict=True):
                side.append(logps_B.float().cpu())
        chosen, rejected = (torch.cat(side).tolist() for side in sides)
        return dataset.add_column("ref_chosen_logps", chosen).add_column(
            "ref_rejected_logps", rejected
        )
