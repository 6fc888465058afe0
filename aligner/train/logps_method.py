"""Train by a loss of log-probabilities that the policy and a reference give completions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from transformers import TrainingArguments

from aligner.train.completions import CompletionMethod
from aligner.train.logps import CompletionLogps, TokenLogps
from aligner.train.logps_trainer import LogpsTrainer
from aligner.train.method import TrainerInputs
from aligner.train.options import OfflineOptions

O = TypeVar("O", bound=OfflineOptions)  # noqa: E741  # options


class LogpsMethod(CompletionMethod[O]):
    """Training by a loss of `CompletionLogps`.

    The reference is the model in the reference slot, otherwise the policy as the step found it. Sides
    without a gradient are in `logps_N` of a batch and not in its `tokens`.
    """

    has_reference = True
    disable_dropout: bool = True
    """Set the policy's dropout to 0, so that it is compared to the reference without noise."""

    @abstractmethod
    def loss(self, batch: CompletionLogps) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss, a scalar, and metrics: tensors whose mean is logged under their name."""

    def sum_logps(self, tokens: TokenLogps) -> Tensor:
        """Reduce per-token log-probabilities (N, T) to one number a completion (N,)."""
        return tokens.sum_N()

    def statistics(self) -> tuple[str, ...]:
        """Return further per-token outputs of the LM head that the loss needs; see `TokenLogps`."""
        return ()

    def trainer(self, inputs: TrainerInputs, tokenizer: Any) -> LogpsTrainer:
        return LogpsTrainer(
            loss=self.loss,
            sum_logps=self.sum_logps,
            sides=self.sides,
            sides_without_gradient=self.sides_without_gradient,
            statistics=self.statistics(),
            reference=inputs.reference,
            disable_dropout=self.disable_dropout,
            args=TrainingArguments(**inputs.arguments, remove_unused_columns=False),
            **inputs.keywords,
        )
