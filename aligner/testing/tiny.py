"""Tiny model, tokenizer and data: a stage runs on them in a second, with equal results."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from aligner.data.encoding.tokenizers import save_tokenizer, train_tokenizer
from aligner.models.fresh import fresh_model
from aligner.models.load import silence_transformers
from aligner.models.options import FreshModel
from aligner.models.resolve import resolve
from aligner.models.reward import make_reward
from aligner.models.tokens import set_token_ids
from aligner.state import Artifact, ModelCache

Rows = Sequence[Mapping[str, Any]]

POSITIONS = 96
"""Context length of the tiny model, in tokens."""
VOCABULARY = 320

_WORDS = [
    "red",
    "blue",
    "small",
    "big",
    "cat",
    "dog",
    "runs",
    "sleeps",
    "eats",
    "sees",
    "the",
    "a",
    "happy",
    "sad",
]
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_END = "<|end|>"
_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def texts(count: int = 24, *, seed: int = 3) -> Rows:
    """Return plain documents of a few words."""
    rng = random.Random(seed)
    return [{"text": _sentence(rng)} for _ in range(count)]


def conversations(count: int = 12, *, seed: int = 3) -> Rows:
    """Return conversations of two turns with unique prompts."""
    rng = random.Random(seed)
    return [
        {"messages": [_user(number, rng), _assistant(_sentence(rng))]} for number in range(count)
    ]


def prompts(count: int = 8, *, seed: int = 3) -> Rows:
    """Return prompts with a reference answer."""
    rng = random.Random(seed)
    return [{"prompt": [_user(number, rng)], "answer": _sentence(rng)} for number in range(count)]


def preferences(count: int = 12, *, seed: int = 3) -> Rows:
    """Return pairs of answers; the chosen one begins with `yes`, and is sometimes the longer one."""
    rng = random.Random(seed)
    return [
        {
            "prompt": f"{number} {_sentence(rng)}",
            "chosen": f"yes {_sentence(rng)}",
            "rejected": f"no {_sentence(rng)}",
        }
        for number in range(count)
    ]


def labels(count: int = 12, *, seed: int = 3) -> Rows:
    """Return prompts with one answer and its label, true or false."""
    rng = random.Random(seed)
    return [
        {
            "prompt": f"{number} {_sentence(rng)}",
            "completion": f"{'yes' if number % 2 else 'no'} {_sentence(rng)}",
            "label": bool(number % 2),
        }
        for number in range(count)
    ]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer, trained on the words of the tiny data, with a chat template."""
    words = [" ".join(_WORDS), " ".join(f" {word}" for word in _WORDS)]
    tokenizer = train_tokenizer(words, VOCABULARY, special=(*_ROLES, _END), max_length=POSITIONS)
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def tiny_model(
    tokenizer: PreTrainedTokenizerFast | None = None, *, seed: int = 5
) -> PreTrainedModel:
    """Return a Llama of two layers and 16 hidden units in fp32, with random weights."""
    tokenizer = tokenizer or tiny_tokenizer()
    shape = FreshModel(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
    )
    model = fresh_model(shape, vocab_size=len(tokenizer), seed=seed)
    set_token_ids(model, tokenizer)
    return model


def tiny_reward_model(folder: Path, *, seed: int = 5) -> PreTrainedModel:
    """Return a reward model on top of the tiny model in `folder`, written by `write_tiny`."""
    return make_reward(
        resolve(str(folder)), ModelCache(), seed=seed, pad=tiny_tokenizer().pad_token_id
    )


def write_tiny(folder: Path) -> Artifact:
    """Save the tiny model and its tokenizer to a model folder."""
    tokenizer = tiny_tokenizer()
    with silence_transformers():
        tiny_model(tokenizer).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return resolve(str(folder))


def write_files(folder: Path, files: Mapping[str, Rows | str]) -> None:
    """Write each file to `folder`: rows as JSON lines, text as it is."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(content, encoding="utf-8")


def _sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(2, 6)))


def _user(number: int, rng: random.Random) -> dict[str, str]:
    return {"role": "user", "content": f"{number} {_sentence(rng)}"}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
