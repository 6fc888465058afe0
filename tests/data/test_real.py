"""Real public data is read, converted, counted and encoded as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from aligner import AlignerError
from aligner.data.encoding.prepare import (
    prepare_conversations,
    prepare_labels,
    prepare_preferences,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.options import DataOptions, DataSpec
from aligner.data.reading.load import load_rows

from .conftest import CHATML, Here

CLASSES = {"sst2/train.tsv": {"0": 968, "1": 1032}}
NO_ROWS = {"llamafactory-alpaca/dataset_info.json"}
WORK = {
    "text": prepare_texts,
    "conversation": prepare_conversations,
    "preference": prepare_preferences,
    "label": prepare_labels,
    "prompt": prepare_prompts,
}
# Of each: its kind, the format, rows read, rows used, rows dropped, and other findings.
FILES: dict[str, tuple[str, str, int, int, dict[str, int], dict[str, int]]] = {
    "gsm8k/train.jsonl": ("conversation", "question-answer", 500, 500, {}, {}),
    "hh-rlhf/harmless-base/train.jsonl.gz": (
        "preference", "hh", 2000, 1988,
        {"an answer is empty": 4, "turns in the wrong order": 3,
         "the prompts of chosen and rejected differ": 5},
        {"role_order": 3, "chosen_longer": 867},
    ),
    "llamafactory-alpaca/alpaca_en_demo.json": ("conversation", "alpaca", 999, 999, {}, {"duplicates": 14}),
    "llamafactory-alpaca/identity.json": ("conversation", "alpaca", 91, 91, {}, {}),
    "llamafactory-alpaca/v1_sft_demo.jsonl": ("conversation", "messages", 500, 500, {}, {"duplicates": 1}),
    "llamafactory-dpo/dpo_en_demo.json": (
        "preference", "sharegpt-preference", 300, 300, {}, {"duplicates": 5, "chosen_longer": 131}),
    "llamafactory-dpo/v1_dpo_demo.jsonl": (
        "preference", "preference-messages", 10, 10, {}, {"chosen_longer": 4}),
    "llamafactory-kto/kto_en_demo.json": ("label", "messages-label", 300, 300, {}, {"special_text": 1}),
    "llamafactory-toolcall/glaive_toolcall_en_demo.json": (
        "conversation", "sharegpt", 300, 300, {}, {"duplicates": 35}),
    # In sixteen a user asks again, and the template leaves out what was thought before.
    "llamafactory-toolcall/reason_tool_use_demo_50.jsonl": (
        "conversation", "messages", 50, 106, {}, {"split": 16}),
    "self-instruct/seed_tasks.jsonl": ("conversation", "instances", 175, 175, {}, {}),
    "self-instruct/user_oriented_instructions.jsonl": ("conversation", "instances", 252, 252, {}, {}),
    "sharegpt/dummy_conversation.json": ("conversation", "sharegpt", 500, 500, {}, {}),
    "tinystories/tinystories_1000.json": ("text", "text", 1000, 1000, {}, {}),
    "tinystories/tinystories_cs336_sample.txt": ("text", "text", 5, 5, {}, {}),
    "tinystories/tinystories_sample.txt": ("text", "text", 1064, 1064, {}, {}),
    "ultrafeedback/train_clean.jsonl": (
        "preference", "preference", 405, 404, {"chosen and rejected are identical": 1},
        {"ties": 43, "chosen_longer": 230}),
    "xstest/xstest_prompts.csv": ("prompt", "prompt", 450, 450, {}, {}),
    "xstest/xstest_v2_completions_gpt4.csv": ("conversation", "prompt-completion", 450, 450, {}, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def stories() -> Any:
    from .conftest import SHARED

    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"the real model is not at {SHARED}; say where with ALIGNER_SHARED")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    path = Path(__file__).parents[2] / "plugins/aligner_chat/templates/qwen.jinja"
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    return tokenizer


def test_no_file_is_left_out(shared: Path) -> None:
    folder = shared / "data"
    there = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("LICEN")
    }
    assert there == set(FILES) | NO_ROWS | set(CLASSES)


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_is_read_counted_and_encoded(shared: Path, stories: Any, name: str) -> None:
    kind, written, read, used, dropped, found = FILES[name]
    made = WORK[kind](Here(shared / "data"), DataOptions(data=name), stories)  # type: ignore[operator]
    ledger = made.ledgers["data"]
    assert (ledger.formats, ledger.read, ledger.used) == ((written,), read, used)
    assert {reason: count.rows for reason, count in ledger.dropped.items()} == dropped
    counts = {finding: count.rows for finding, count in ledger.found.items()}
    assert counts == found
    assert ledger.unknown_tokens == 0
    assert kind == "prompt" or 0 < ledger.trained <= ledger.tokens


def test_classes_are_counted_in_a_table_without_names(shared: Path) -> None:
    for name, labels in CLASSES.items():
        loaded = load_rows(
            [DataSpec(path=name)], want="class", context=Here(shared / "data"), option="data"
        )
        assert loaded.ledger.labels == labels


def test_a_list_of_data_sets_is_not_taken_for_one(shared: Path) -> None:
    spec = DataSpec(path="llamafactory-alpaca/dataset_info.json")
    with pytest.raises(AlignerError) as error:
        load_rows([spec], want="conversation", context=Here(shared / "data"), option="data")
    assert str(error.value) == (
        "llamafactory-alpaca/dataset_info.json: the file contains one object ('identity', "
        "'alpaca_en_demo', 'alpaca_zh_demo', 'glaive_toolcall_en_demo', 'glaive_toolcall_zh_demo'), "
        "not rows\n  hint: write a list of objects, or one object a line"
    )


def test_markers_of_a_template_mask_real_data_like_prefixes_do(shared: Path, stories: Any) -> None:
    """Two independent ways to find what is trained give the same tokens and the same masks."""
    masks = []
    for template in (
        CHATML,
        CHATML.replace("{%- generation %}", "").replace("{%- endgeneration %}", ""),
    ):
        tokenizer = stories
        tokenizer.chat_template = template
        options = DataOptions(data={"path": "sharegpt/dummy_conversation.json", "first": 100})  # type: ignore[arg-type]
        made = prepare_conversations(Here(shared / "data"), options, tokenizer)
        masks.append([(row.input_ids, row.trained, row.ends) for row in made.train])
    assert masks[0] == masks[1]
