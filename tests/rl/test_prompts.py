"""The tools of a prompt reach reward models and functions as the policy sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aligner import Registry
from aligner.data.encoding.chat import ChatEncoder
from aligner.data.options import DataOptions
from aligner.registry import Completion
from aligner.rl.prompts import read_prompts
from aligner.testing import tiny_tokenizer, write_files
from aligner.train.scoring import RewardEncoder

SHOWN = (
    "{%- for tool in tools or [] %}{{ '<|im_start|>' + (tool | tojson) + '<|im_end|>' }}{%- endfor %}"
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{%- endif %}"
)
TOOL = {"type": "function", "function": {"name": "add"}}


class Here:
    registry, seed, cache = Registry(), 0, None

    def __init__(self, folder: Path) -> None:
        self.recipe_folder = folder
        self.memo: dict[str, Any] = {}
        self.past: dict[str, Any] = {}

    def at(self, option: str) -> str:
        return option


def test_a_reward_model_reads_the_tools_of_a_prompt(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = SHOWN
    write_files(tmp_path, {"prompts.jsonl": [{"prompt": "1 + 1?", "tools": [TOOL]}]})
    options = DataOptions(data="prompts.jsonl")
    (prompt,), _ = read_prompts(options, Here(tmp_path), tokenizer)
    assert prompt.tools == (TOOL,)
    done = Completion(prompt=prompt.messages, text="2", ended=False, tools=prompt.tools)
    (read,) = RewardEncoder(tokenizer)([done])
    assert tuple(read[: len(prompt.tokens)]) == prompt.tokens
    encoded = ChatEncoder(tokenizer).prompt(prompt.messages, prompt.tools)
    assert "add" in "".join(piece.text for piece in encoded.pieces)
