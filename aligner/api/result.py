"""Result of a run: metrics, curves and samples of each step, and the models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from aligner.chain import Outcome
from aligner.errors import ModelError, did_you_mean
from aligner.run.store import STATE
from aligner.state import Artifact, ModelCache, ModelState, Slot
from aligner.terminal.console import render_text
from aligner.terminal.summary import render_summary


class _Models:
    """Access to the models of a state."""

    state: ModelState
    model_cache: ModelCache

    def policy(self) -> Any:
        """Return the policy: a transformers model, or a PEFT model if it has adapters.

        This is the trained object itself if it is still in memory; otherwise it is loaded on the same
        device, bit for bit the same. It is in eval mode and requires no gradients; call
        `model.train().requires_grad_(True)` to train it further. Every call returns the same object.

        Raises:
            ModelError: No step has filled that slot.
        """
        return self._model("policy")

    def reward_model(self) -> Any:
        """Return the reward model; see `policy`."""
        return self._model("reward")

    def tokenizer(self) -> Any:
        """Return the tokenizer with its chat template."""
        from aligner.data.encoding.tokenizers import load_tokenizer  # loads transformers

        artifact = self._artifact("tokenizer")
        tokenizer = load_tokenizer(artifact, self.model_cache)
        self.model_cache.keep(artifact, tokenizer)
        return tokenizer

    def _model(self, slot: Slot) -> Any:
        from aligner.models.live_model import load_for_user  # loads torch

        return load_for_user(self._artifact(slot), self.model_cache, reward=slot == "reward")

    def _artifact(self, slot: Slot) -> Artifact:
        if slot not in self.state.filled():
            raise ModelError(
                f"no step has filled the slot {slot!r}",
                hint=f"filled slots: {', '.join(sorted(self.state.filled())) or 'none'}",
            )
        return self.state.get(slot)


@dataclass(frozen=True, kw_only=True)
class StepOutput(_Models):
    """Output of a finished step. Its models load from its folder unless they are the run's last."""

    name: str
    stage: str
    metrics: Mapping[str, float]
    """Final metrics, as in the table at the end of a run."""
    seconds: float
    """Duration of the step when it ran."""
    reused: bool
    """True if it had finished before this run."""
    folder: Path
    """Folder with its models, `metrics.jsonl`, `samples.jsonl` and other files of the stage."""
    state: ModelState
    """State after the step."""
    model_cache: ModelCache = field(repr=False)

    @property
    def curves(self) -> Mapping[str, list[tuple[int, float]]]:
        """Each metric during training, as pairs of optimizer step and value.

        If the step was resumed, a point that was computed twice is returned once.
        """
        points: dict[str, dict[int, float]] = {}
        for line in _lines(self.folder / "metrics.jsonl"):
            for name in line.keys() - {"done", "total", "unit"}:
                points.setdefault(name, {})[int(line["done"])] = line[name]
        return {name: sorted(points[name].items()) for name in sorted(points)}

    @property
    def samples(self) -> list[Mapping[str, Any]]:
        """Sample texts that the step wrote."""
        return _lines(self.folder / "samples.jsonl")


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(_Models):
    """Result of a run. It prints as the table at the end of `aligner run`."""

    folder: Path
    """The run's folder."""
    state: ModelState
    """State after the last step: path and hash of the artifact in each slot."""
    steps: Mapping[str, StepOutput]
    """Steps by name, in the order of the chain."""
    seconds: float
    """Duration of the run, without reused steps."""
    model_cache: ModelCache = field(repr=False)
    """Models that are still in memory."""
    outcome: Outcome = field(repr=False)

    @classmethod
    def of(cls, outcome: Outcome) -> Result:
        """Return the result of a successful run."""
        steps = {}
        for row in outcome.steps:
            folder = row.folder.resolve()
            text = (folder / STATE).read_text(encoding="utf-8")
            steps[row.step] = StepOutput(
                name=row.step,
                stage=row.stage,
                metrics=row.metrics,
                seconds=row.seconds,
                reused=row.reused,
                folder=row.folder,
                state=ModelState.from_json(text, relative_to=folder),
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

    def __getitem__(self, step: str) -> StepOutput:
        if step not in self.steps:
            raise KeyError(f"no step {step!r}; {did_you_mean(step, self.steps)}")
        return self.steps[step]

    def __str__(self) -> str:
        def summary(console: Console) -> RenderableType:
            return render_summary(self.outcome, console, log=None, all_metrics=True)

        return render_text(summary)

    __repr__ = __str__


def _lines(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
