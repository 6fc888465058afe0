"""Report a trainer's metrics to the run, and stop it when a loss is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aligner.errors import StageError
from aligner.stage import StepContext

_NOT_REPORTED = frozenset({"epoch", "total_flos", "step"})


class TrainingMonitor(TrainerCallback):
    """Callback that reports each log entry to the run and stops at a loss that is not finite."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._tokens_before, self._time_before = 0.0, time.monotonic()
        self.first: dict[str, float] = {}
        """Metrics of the first optimizer step; empty if training resumed from a checkpoint."""
        self.last: dict[str, float] = {}
        """Last value of every metric."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._context.progress(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        metrics: dict[str, Any] = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name not in _NOT_REPORTED and isinstance(value, int | float)
        }
        if not metrics or "train_runtime" in metrics:
            return
        self._check_finite(metrics, state.global_step)
        metrics |= self._speed(metrics)
        if state.global_step == 1 and not self.first:
            self.first = metrics
        self.last |= metrics
        self._context.progress(state.global_step, state.max_steps, **metrics)

    def _check_finite(self, metrics: Mapping[str, float], step: int) -> None:
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in metrics and not math.isfinite(metrics[name]):
                raise StageError(
                    f"{name} is {metrics[name]} at optimizer step {step}; the result was discarded",
                    where=self._context.where,
                    hint="lower learning_rate, raise warmup_steps, or use precision: fp32; "
                    "and check the data for broken rows",
                )

    def _speed(self, metrics: Mapping[str, float]) -> dict[str, float]:
        now, tokens = time.monotonic(), metrics.get("num_tokens")
        if tokens is None or tokens <= self._tokens_before:
            return {}
        speed = (tokens - self._tokens_before) / max(now - self._time_before, 1e-9)
        self._tokens_before, self._time_before = tokens, now
        return {"tokens_per_second": speed}
