"""A foreign plugin with small stages, for trying the command line on a chain that takes no time."""

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
from aligner import Artifact, Look, ModelState, Outlook, Plan, Run, Stage, StageConfig


def _file(run: Run, slot: str, text: str) -> Artifact:
    folder = run.folder / slot
    folder.mkdir(exist_ok=True)
    (folder / "weights.txt").write_text(text)
    return Artifact(path=str(folder), hash=hashlib.sha256(text.encode()).hexdigest())


class MakeConfig(StageConfig):
    width: int = Field(8, gt=0)
    """How wide the model is."""


class Make(Stage[MakeConfig]):
    """Make a model out of nothing."""

    name = "make"
    requires: frozenset[Any] = frozenset()
    provides = frozenset({"policy", "tokenizer"})

    def plan(self, look: Look) -> Plan:
        return Plan(
            summary=f"a new model, {self.config.width} wide",
            parameters=self.config.width**2,
            slots={"policy": Outlook(made_by=look.step), "tokenizer": Outlook(made_by=look.step)},
        )

    def run(self, state: ModelState, run: Run) -> ModelState:
        width = str(self.config.width)
        return state.put(
            run.step, policy=_file(run, "policy", width), tokenizer=_file(run, "tokenizer", "abc")
        )


class TuneConfig(StageConfig):
    rate: float = Field(0.1, gt=0)
    """How far each optimizer step goes."""
    steps: int = Field(4, ge=0)
    """Optimizer steps."""
    fault: str = ""
    """What goes wrong: `library`, `secret` or `stop`; nothing where empty."""
    pause: float = 0.0
    """Seconds each optimizer step takes."""
    says: str = ""
    """What it prints while it runs."""
    log_every: int = Field(1, gt=0, json_schema_extra={"determines": False})
    """Optimizer steps between two reports."""


class Tune(Stage[TuneConfig]):
    """Move the model towards what is wanted."""

    name = "tune"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, look: Look) -> Plan:
        return Plan(
            summary=f"{self.config.steps} steps at rate {self.config.rate:g}",
            rows=120_500,
            tokens=2_048_000,
            optimizer_steps=self.config.steps,
            trained=1_000,
            parameters=260_032,
            incoming="none comes in; all weights are trained",
            reference=f"the policy as {look.slots['policy'].made_by!r} left it",
            figures=frozenset({"loss", "accuracy"}),
            data={"lines": "ab" * 32},
            ledgers={"lines": {"read": 121_000, "too_long": 500, "kept": 120_500}},
            notes=("no eval_data: nothing is measured on held-out rows",),
        )

    def run(self, state: ModelState, run: Run) -> ModelState:
        loss = 0.0
        for done in range(1, self.config.steps + 1):
            time.sleep(self.config.pause)
            loss = 1 / (1 + self.config.rate * done)
            run.progress(done, self.config.steps, loss=loss, tokens_per_second=12_345.6)
        if self.config.says:
            said = os.path.expandvars(self.config.says)
            print(said)
            print(said, file=sys.stderr)
            os.write(2, b"written past Python\n")
            warnings.warn("a library warns", FutureWarning, stacklevel=1)
        fault = self.config.fault or os.environ.get("TOY_FAULT")
        if fault == "library":
            raise RuntimeError("the matrix is singular\x1b[31m")
        if fault == "secret":
            raise RuntimeError(f"refused: {os.environ['HUB_TOKEN']}")
        if fault == "stop":
            raise KeyboardInterrupt
        run.record(loss=loss, accuracy=0.75)
        weights = Path(state.get("policy").path, "weights.txt").read_text()
        return state.put(run.step, policy=_file(run, "policy", f"{weights} {loss}"))


class MeasureConfig(StageConfig):
    prompts: int = 3
    """How many questions to ask."""


class Measure(Stage[MeasureConfig]):
    """See how good the model is."""

    name = "measure"
    requires = frozenset({"policy"})
    provides: frozenset[Any] = frozenset()

    def plan(self, look: Look) -> Plan:
        return Plan(summary=f"{self.config.prompts} prompts", figures=frozenset({"score"}))

    def run(self, state: ModelState, run: Run) -> ModelState:
        run.record(score=0.5)
        return state


@aligner.hookimpl
def aligner_stages() -> list[type[Stage[Any]]]:
    return [Make, Tune, Measure]
