"""Roles come from the batches of training: a broken collator is visible in the preview."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

import aligner
from aligner import chain
from aligner.preview import PreviewSection
from aligner.terminal.console import make_console, print_to
from aligner.terminal.preview import render_preview
from aligner.terminal.preview_html import preview_html
from aligner.train.completions import CompletionCollator
from tests.preview.conftest import LONGER, TALKS, spelled

Only = Callable[..., PreviewSection]
Break = Callable[[dict[str, Any]], None]


def _break(monkeypatch: pytest.MonkeyPatch, collator: Any, damage: Break) -> None:
    name = "torch_call" if hasattr(collator, "torch_call") else "__call__"
    original = getattr(collator, name)

    def broken(self: Any, examples: Any) -> dict[str, Any]:
        batch: dict[str, Any] = original(self, examples)
        damage(batch)
        return batch

    monkeypatch.setattr(collator, name, broken)


def test_a_stop_token_masked_by_the_collator_is_shown_as_masked(
    section: Only, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"stage": "sft", "data": "talks.jsonl", "per_device_train_batch_size": 1}
    stop = section(step, rows=(1,)).rows[0].sequences[0].tokens[-1]
    _break(
        monkeypatch,
        DataCollatorForLanguageModeling,
        lambda batch: batch["labels"].masked_fill_(batch["labels"] == stop.id, -100),
    )
    sequence = section(step, rows=(1,)).rows[0].sequences[0]
    assert sequence.tokens[-1].role == "masked"
    assert sequence.notes == ()
    place = len(sequence.tokens) - 1
    assert sequence.warnings == (f"the stop token <|end|> at {place} is not trained",)


def test_a_collator_that_masks_everything_is_visible(
    section: Only, preview_steps: Callable[..., chain.ChainPreview], monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(
        monkeypatch,
        DataCollatorForLanguageModeling,
        lambda batch: batch["labels"].fill_(-100),
    )
    step = {"stage": "sft", "data": "talks.jsonl"}
    sequence = section(step).rows[0].sequences[0]
    assert sequence.counts["trained"] == 0
    assert sequence.warnings == ("nothing in it is trained",)
    file = io.StringIO()
    console = make_console(file)
    print_to(console, render_preview(preview_steps(step, rows=(1,)), console))
    assert "  8 tokens · none trained · 8 masked · 5 padding\n  ! nothing in it is trained\n" in (
        file.getvalue()
    )
    assert '<p class="warning">⚠ nothing in it is trained</p>' in preview_html(preview_steps(step))


def test_a_preference_collator_that_trains_the_prompt_is_seen(
    section: Only, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, CompletionCollator, lambda batch: batch["completion_mask"].fill_(1))
    row = section({"stage": "dpo", "data": "pairs.jsonl"}, rows=(1,)).rows[0]
    assert row.sequences[0].tokens[1].role == "trained"
    assert row.prompt_length == 1, "only the first token, which nothing predicts, is not trained"


def test_padding_that_is_read_is_seen(section: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, CompletionCollator, lambda batch: batch["attention_mask"].fill_(1))
    shown = section({"stage": "reward", "data": "pairs.jsonl"}, rows=(1, 2, 3, 4))
    assert shown.batches[0].counts["padding"] == 0


def test_tokens_that_a_collator_shifts_are_seen(
    section: Only, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"stage": "sft", "data": "talks.jsonl", "per_device_train_batch_size": 1}
    true = spelled(section(step, rows=(1,)).rows[0])

    def roll(batch: dict[str, Any]) -> None:
        batch["input_ids"] = torch.roll(batch["input_ids"], 1, dims=-1)

    _break(monkeypatch, DataCollatorForLanguageModeling, roll)
    shown = spelled(section(step, rows=(1,)).rows[0])
    assert true.startswith("<|user|>a")
    assert shown.startswith("<|end|><|user|>")


@pytest.mark.parametrize(
    ("step", "collator", "keys"),
    [
        (
            {"stage": "sft", "data": "talks.jsonl", "per_device_train_batch_size": len(TALKS)},
            DataCollatorForLanguageModeling,
            ("input_ids", "labels", "attention_mask"),
        ),
        (
            {
                "stage": "sft",
                "data": "longer.jsonl",
                "per_device_train_batch_size": len(LONGER),
                "packing": True,
                "max_length": 64,
            },
            DataCollatorForLanguageModeling,
            ("input_ids", "labels", "position_ids"),
        ),
        (
            {"stage": "dpo", "data": "pairs.jsonl", "per_device_train_batch_size": 8},
            CompletionCollator,
            ("input_ids", "completion_mask", "attention_mask"),
        ),
        (
            {"stage": "reward", "data": "pairs.jsonl", "per_device_train_batch_size": 8},
            CompletionCollator,
            ("input_ids", "attention_mask"),
        ),
    ],
    ids=["sft", "packed", "dpo", "reward"],
)
def test_training_gets_the_batch_of_the_preview(
    desk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: dict[str, Any],
    collator: Any,
    keys: tuple[str, ...],
) -> None:
    """The batch has all rows, so it differs only in their order."""
    seen: list[set[tuple[Any, ...]]] = []

    def keep(batch: dict[str, Any]) -> None:
        if keys[-1] == "position_ids":  # one row: its parts may come in another order
            starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
            ends = [*starts[1:], batch["input_ids"].shape[1]]
            rows = [
                tuple(tuple(batch[key][0, a:b].tolist()) for key in keys)
                for a, b in zip(starts, ends, strict=True)
            ]
        else:
            columns = (batch[key].tolist() for key in keys)
            rows = [tuple(map(tuple, row)) for row in zip(*columns, strict=True)]
        seen.append(set(rows))

    _break(monkeypatch, collator, keep)
    text = f"name: tiny\nmodel: {desk / 'base'}\nsteps:\n  - {_inline(step, desk)}\n"
    (tmp_path / "r.yaml").write_text(text)
    recipe = aligner.Recipe.load(tmp_path / "r.yaml")
    recipe.preview()
    shown = seen.copy()
    seen.clear()
    recipe.run(runs=tmp_path / "runs", show=False)
    assert len(shown) == 1
    assert seen
    assert all(batch == shown[0] for batch in seen)


def _inline(step: dict[str, Any], desk: Path) -> str:
    placed = {**step, "data": str(desk / step["data"]), "max_steps": 1, "learning_rate": 1e-2}
    return (
        "{"
        + ", ".join(
            f"{key}: {str(value).lower() if isinstance(value, bool) else value}"
            for key, value in placed.items()
        )
        + "}"
    )
