"""What the tools take where nothing is said, and settings that say something in several ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Brought = Callable[[str], tuple[list[dict[str, Any]], str]]


def test_what_each_tool_takes_where_nothing_is_said(brought: Brought) -> None:
    axolotl, _ = brought("base_model: m/n\ndatasets: [{path: d/e, type: chat_template}]\n")
    assert axolotl[1] == {
        "stage": "sft",
        "data": {"hub": "d/e"},
        "max_length": 512,
        "per_device_train_batch_size": 1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "train_sampling_strategy": "random",
    }
    trl, _ = brought("model_name_or_path: m/n\ndataset_name: d/e\nassistant_only_loss: true\n")
    assert trl[1] == {
        "stage": "sft",
        "data": {"hub": "d/e"},
        "max_length": 1024,
        "overflow": "cut",
        "num_train_epochs": 3.0,
        "train_sampling_strategy": "random",
        "activation_checkpointing": True,
    }
    factory, _ = brought(
        "model_name_or_path: m/n\nfinetuning_type: full\ndataset: d/e\ndataset_dir: ONLINE\n"
    )
    assert factory[1] == {
        "stage": "sft",
        "data": {"hub": "d/e"},
        "max_length": 2048,
        "overflow": "cut",
        "num_train_epochs": 3.0,
        "learning_rate": 5e-5,
        "train_sampling_strategy": "random",
        "activation_checkpointing": True,
    }


FACTORY = "model_name_or_path: m/n\nfinetuning_type: full\ndataset: one\ntemplate: qwen\n"


@pytest.mark.parametrize(
    ("info", "data"),
    [
        ('{"file_name": "a.json"}', "data/a.json"),
        (
            '{"hf_hub_url": "d/e", "subset": "s", "split": "t", '
            '"columns": {"prompt": "question", "response": "response", "system": "system_prompt"}}',
            {
                "hub": "d/e",
                "subset": "s",
                "split": "t",
                "columns": {
                    "question": "instruction",
                    "response": "output",
                    "system_prompt": "system",
                },
            },
        ),
        (
            '{"file_name": "a.json", "formatting": "sharegpt", "columns": {"messages": "talk"}}',
            {"path": "data/a.json", "columns": {"talk": "conversations"}},
        ),
    ],
)
def test_data_sets_are_what_dataset_info_says(
    info: str, data: object, brought: Brought, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"one": ' + info + "}")
    steps, _ = brought(FACTORY)
    assert steps[1]["data"] == data


def test_a_number_of_held_out_rows_is_no_share(brought: Brought) -> None:
    steps, out = brought(FACTORY + "dataset_dir: ONLINE\nval_size: 500\n")
    assert "hold_out" not in steps[1]
    assert (
        "  f.yaml:6: val_size: a number of rows is not supported, only a fraction: set hold_out\n"
    ) in out


@pytest.mark.parametrize(
    ("said", "columns"),
    [
        ("type: chatml.intel", {"question": "prompt"}),
        ("type: {field_prompt: q, field_chosen: good, field_rejected: bad}",
         {"q": "prompt", "good": "chosen", "bad": "rejected"}),
        ("type: llama3.ultra", None),
    ],
)  # fmt: skip
def test_axolotls_types_of_pairs_rename_columns(
    said: str, columns: dict[str, str] | None, brought: Brought
) -> None:
    steps, _ = brought(f"base_model: m/n\nrl: dpo\ndatasets:\n  - path: d/e\n    {said}\n")
    assert steps[1]["data"].get("columns") == columns
    template = {"chatml.intel": "chatml", "llama3.ultra": "llama-3"}.get(said.partition(": ")[2])
    if template:
        assert steps[0] == {"stage": "chat", "template": template}


def test_switches_are_read_as_these_tools_read_them(brought: Brought) -> None:
    """In YAML 1.1 `yes` and `off` are switches."""
    text = "base_model: m/n\ndatasets: [{path: d/e}]\nsample_packing: yes\ngradient_checkpointing: off\n"
    steps, _ = brought(text)
    assert steps[1]["packing"] is True
    assert "activation_checkpointing" not in steps[1]
