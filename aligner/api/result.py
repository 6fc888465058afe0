"""What a run left: the state, the metrics, curves and samples of each step, and the models."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aligner.chain import Outcome
from aligner.errors import ModelError, did_you_mean
from aligner.run.store import STATE
from aligner.state import Artifact, ModelCache, ModelState, Slot
from aligner.terminal.console import console_on, show
from aligner.terminal.summary import closing

_WIDTH = 100


class _Models:
    """Hands out the models of a state."""

    state: ModelState
    model_cache: ModelCache

    def policy(self) -> Any:
        """The policy: a transformers model, or a PEFT model where it has adapters.

        The very object that was trained, where it is still in memory; else it is loaded, on the
        same device and to the bit the same. In eval mode, with no gradients asked for:
        `model.train().requires_grad_(True)` if you train on by yourself. It is yours; every
        call gives the same object.

        Raises:
            ModelError: The chain has not filled that slot.
        """
        return self._model("policy")

    def reward_model(self) -> Any:
        """The reward model, as `policy` gives the policy."""
        return self._model("reward")

    def tokenizer(self) -> Any:
        """The tokenizer with its chat template."""
        from aligner.data.encoding.tokenizers import (
            load_tokenizer,  # transformers waits until it is wanted
        )

        artifact = self._artifact("tokenizer")
        tokenizer = load_tokenizer(artifact, self.model_cache)
        self.model_cache.keep(artifact, tokenizer)
        return tokenizer

    def _model(self, slot: Slot) -> Any:
        from aligner.models.live_model import hand_out  # torch waits until a model is wanted

        return hand_out(self._artifact(slot), self.model_cache, reward=slot == "reward")

    def _artifact(self, slot: Slot) -> Artifact:
        if slot not in self.state.filled():
            raise ModelError(
                f"no step has filled the slot {slot!r}",
                hint=f"filled: {', '.join(sorted(self.state.filled())) or 'none'}",
            )
        return self.state.get(slot)


@dataclass(frozen=True, kw_only=True)
class StepView(_Models):
    """One finished step. Its models are loaded from its folder unless they are the run's last."""

    name: str
    stage: str
    metrics: Mapping[str, float]
    """Final metrics, as in the closing table."""
    seconds: float
    """How long it took when it ran."""
    reused: bool
    """Whether it had been done before this run."""
    folder: Path
    """With its models, `metrics.jsonl`, `samples.jsonl`, and what else the stage wrote."""
    state: ModelState
    """What it handed on."""
    model_cache: ModelCache = field(repr=False)

    @property
    def curves(self) -> Mapping[str, list[tuple[int, float]]]:
        """Each metric that was reported on the way, as (how far, value) in order.

        Where a step was stopped and went on, points that were made twice are given once.
        """
        points: dict[str, dict[int, float]] = {}
        for line in _lines(self.folder / "metrics.jsonl"):
            for name in line.keys() - {"done", "total", "unit"}:
                points.setdefault(name, {})[int(line["done"])] = line[name]
        return {name: sorted(points[name].items()) for name in sorted(points)}

    @property
    def samples(self) -> list[Mapping[str, Any]]:
        """Texts that the step kept, as it wrote them."""
        return _lines(self.folder / "samples.jsonl")


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(_Models):
    """What a run left. Printed, it is the table that `aligner run` ends with."""

    folder: Path
    """The run's folder."""
    state: ModelState
    """What the last step handed on: for each slot where its content lies, and its hash."""
    steps: Mapping[str, StepView]
    """By name, in the order of the chain."""
    seconds: float
    """How long the run took, steps that were done before left out."""
    model_cache: ModelCache = field(repr=False)
    """The models that are still in memory."""
    outcome: Outcome = field(repr=False)

    @classmethod
    def of(cls, outcome: Outcome) -> Result:
        """The result of a run that ended well."""
        steps = {}
        for row in outcome.steps:
            folder = row.folder.resolve()
            text = (folder / STATE).read_text(encoding="utf-8")
            steps[row.step] = StepView(
                name=row.step,
                stage=row.stage,
                metrics=row.metrics,
                seconds=row.seconds,
                reused=row.reused,
                folder=row.folder,
                state=ModelState.from_json(text, beside=folder),
                model_cache=outcome.model_cache,
            )
        return cls(
            folder=outcome.folder,
            state=outcome.state,
            steps=steps,
            seconds=outcome.seconds,
            model_cache=outcome.model_cache,
            outcome=outcome,
        )

    def __getitem__(self, step: str) -> StepView:
        if step not in self.steps:
            raise KeyError(f"no step {step!r}; {did_you_mean(step, self.steps)}")
        return self.steps[step]

    def __str__(self) -> str:
        drawn = io.StringIO()
        console = console_on(drawn)
        console.width = _WIDTH
        show(console, closing(self.outcome, console, log=None, every_figure=True))
        return drawn.getvalue().strip("\n")

    __repr__ = __str__


def _lines(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
