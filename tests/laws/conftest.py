"""Fixtures that run whole chains on a tiny model, with generated data."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from aligner import chain
from aligner.chain import Outcome
from aligner.host import Host
from aligner.recipe import read_recipe

WORDS = ["red", "blue", "small", "big", "cat", "dog", "runs", "sleeps", "eats", "sees", "the", "a"]

HEAD = """\
seed: 7
steps:
  - stage: pretrain
    data: stories.txt
    fresh: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, max_position_embeddings: 96}
    vocab_size: 300
    max_length: 32
    max_steps: 4
    per_device_train_batch_size: 4
    learning_rate: 1e-2
  - stage: chat
    template: tiny
"""


class Chains:
    """Writer and runner of recipes in a folder with data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recipe(self, *steps: str) -> Path:
        """Write a recipe that makes a tiny model and its chat template, followed by `steps`."""
        path = self.folder / "chain.yaml"
        path.write_text(HEAD + "".join(steps))
        return path

    def step(self, stage: str, data: str, *options: str) -> str:
        """Return a training step of three optimizer steps as YAML."""
        lines = [
            f"data: {data}",
            "max_steps: 3",
            "per_device_train_batch_size: 4",
            "learning_rate: 2e-2",
            "logging_steps: 1",
        ]
        return f"  - stage: {stage}\n" + "".join(f"    {line}\n" for line in (*lines, *options))

    def run(
        self, *steps: str, runs: str = "runs", sets: Iterable[str] = (), **more: Any
    ) -> Outcome:
        host = Host.discover()
        recipe = read_recipe(self.recipe(*steps), overrides=list(sets))
        checked = chain.check(chain.link(recipe, host), host)
        return chain.run(checked, host, runs=self.folder / runs, **more)


@pytest.fixture
def chains(tmp_path: Path) -> Chains:
    """Write a text, conversations and preference pairs into a folder."""
    draw = random.Random(3)

    def sentence() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(2, 6)))

    (tmp_path / "stories.txt").write_text("\n<|endoftext|>\n".join(sentence() for _ in range(40)))
    talks, pairs = [], []
    for number in range(16):
        ask = f"{number} {sentence()}"
        say = {"role": "assistant", "content": sentence()}
        talks.append({"messages": [{"role": "user", "content": ask}, say]})
        pairs.append({"prompt": ask, "chosen": f"yes {sentence()}", "rejected": f"no {sentence()}"})
    for name, rows in (("talks", talks), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Chains(tmp_path)


@pytest.fixture
def losses() -> Callable[[Outcome, str], list[float]]:
    """Return a function that reads the losses of a step from its metrics."""

    def read(outcome: Outcome, step: str) -> list[float]:
        [row] = [row for row in outcome.steps if row.step == step]
        lines = (row.folder / "metrics.jsonl").read_text().splitlines()
        return [point["loss"] for point in map(json.loads, lines) if "loss" in point]

    return read
