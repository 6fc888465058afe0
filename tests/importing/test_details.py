"""Defaults of the tools, and settings that can be written in several ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ImportText = Callable[[str], tuple[list[dict[str, Any]], str]]


def test_defaults_of_each_tool_are_written_out(import_text: ImportText) -> None:
    axolotl, _ = import_text("base_model: m/n\ndatasets: [{path: d/e, type: chat_template}]\n")
    assert axolotl[1] == {
        "stage": "sft",
        "data": {"hub": "d/e"},
        "max_length": 512,
        "per_device_train_batch_size": 1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "train_sampling_strategy": "random",
    }
    trl, _ = import_text("model_name_or_path: m/n\ndataset_name: d/e\nassistant_only_loss: true\n")
    assert trl[1] == {
        "stage": "sft",
        "data": {"hub": "d/e"},
        "max_length": 1024,
        "overflow": "truncate",
        "num_train_epochs": 3.0,
        "train_sampling_strategy": "random",
        "activation_checkpointing": True,
    }
    factory, _ = import_text(
        "model_name_or_path: m/n\nfinetuning_type: full\ndataset: d/e\ndataset_dir: ONLINE\n"
    )
    assert factory[1] == {
        "stage": "sft",
        "data": {"hub": "d/e"},
        "max_length": 2048,
        "overflow": "truncate",
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
def test_data_sets_are_read_from_dataset_info(
    info: str, data: object, import_text: ImportText, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"one": ' + info + "}")
    steps, _ = import_text(FACTORY)
    assert steps[1]["data"] == data


def test_a_number_of_held_out_rows_is_not_imported(import_text: ImportText) -> None:
    steps, out = import_text(FACTORY + "dataset_dir: ONLINE\nval_size: 500\n")
    assert "hold_out" not in steps[1]
    assert (
        "  f.yaml:6: val_size: a number of rows is not supported, only a fraction: set hold_out\n"
    ) in out


@pytest.mark.parametrize(
    ("type_", "columns"),
    [
        ("type: chatml.intel", {"question": "prompt"}),
        ("type: {field_prompt: q, field_chosen: good, field_rejected: bad}",
         {"q": "prompt", "good": "chosen", "bad": "rejected"}),
        ("type: llama3.ultra", None),
    ],
)  # fmt: skip
def test_axolotls_types_of_pairs_rename_columns(
    type_: str, columns: dict[str, str] | None, import_text: ImportText
) -> None:
    steps, _ = import_text(f"base_model: m/n\nrl: dpo\ndatasets:\n  - path: d/e\n    {type_}\n")
    assert steps[1]["data"].get("columns") == columns
    template = {"chatml.intel": "chatml", "llama3.ultra": "llama-3"}.get(type_.partition(": ")[2])
    if template:
        assert steps[0] == {"stage": "chat", "template": template}


def test_booleans_of_yaml_1_1_are_accepted(import_text: ImportText) -> None:
    """In YAML 1.1 `yes` and `off` are booleans."""
    text = "base_model: m/n\ndatasets: [{path: d/e}]\nsample_packing: yes\ngradient_checkpointing: off\n"
    steps, _ = import_text(text)
    assert steps[1]["packing"] is True
    assert "activation_checkpointing" not in steps[1]
