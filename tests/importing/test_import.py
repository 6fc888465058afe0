"""`aligner import` writes an equivalent recipe, with a note for each setting that is not identical."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aligner import chain
from aligner.host import Host
from aligner.models.options import FreshModel
from aligner.recipe import read_recipe
from aligner.testing import conversations, preferences, texts, tiny_tokenizer, write_files

Import = Callable[..., tuple[int, str, str]]

CASES = {
    ("llama-factory", "sft.yaml"): ["chat", "sft"],
    ("llama-factory", "sft.yaml", "dpo.yaml"): ["chat", "sft", "dpo"],
    ("llama-factory", "reward.yaml"): ["chat", "reward"],
    ("llama-factory", "reward.yaml", "ppo.yaml"): ["chat", "reward", "ppo"],
    ("llama-factory", "pretrain.yaml"): ["pretrain"],
    ("axolotl", "qlora.yml"): ["chat", "sft"],
    ("axolotl", "dpo.yml"): ["chat", "dpo"],
    ("axolotl", "chat.yml"): ["chat", "sft"],
    ("axolotl", "full.yaml"): ["chat", "sft"],
    ("axolotl", "pretrain.yml"): ["pretrain"],
    ("trl", "sft.yaml"): ["chat", "sft"],
    ("trl", "text.yaml"): ["pretrain"],
    ("trl", "dpo.yaml"): ["chat", "dpo"],
    ("trl", "kto.yaml"): ["chat", "kto"],
    ("trl", "reward.yaml"): ["chat", "reward"],
}


def test_every_fixture_is_imported() -> None:
    folder = Path(__file__).parent / "fixtures"
    fixtures = {(path.parent.name, path.name) for path in folder.rglob("*.y*ml")}
    assert {(case[0], name) for case in CASES for name in case[1:]} == fixtures
    for tool in ("llama-factory", "axolotl", "trl"):
        assert sum(name[0] == tool for name in fixtures) >= 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case))
def test_the_recipe_passes_the_check_with_a_tiny_model_and_data(
    case: tuple[str, ...], import_files: Import, tmp_path: Path
) -> None:
    """Downloads and options that need a GPU are replaced."""
    from aligner.data.encoding.tokenizers import save_tokenizer
    from aligner.models.fresh import fresh_model

    code, _, err = import_files(*case)
    assert (code, err) == (0, "")
    tokenizer = tiny_tokenizer()
    shape = FreshModel(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=1024
    )
    fresh_model(shape, vocab_size=len(tokenizer), seed=1).save_pretrained(tmp_path / "tiny")
    save_tokenizer(tokenizer, tmp_path / "tiny")
    files = {
        "talk.jsonl": conversations(40),
        "text.jsonl": texts(40),
        "pair.jsonl": preferences(40),
    }
    write_files(tmp_path, files)
    kinds = {"sft": "talk", "pretrain": "text"}
    sets = ["model=tiny"]
    recipe = read_recipe(tmp_path / "out.yaml")
    assert [step.name for step in recipe.steps] == CASES[case]
    for step in recipe.steps[1:] if recipe.steps[0].stage == "chat" else recipe.steps:
        here = f"{{path: {kinds.get(step.stage, 'pair')}.jsonl}}"
        sets.append(f"{step.name}.data=[{here}]")
        sets.append(f"{step.name}.max_length=1000")
        replaced = {
            "max_new_tokens": 8,
            "quantize": "null",
            "precision": "fp32",
            "attn_implementation": "auto",
            "limits": "{dropped: 1, truncated: 1}",
        }
        for option, value in replaced.items():
            if option in step.options or option == "limits":
                sets.append(f"{step.name}.{option}={value}")
        if "8bit" in str(step.options.get("optim")):
            sets.append(f"{step.name}.optim=adamw_torch")
        if "eval_data" in step.options:
            sets += [f"{step.name}.eval_data=null", f"{step.name}.hold_out=0.2"]
    host = Host.discover()
    checked = chain.check(
        chain.link(read_recipe(tmp_path / "out.yaml", overrides=sets), host), host
    )
    assert all(plan.summary for plan in checked.plans)


def read_output(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((folder / "out.yaml").read_text("utf-8"))
    return read


def test_a_llama_factory_file_is_imported(import_files: Import, tmp_path: Path) -> None:
    import_files("llama-factory", "sft.yaml")
    assert read_output(tmp_path) == {
        "name": "out",
        "seed": 0,
        "model": "meta-llama/Meta-Llama-3-8B-Instruct",
        "steps": [
            {"stage": "chat", "template": "llama-3"},
            {
                "stage": "sft",
                "data": [
                    {"path": "data/identity.json", "first": 1000},
                    {"path": "data/alpaca_en_demo.json", "first": 1000},
                ],
                "hold_out": 0.1,
                "max_length": 2048,
                "overflow": "truncate",
                "adapter": {"method": "lora", "r": 8, "lora_alpha": 16},
                "num_train_epochs": 3.0,
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": 8,
                "learning_rate": 1e-4,
                "lr_scheduler_type": "cosine",
                "warmup_steps": 0.1,
                "save_steps": 500,
                "train_sampling_strategy": "random",
                "activation_checkpointing": True,
                "precision": "bf16",
                "eval_steps": 500,
            },
        ],
    }


def test_an_axolotl_file_is_imported(import_files: Import, tmp_path: Path) -> None:
    import_files("axolotl", "dpo.yml")
    assert read_output(tmp_path) == {
        "name": "out",
        "seed": 0,
        "model": "meta-llama/Meta-Llama-3-8B-Instruct",
        "steps": [
            {"stage": "chat", "template": "llama-3", "end_of_turn": "<|eot_id|>"},
            {
                "stage": "dpo",
                "data": {
                    "hub": "fozziethebeat/alpaca_messages_2k_dpo_test",
                    "columns": {"conversation": "conversations"},
                },
                "hold_out": 0.05,
                "max_length": 4096,
                "adapter": {"method": "lora", "r": 32, "lora_alpha": 16, "lora_dropout": 0.05},
                "quantize": "int8",
                "num_train_epochs": 4,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 4,
                "optim": "adamw_bnb_8bit",
                "learning_rate": 2e-4,
                "lr_scheduler_type": "cosine",
                "warmup_steps": 10,
                "train_sampling_strategy": "random",
                "activation_checkpointing": True,
                "attn_implementation": "flash_attention_2",
            },
        ],
    }


def test_a_trl_file_is_imported(import_files: Import, tmp_path: Path) -> None:
    import_files("trl", "dpo.yaml")
    hub = "trl-lib/ultrafeedback_binarized"
    assert read_output(tmp_path) == {
        "name": "out",
        "seed": 0,
        "model": "Qwen/Qwen2-0.5B-Instruct",
        "steps": [
            {"stage": "chat", "template": "own"},
            {
                "stage": "dpo",
                "data": {"hub": hub},
                "eval_data": {"hub": hub, "split": "test"},
                "max_length": 1024,
                "overflow": "truncate",
                "loss_type": ["sigmoid", "sft"],
                "loss_weights": [1.0, 0.2],
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 8,
                "learning_rate": 5e-7,
                "train_sampling_strategy": "random",
                "activation_checkpointing": True,
                "precision": "bf16",
                "eval_steps": 50,
            },
        ],
    }


def test_a_trl_file_for_kto_is_imported(import_files: Import, tmp_path: Path) -> None:
    import_files("trl", "kto.yaml")
    assert read_output(tmp_path)["steps"][1] == {
        "stage": "kto",
        "data": {"hub": "trl-lib/kto-mix-14k"},
        "max_length": 1024,
        "overflow": "truncate",
        "loss_type": "apo_zero_unpaired",
        "beta": 0.2,
        "per_device_train_batch_size": 4,
        "learning_rate": 5e-7,
        "desirable_weight": 1.5,
        "activation_checkpointing": True,
    }


def test_every_difference_is_noted_with_its_line(import_files: Import) -> None:
    _, out, _ = import_files("axolotl", "chat.yml")
    assert out == NOTES


def test_the_head_of_the_recipe_contains_the_important_notes(
    import_files: Import, tmp_path: Path
) -> None:
    import_files("llama-factory", "reward.yaml")
    text = (tmp_path / "out.yaml").read_text("utf-8")
    assert text.split("name: out")[0] == HEAD


def test_a_step_continues_the_adapter_of_the_file_before(
    import_files: Import, tmp_path: Path
) -> None:
    import_files("llama-factory", "sft.yaml", "dpo.yaml")
    last = read_output(tmp_path)["steps"][-1]
    assert last["stage"] == "dpo"
    assert last["incoming"] == "continue"
    assert "adapter" not in last


def test_json_contains_every_note(import_files: Import) -> None:
    _, out, _ = import_files("trl", "reward.yaml", also=("--json",))
    report = json.loads(out)
    assert (report["recipe"], report["from"], report["imported"]) == ("out.yaml", "trl", 6)
    assert report["notes"][0] == {
        "kind": "default",
        "where": "reward.yaml:3",
        "key": "per_device_train_batch_size",
        "text": "per_device_train_batch_size is 8 by default",
    }


NOTES = """\
other meaning:
  chat.yml:10: val_set_size: hold_out: rows are split by a hash of their prompt, so that no prompt is in both splits
  chat.yml:12: sequence_len: max_length: longer rows are dropped too, but the check fails if they are more than 5 %
added:
  chat.yml: group_by_length: train_sampling_strategy: 'random', Axolotl's default
default:
  chat.yml:13: sample_packing: packing is false by default
  chat.yml:24: optimizer: optim is 'adamw_torch' by default
  chat.yml:32: weight_decay: weight_decay is 0.0 by default
not needed:
  chat.yml:7: datasets.0.message_field_role: the usual names of turns and roles are recognized
  chat.yml:8: datasets.0.message_field_content: the usual names of turns and roles are recognized
  chat.yml:11: output_dir: every finished step is saved in the run's folder
out.yaml: chat → sft
  17 settings of axolotl imported, 2 other meaning, 1 added, 3 default, 3 not needed
  next: aligner check out.yaml
"""  # noqa: E501  # as it is printed
HEAD = """\
# Imported from reward.yaml (llama-factory) by aligner import.
# other meaning:
#   reward.yaml:9: cutoff_len: longer rows are truncated as before, but the check fails if they are more than 5 %: see limits
# added:
#   reward.yaml: group_by_length: train_sampling_strategy: 'random', LLaMA-Factory's default
#   reward.yaml: lora_alpha: 16, LLaMA-Factory's default
#   reward.yaml: disable_gradient_checkpointing: activation_checkpointing: true, LLaMA-Factory's default
"""  # noqa: E501  # as it is written
