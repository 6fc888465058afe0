"""Compare the time of an aligner chain with that of three TRL trainings in separate processes."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "house",
    "tree",
    "runs",
    "sits",
    "sees",
    "blue",
    "green",
    "old",
    "new",
]
STEPS, BATCH, LENGTH = 60, 8, 128

RECIPE = f"""\
name: chain
seed: 1
model: model
steps:
  - stage: sft
    data: conversations.jsonl
    max_steps: {STEPS}
    per_device_train_batch_size: {BATCH}
    max_length: {LENGTH}
    learning_rate: 1e-4
  - stage: reward
    data: pairs.jsonl
    max_steps: {STEPS}
    per_device_train_batch_size: {BATCH}
    max_length: {LENGTH}
    learning_rate: 1e-4
  - stage: dpo
    data: pairs.jsonl
    max_steps: {STEPS}
    per_device_train_batch_size: {BATCH}
    max_length: {LENGTH}
    learning_rate: 1e-5
"""

TRL_SCRIPT = """\
import sys
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import {config}, {trainer}

base, data, out = sys.argv[1:4]
tokenizer = AutoTokenizer.from_pretrained(base)
model = {kind}.from_pretrained(base{more}, dtype="float32")
model.config.pad_token_id = tokenizer.pad_token_id
arguments = {config}(
    output_dir=out, max_steps={steps}, per_device_train_batch_size={batch}, max_length={length},
    learning_rate={rate}, bf16=False, use_cpu=True, activation_checkpointing=False, report_to="none",
    save_strategy="no", disable_tqdm=True, seed=1, train_sampling_strategy="random",
)
rows = load_dataset("json", data_files=data, split="train")
trainer = {trainer}(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
trainer.train()
trainer.save_model(out)
tokenizer.save_pretrained(out)
"""


def make_inputs(folder: Path) -> None:
    """Make a model of about a million parameters with a chat template, conversations and pairs."""
    recipe = f"""\
name: model
seed: 1
steps:
  - stage: pretrain
    data: text.txt
    fresh: {{hidden_size: 128, num_hidden_layers: 4, num_attention_heads: 4, max_position_embeddings: 256}}
    vocab_size: 1024
    max_length: {LENGTH}
    max_steps: 5
  - stage: chat
    template: chatml
"""
    draw = random.Random(1)

    def text(words: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(words))

    (folder / "text.txt").write_text("\n<|endoftext|>\n".join(text(40) for _ in range(400)))
    conversations, pairs = [], []
    for number in range(800):
        ask = {"role": "user", "content": f"{number} {text(draw.randint(3, 12))}"}
        good, bad = ({"role": "assistant", "content": text(draw.randint(3, 30))} for _ in range(2))
        conversations.append({"messages": [ask, good]})
        pairs.append({"prompt": [ask], "chosen": [good], "rejected": [bad]})
    for name, rows in (("conversations", conversations), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "make.yaml").write_text(recipe)
    (folder / "chain.yaml").write_text(RECIPE)
    run_aligner(folder, "make.yaml", "made")
    run_aligner(folder, None, "made", export=folder / "model")


def run_aligner(folder: Path, recipe: str | None, runs: str, *, export: Path | None = None) -> None:
    """Run a recipe, or export the model of the last run."""
    command = [sys.executable, "-m", "aligner.cli"]
    if export is not None:
        command += ["export", "model", "--to", str(export), "--runs", str(folder / runs)]
    else:
        command += ["run", str(folder / str(recipe)), "--runs", str(folder / runs), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run_trl(folder: Path, out: str) -> None:
    """Run the three TRL trainings."""
    causal, scoring = "AutoModelForCausalLM", "AutoModelForSequenceClassification"
    work = [
        ("SFT", "sft", causal, "", "model", "conversations", 1e-4),
        ("Reward", "reward", scoring, ", num_labels=1", f"{out}/sft", "pairs", 1e-4),
        ("DPO", "dpo", causal, "", f"{out}/sft", "pairs", 1e-5),
    ]
    for name, step, kind, more, base, data, rate in work:
        script = TRL_SCRIPT.format(
            config=f"{name}Config",
            trainer=f"{name}Trainer",
            kind=kind,
            more=more,
            steps=STEPS,
            batch=BATCH,
            length=LENGTH,
            rate=rate,
        )
        arguments = [str(folder / base), str(folder / f"{data}.jsonl"), str(folder / out / step)]
        subprocess.run(
            [sys.executable, "-c", script, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def time_children(work: object) -> tuple[float, float]:
    """Return the wall and CPU seconds of the child processes that `work` starts."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()  # type: ignore[operator]
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder)
        ours, theirs = [], []
        for number in range(repeats):
            ours.append(
                time_children(lambda n=number: run_aligner(folder, "chain.yaml", f"runs-{n}"))
            )
            theirs.append(time_children(lambda n=number: run_trl(folder, f"trl-{n}")))
            print(
                f"{number + 1}: aligner {ours[-1][0]:.1f} s, TRL {theirs[-1][0]:.1f} s", flush=True
            )
        for index, metric in enumerate(("wall", "CPU")):
            a, b = ([seconds[index] for seconds in side] for side in (ours, theirs))
            ratio = statistics.median(x / y for x, y in zip(a, b, strict=True))
            medians = f"{statistics.median(a):.1f} s against {statistics.median(b):.1f} s"
            print(f"{metric}: {medians}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
