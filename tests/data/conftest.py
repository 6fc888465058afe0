"""Places to read data from, and small tokenizers to encode it with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aligner import Registry
from aligner.data.encoding.tokenizers import train_tokenizer
from aligner.data.options import DataSpec
from aligner.data.reading.load import LoadedRows, is_held_out, load_rows
from aligner.data.rows import Row

SHARED = Path(os.environ.get("ALIGNER_SHARED", Path(__file__).parents[2] / ".." / "shared"))

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{ message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{ message['content'] + '<|im_end|>' }}{%- endif %}{{ '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
UNMARKED = CHATML.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
TEXTS = ["how are you? hello world, a user asks and the assistant answers.", "1 2 3 4", "ok then"]


@dataclass
class Here:
    """A place as a stage has one, with every option at a line of its own name."""

    recipe_folder: Path
    registry: Registry = field(default_factory=Registry)
    memo: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    cache: Path | None = None
    past: Mapping[str, Any] = field(default_factory=dict)

    def at(self, option: str) -> str:
        return f"recipe.yaml:{option}"


@pytest.fixture
def place(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.fixture
def shared() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real data is not at {SHARED}; say where with ALIGNER_SHARED")
    return SHARED


@pytest.fixture
def read(place: Here) -> Callable[..., LoadedRows]:
    """Write rows to `rows.jsonl` and load them."""

    def read_rows(
        *rows: Mapping[str, Any], want: Any = "conversation", **options: Any
    ) -> LoadedRows:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (place.recipe_folder / "rows.jsonl").write_text(lines, encoding="utf-8")
        place.memo.clear()
        spec = DataSpec(path="rows.jsonl", **options)
        return load_rows([spec], want=want, context=place, option="data")

    return read_rows


@pytest.fixture(scope="session")
def bare() -> Any:
    """A byte-level tokenizer that begins texts with `<s>`, without a template."""
    return train_tokenizer(TEXTS * 20, 400, special=("<|im_start|>", "<|im_end|>"))


@pytest.fixture(params=["marked", "unmarked"])
def chatty(request: pytest.FixtureRequest, bare: Any) -> Any:
    """The same with a ChatML template, with and without generation markers."""
    bare.chat_template = CHATML if request.param == "marked" else UNMARKED
    return bare


def hold_out(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows that are trained on and rows that are held out, as a step parts them."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        sides[is_held_out(row, share)].append(row)
    return sides
