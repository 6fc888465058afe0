"""Watch a trainer: pass its figures on, and stop it when they make no sense."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aligner.errors import StageError
from aligner.stage import Run

_UNTOLD = frozenset({"epoch", "total_flos", "step"})


class Watch(TrainerCallback):
    """Reports each logged point to the run, and refuses a loss or gradient that is not a number."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tokens_at, self._then = 0.0, time.monotonic()
        self.first: dict[str, float] = {}
        """The figures of the first optimizer step; empty when training went on from a checkpoint."""
        self.last: dict[str, float] = {}
        """The last value of every figure."""

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
        figures: dict[str, Any] = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name not in _UNTOLD and isinstance(value, int | float)
        }
        if not figures or "train_runtime" in figures:
            return
        self._refuse_nonsense(figures, state.global_step)
        figures |= self._speed(figures)
        if state.global_step == 1 and not self.first:
            self.first = figures
        self.last |= figures
        self._run.progress(state.global_step, state.max_steps, **figures)

    def _refuse_nonsense(self, figures: Mapping[str, float], step: int) -> None:
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in figures and not math.isfinite(figures[name]):
                raise StageError(
                    f"{name} is {figures[name]} at optimizer step {step}; nothing of this step is kept",
                    where=self._run.where,
                    hint="lower learning_rate, lengthen warmup, or use precision: fp32; "
                    "and look for broken rows in the data",
                )

    def _speed(self, figures: Mapping[str, float]) -> dict[str, float]:
        now, tokens = time.monotonic(), figures.get("num_tokens")
        if tokens is None or tokens <= self._tokens_at:
            return {}
        speed = (tokens - self._tokens_at) / max(now - self._then, 1e-9)
        self._tokens_at, self._then = tokens, now
        return {"tokens_per_second": speed}
