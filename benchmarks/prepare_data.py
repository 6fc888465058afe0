"""Measure data preparation in rows per second: aligner, TRL, and the bare tokenizer."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

from aligner import Registry
from aligner.data.encoding.prepare import prepare_conversations, prepare_preferences
from aligner.data.encoding.tokenizers import train_tokenizer
from aligner.data.options import DataOptions

MARKED = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] + '<|im_end|>' }}{%- endif %}{{- '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
UNMARKED = MARKED.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
VOCABULARY, WORDS, TOKENS = 16_384, 40_000, 200
TURNS = {"conversations": 1, "conversations of 4 turns": 4}
CASES = [
    ("conversations", "marked"),
    ("conversations", "unmarked"),
    ("conversations of 4 turns", "marked"),
    ("conversations of 4 turns", "unmarked"),
    ("pairs", "marked"),
    ("pairs", "unmarked"),
]

Row = dict[str, Any]


@dataclass
class Context:
    """Data context, as of a step."""

    recipe_folder: Path
    registry: Registry = field(default_factory=Registry)
    memo: dict[str, Any] = field(default_factory=dict)
    past: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    cache: Path | None = None

    def at(self, option: str) -> str:
        return option


class Writer:
    """Writer of random text in an artificial language with Zipf-like word frequencies."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        starts, middles, ends = "bcdfghklmnprstvw", "aeiou", ["", "n", "r", "s", "t", "nd", "ing"]
        parts = [a + b + c for a in starts for b in middles for c in ends]
        known = random.Random(0)
        self.words = [
            "".join(known.choice(parts) for _ in range(1 + known.randrange(3)))
            for _ in range(WORDS)
        ]
        weights = [1 / (rank + 3) for rank in range(WORDS)]
        self.cumulative = list(_running(weights))

    def text(self, words: int) -> str:
        drawn = self.draw.choices(self.words, cum_weights=self.cumulative, k=words)
        for place in range(self.draw.randrange(4, 12), words, self.draw.randrange(7, 14)):
            drawn[place - 1] += self.draw.choice([",", ".", ".", "?", ":", "\n\n", ".\n- "])
            drawn[place] = drawn[place].capitalize()
        for place in range(0, words, 40):
            drawn[place] = str(self.draw.randrange(3000))
        return " ".join(drawn)


def _running(weights: Sequence[float]) -> Iterator[float]:
    total = 0.0
    for weight in weights:
        total += weight
        yield total


def make_conversations(writer: Writer, rows: int, exchanges: int, per_word: float) -> Iterator[Row]:
    """Make conversations of about `TOKENS` tokens."""
    for _ in range(rows):
        words = int(TOKENS / per_word * writer.draw.uniform(0.6, 1.4)) - 8 * exchanges
        messages = []
        for _ in range(exchanges):
            share = writer.draw.uniform(0.2, 0.5)
            for role, part in (("user", share), ("assistant", 1 - share)):
                content = writer.text(max(3, int(part * words / exchanges)))
                messages.append({"role": role, "content": content})
        yield {"messages": messages}


def make_pairs(writer: Writer, rows: int, per_word: float) -> Iterator[Row]:
    """Make pairs with prompts of about 60 tokens and completions of about 140 tokens."""
    for _ in range(rows):
        ask, good, bad = (
            writer.text(int(tokens / per_word * writer.draw.uniform(0.6, 1.4)))
            for tokens in (60, 140, 140)
        )
        yield {
            "prompt": [{"role": "user", "content": ask}],
            "chosen": [{"role": "assistant", "content": good}],
            "rejected": [{"role": "assistant", "content": bad}],
        }


def conversations(row: Row) -> list[list[Row]]:
    """Return the conversations in a row."""
    if "messages" in row:
        return [row["messages"]]
    return [row["prompt"] + row[side] for side in ("chosen", "rejected")]


def bare(rows: Sequence[Row], tokenizer: Any) -> Callable[[], int]:
    """Return a function that only tokenizes rendered texts."""
    texts = [
        tokenizer.apply_chat_template(conversation, tokenize=False)
        for row in rows
        for conversation in conversations(row)
    ]

    def encode() -> int:
        backend = tokenizer.backend_tokenizer
        return sum(len(encoding.ids) for encoding in backend.encode_batch_fast(texts))

    return encode


def ours(rows: Sequence[Row], tokenizer: Any, folder: Path) -> Callable[[], int]:
    """Return a function that prepares the rows from their file with aligner."""
    path = folder / f"{time.monotonic_ns()}.jsonl"  # a new path, so that no cache is used
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = DataOptions.model_validate({"data": str(path)})
    prepare: Any = prepare_conversations if "messages" in rows[0] else prepare_preferences

    def work() -> int:
        prepared = prepare(Context(folder), options, tokenizer)
        assert len(prepared.train) == len(rows), prepared.ledgers
        return int(prepared.tokens)

    return work


def theirs(rows: Sequence[Row], tokenizer: Any, trainer: SFTTrainer) -> Callable[[], int]:
    """Return a function that prepares the rows with TRL, assistant masks included."""
    data = datasets.Dataset.from_list(list(rows))

    def work() -> int:
        prepared = trainer._prepare_dataset(data, tokenizer, trainer.args, False, None, "train")
        return sum(len(ids) for ids in prepared["input_ids"])

    return work


def trainer_for(tokenizer: Any, folder: Path) -> SFTTrainer:
    """Make a TRL trainer with a tiny model."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8,
        num_hidden_layers=1, num_attention_heads=1,
    )  # fmt: skip
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    return SFTTrainer(
        model=LlamaForCausalLM(config),
        args=SFTConfig(
            output_dir=str(folder), assistant_only_loss=True, max_length=None, use_cpu=True,
            bf16=False, report_to="none", disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list([{"messages": messages}]),
        processing_class=tokenizer,
    )  # fmt: skip


def timed(work: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    tokens = work()
    return time.perf_counter() - start, tokens


def compare(kind: str, template: str, repeats: int, rows: int, bench: Bench) -> None:
    """Print rows per second and the ratio of medians; every repeat has new rows."""
    tokenizer = bench.tokenizer
    tokenizer.chat_template = MARKED if template == "marked" else UNMARKED
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        data = list(
            make_pairs(bench.writer, rows, bench.per_word)
            if kind == "pairs"
            else make_conversations(bench.writer, rows, TURNS[kind], bench.per_word)
        )
        works = {
            "bare": bare(data, tokenizer),
            "aligner": ours(data, tokenizer, bench.folder),
        }
        if kind != "pairs" and template == "marked" and bench.trainer is not None:
            works["TRL"] = theirs(data, tokenizer, bench.trainer)
        for name, work in works.items():
            spent, tokens = timed(work)
            seconds.setdefault(name, []).append(spent)
            if name == "bare":
                each = tokens / rows
    speed = {name: rows / statistics.median(spent) for name, spent in seconds.items()}
    rates = ", ".join(f"{name} {rate:,.0f} rows/s" for name, rate in speed.items())
    print(f"{kind}, {template}, {each:.0f} tokens per row: {rates}", flush=True)
    for other in ("bare", "TRL"):
        if other in speed:
            ratio = statistics.median(
                b / a for a, b in zip(seconds["aligner"], seconds[other], strict=True)
            )
            print(f"    aligner is {ratio:.2f} times as fast as {other}", flush=True)


@dataclass
class Bench:
    """Objects shared by all comparisons."""

    folder: Path
    writer: Writer
    tokenizer: Any
    per_word: float
    """Tokens per word."""
    trainer: SFTTrainer | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="run only cases whose name contains this")
    parser.add_argument("--without-trl", action="store_true", help="omit TRL")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    writer = Writer(1)
    texts = [writer.text(200) for _ in range(1500)]
    tokenizer = train_tokenizer(texts, VOCABULARY, special=("<|im_start|>", "<|im_end|>"))
    sample = [writer.text(200) for _ in range(50)]
    per_word = sum(len(ids) for ids in tokenizer(sample)["input_ids"]) / (200 * len(sample))
    with tempfile.TemporaryDirectory() as name:
        tokenizer.chat_template = MARKED
        trainer = None if arguments.without_trl else trainer_for(tokenizer, Path(name))
        bench = Bench(Path(name), writer, tokenizer, per_word, trainer)
        for kind, template in CASES:
            if arguments.only in f"{kind}, {template}":
                compare(kind, template, arguments.repeats, arguments.rows, bench)


if __name__ == "__main__":
    main()
