"""A third-party plugin with small stages, for fast tests of the command line."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from pydantic import Field

import aligner
from aligner import (
    Artifact,
    ModelState,
    Plan,
    PlanContext,
    SlotForecast,
    Stage,
    StageOptions,
    StepContext,
)


def _file(context: StepContext, slot: str, text: str) -> Artifact:
    folder = context.folder / slot
    folder.mkdir(exist_ok=True)
    (folder / "weights.txt").write_text(text)
    return Artifact(path=str(folder), hash=hashlib.sha256(text.encode()).hexdigest())


class MakeOptions(StageOptions):
    width: int = Field(8, gt=0)
    """Width of the model."""


class Make(Stage[MakeOptions]):
    """Make a model out of nothing."""

    name = "make"
    requires: frozenset[Any] = frozenset()
    provides = frozenset({"policy", "tokenizer"})

    def plan(self, context: PlanContext) -> Plan:
        return Plan(
            summary=f"a new model, {self.options.width} wide",
            parameters=self.options.width**2,
            slots={
                "policy": SlotForecast(made_by=context.step),
                "tokenizer": SlotForecast(made_by=context.step),
            },
        )

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        width = str(self.options.width)
        return state.put(
            context.step,
            policy=_file(context, "policy", width),
            tokenizer=_file(context, "tokenizer", "abc"),
        )


class TuneOptions(StageOptions):
    rate: float = Field(0.1, gt=0)
    """How far each optimizer step goes."""
    steps: int = Field(4, ge=0)
    """Optimizer steps."""
    error: str = ""
    """Error to raise: `library`, `secret` or `stop`; empty for none."""
    pause: float = 0.0
    """Seconds per optimizer step."""
    says: str = ""
    """Text to print."""
    log_every: int = Field(1, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between two reports."""


class Tune(Stage[TuneOptions]):
    """Move the model towards what is wanted."""

    name = "tune"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, context: PlanContext) -> Plan:
        return Plan(
            summary=f"{self.options.steps} steps at rate {self.options.rate:g}",
            rows=120_500,
            tokens=2_048_000,
            optimizer_steps=self.options.steps,
            trained=1_000,
            parameters=260_032,
            incoming="none comes in; all weights are trained",
            reference=f"the policy as {context.slots['policy'].made_by!r} left it",
            metrics=frozenset({"loss", "accuracy"}),
            data={"lines": "ab" * 32},
            ledgers={"lines": {"read": 121_000, "too_long": 500, "kept": 120_500}},
            notes=("no eval_data: nothing is measured on held-out rows",),
        )

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        loss = 0.0
        for done in range(1, self.options.steps + 1):
            time.sleep(self.options.pause)
            loss = 1 / (1 + self.options.rate * done)
            context.progress(done, self.options.steps, loss=loss, tokens_per_second=12_345.6)
        if self.options.says:
            text = os.path.expandvars(self.options.says)
            print(text)
            print(text, file=sys.stderr)
            os.write(2, b"written past Python\n")
            warnings.warn("a library warns", FutureWarning, stacklevel=1)
        error = self.options.error or os.environ.get("TOY_FAULT")
        if error == "library":
            raise RuntimeError("the matrix is singular\x1b[31m")
        if error == "secret":
            raise RuntimeError(f"refused: {os.environ['HUB_TOKEN']}")
        if error == "stop":
            raise KeyboardInterrupt
        context.record(loss=loss, accuracy=0.75)
        weights = Path(state.get("policy").path, "weights.txt").read_text()
        return state.put(context.step, policy=_file(context, "policy", f"{weights} {loss}"))


class MeasureOptions(StageOptions):
    prompts: int = 3
    """Number of prompts."""


class Measure(Stage[MeasureOptions]):
    """See how good the model is."""

    name = "measure"
    requires = frozenset({"policy"})
    provides: frozenset[Any] = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary=f"{self.options.prompts} prompts", metrics=frozenset({"score"}))

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        context.record(score=0.5)
        return state


@aligner.hookimpl
def aligner_stages() -> list[type[Stage[Any]]]:
    return [Make, Tune, Measure]
