"""Settings and fixtures of all tests: a single thread per process, and a small finished run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aligner import chain
from aligner.host import Host
from aligner.recipe import read_recipe

# Tiny models gain nothing from threads, and several test processes whose threads wait for one another
# by spinning take ten times as long. Set before torch loads, here and in the processes tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

RECIPE = """\
name: small
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
  - stage: sft
    data: talks.jsonl
    adapter: {method: lora, r: 4}
    max_steps: 3
    per_device_train_batch_size: 4
    learning_rate: 2e-2
  - stage: dpo
    data: pairs.jsonl
    max_steps: 3
    per_device_train_batch_size: 4
    learning_rate: 2e-2
  - stage: reward
    data: pairs.jsonl
    max_steps: 2
    per_device_train_batch_size: 4
    learning_rate: 2e-2
"""


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/small`: five finished steps, of which `sft` and `dpo` share an adapter.

    Tests only read it.
    """
    folder = tmp_path_factory.mktemp("small")
    words = ["red", "blue", "small", "big", "cat", "dog", "runs", "eats", "sees", "the", "a", "to"]
    sentences = [" ".join(words[(n * k) % 12] for k in range(1, 5)) for n in range(1, 17)]
    (folder / "stories.txt").write_text("\n<|endoftext|>\n".join(sentences))
    talks, pairs = [], []
    for number, sentence in enumerate(sentences):
        ask = f"{number} {sentence}"
        turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": sentence}]
        talks.append({"messages": turns})
        pairs.append({"prompt": ask, "chosen": f"yes {sentence}", "rejected": "no"})
    for name, rows in (("talks", talks), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "small.yaml").write_text(RECIPE)
    host = Host.discover()
    checked = chain.check(chain.link(read_recipe(folder / "small.yaml"), host), host)
    chain.run(checked, host, runs=folder / "runs")
    return folder
