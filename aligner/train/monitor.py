"""Watch a trainer: pass its metrics on, and stop it when they make no sense."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aligner.errors import StageError
from aligner.stage import StepContext

_UNTOLD = frozenset({"epoch", "total_flos", "step"})


class TrainingMonitor(TrainerCallback):
    """Reports each logged point to the run, and refuses a loss or gradient that is not a number."""

    def __init__(self, context: StepContext) -> None:
        self._run = context
        self._tokens_at, self._then = 0.0, time.monotonic()
        self.first: dict[str, float] = {}
        """The metrics of the first optimizer step; empty when training went on from a checkpoint."""
        self.last: dict[str, float] = {}
        """The last value of every metric."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._run.progress(state.global_step, state.max_steps)

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
            if name not in _UNTOLD and isinstance(value, int | float)
        }
        if not metrics or "train_runtime" in metrics:
            return
        self._refuse_nonsense(metrics, state.global_step)
        metrics |= self._speed(metrics)
        if state.global_step == 1 and not self.first:
            self.first = metrics
        self.last |= metrics
        self._run.progress(state.global_step, state.max_steps, **metrics)

    def _refuse_nonsense(self, metrics: Mapping[str, float], step: int) -> None:
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in metrics and not math.isfinite(metrics[name]):
                raise StageError(
                    f"{name} is {metrics[name]} at optimizer step {step}; nothing of this step is kept",
                    where=self._run.where,
                    hint="lower learning_rate, raise warmup_steps, or use precision: fp32; "
                    "and look for broken rows in the data",
                )

    def _speed(self, metrics: Mapping[str, float]) -> dict[str, float]:
        now, tokens = time.monotonic(), metrics.get("num_tokens")
        if tokens is None or tokens <= self._tokens_at:
            return {}
        speed = (tokens - self._tokens_at) / max(now - self._then, 1e-9)
        self._tokens_at, self._then = tokens, now
        return {"tokens_per_second": speed}
