"""Data sets of Axolotl: a path, and a type that defines the format of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aligner import ExternalConfig
from aligner_import.common import columns_to_rename, data_entry, put_data
from aligner_import.rules import is_empty
from aligner_import.slices import shard_options, split_options
from aligner_import.step_draft import StepDraft

TEMPLATES = {
    "llama3": "llama-3", "llama-3": "llama-3", "chatml": "chatml", "gemma": "gemma", "gemma3": "gemma",
    "phi_3": "phi-3", "phi_35": "phi-3", "alpaca": "alpaca", "mistral_v1": "mistral", "inst": "mistral",
    "qwen_25": "qwen", "deepseek_v2": "deepseek", "tokenizer_default": "own", "zephyr": "zephyr",
    "llama-2": "llama-2", "vicuna": "vicuna",
}  # fmt: skip
PAIR_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "intel": {"prompt": "question"},
    "icr": {"prompt": "input"},
    "ultra": {},
    "prompt_pairs": {},
    "nectar": {},
    "argilla": {
        "prompt": "instruction",
        "chosen": "chosen_response",
        "rejected": "rejected_response",
    },
    "argilla_chat": {},
}
"""Column names of each type of preference pairs that differ from ours."""
CONVERSATION_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "alpaca": {}, "alpaca_chat": {}, "completion": {}, "pretrain": {}, "chat_template": {},
    "sharegpt": {}, "alpaca_w_system": {"system": "system_prompt"},
    "context_qa": {"instruction": "question", "input": "context", "output": "answer"},
}  # fmt: skip
"""Column names of each type of conversations and texts that differ from ours."""
_READ_KEYS = frozenset({
    "path", "type", "split", "name", "revision", "data_files", "field", "text_column", "field_messages",
    "field_chosen", "field_rejected", "field_prompt", "field_tools", "field_system", "field_instruction",
    "field_input", "field_output", "conversation", "chat_template", "train_on_eos", "roles_to_train",
    "shards", "shards_idx",
})  # fmt: skip
_RECOGNIZED = "the usual names of turns and roles are recognized"
_IGNORED_KEYS = {
    **dict.fromkeys(
        ("roles", "message_property_mappings", "message_field_role", "message_field_content",
         "field_thinking", "message_field_training"), _RECOGNIZED,
    ),
    "ds_type": "the file format is recognized",
    "preprocess_shards": "it does not change the result",
    "trust_remote_code": "code of data sets is never run",
}  # fmt: skip
"""Keys of a data set without influence on the result, with the reason."""


def _data_sets(config: ExternalConfig, key: str) -> list[Mapping[str, Any]]:
    value = config.settings.get(key) or []
    value = value if isinstance(value, list) else [value]
    return [item if isinstance(item, Mapping) else {"path": str(item)} for item in value]


def _split_type(item: Mapping[str, Any]) -> tuple[str, str]:
    """Split a type into the chat template and the row format that it names."""
    value = item.get("type")
    if isinstance(value, Mapping):
        return "", "fields"
    words = str(value or "").split(":")[0].split(".")
    if len(words) > 1 and words[0] in TEMPLATES:
        return TEMPLATES[words[0]], words[1]
    return "", words[0]


def row_kind_of(config: ExternalConfig) -> str:
    """Return `text` if every data set is plain text, else `chat`."""
    kinds = {_split_type(item)[1] for item in _data_sets(config, "datasets")}
    return "text" if kinds and kinds <= {"completion", "pretrain"} else "chat"


def set_data(draft: StepDraft) -> None:
    """Set the training and evaluation data."""
    main = "pretraining_dataset" if draft.has("pretraining_dataset") else "datasets"
    for key, option in ((main, "data"), ("test_datasets", "eval_data")):
        if draft.has(key) or option == "data":
            found = [
                _make_entry(draft, f"{key}.{number}", item)
                for number, item in enumerate(_data_sets(draft.config, key))
            ]
            put_data(draft, option, found, key)


def _make_entry(draft: StepDraft, key: str, item: Mapping[str, Any]) -> Any:
    kind = _split_type(item)[1]
    type_ = item.get("type")
    fields = dict(item) | (dict(type_) if isinstance(type_, Mapping) else {})
    _note_ignored_keys(draft, key, fields)
    if draft.stage == "dpo" or draft.stage == "reward":
        wanted = _pair_columns(draft, key, kind, fields)
    elif draft.stage == "pretrain":
        wanted = {"text": fields.get("field") or fields.get("text_column")}
    else:
        wanted = _answer_columns(draft, key, kind, fields)
    wanted |= {"tools": fields.get("field_tools")}
    origin = _origin(draft, key, item)
    return data_entry(origin, columns_to_rename(wanted), subset=item.get("name"),
                revision=item.get("revision"),
                **_rows(draft, key, item, "hub" in origin))  # fmt: skip


def _rows(draft: StepDraft, key: str, item: Mapping[str, Any], on_hub: bool) -> dict[str, Any]:
    """Return the options for the split, slice and shard of a data set."""
    usual = "test" if on_hub and key.startswith("test_datasets") else None
    read = split_options(draft, f"{key}.split", item.get("split") or usual)
    if draft.stage == "dpo" or key.startswith("pretraining_dataset"):
        for name in ("shards", "shards_idx"):
            if not is_empty(item.get(name)):
                draft.add_note(
                    "not needed", f"{key}.{name}", "Axolotl reads such a data set without a split"
                )
        return read
    return read | shard_options(draft, key, item.get("shards"), item.get("shards_idx"), read)


def _origin(draft: StepDraft, key: str, item: Mapping[str, Any]) -> dict[str, Any]:
    path, files = str(item.get("path") or ""), item.get("data_files")
    if not path:
        draft.add_error(key, "a data set without a path")
    if is_empty(files):
        return draft.origin(path)
    paths = files if isinstance(files, list) else [files]
    if path in ("json", "csv", "parquet", "text", "arrow"):
        if len(paths) > 1:
            draft.add_error(f"{key}.data_files", "several files for one data set are not supported",
                         "list each file as its own data set")  # fmt: skip
        return {"path": draft.path(str(paths[0]))}
    if len(paths) == 1 and "hub" in draft.origin(path):
        return {"path": f"hf://datasets/{path}/{paths[0]}"}
    draft.add_error(f"{key}.data_files", "files inside a data set cannot be selected",
                 "list each file as its own data set")  # fmt: skip
    return {"path": path}


def _pair_columns(
    draft: StepDraft, key: str, kind: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    if kind == "chat_template":
        return {
            "conversations": fields.get("field_messages") or "messages",
            **{side: fields.get(f"field_{side}") for side in ("chosen", "rejected")},
        }
    if kind == "fields":
        _note_formats(draft, key, fields, ("prompt_format", "chosen_format", "rejected_format"))
        return {
            name: fields.get(f"field_{name}") for name in ("prompt", "chosen", "rejected", "system")
        }
    if kind not in PAIR_COLUMNS and kind:
        draft.add_note("no counterpart", f"{key}.type", f"the type {fields['type']!r} is not known: "
                  "the columns of the rows decide; rename them if the check fails")  # fmt: skip
    return dict(PAIR_COLUMNS.get(kind, {}))


def _note_formats(
    draft: StepDraft, key: str, fields: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Add a note for each setting of turns that is not imported."""
    for name in names:
        if fields.get(name):
            draft.add_note(
                "other meaning",
                f"{key}.type.{name}",
                "the chat template alone formats turns",
            )


def _answer_columns(
    draft: StepDraft, key: str, kind: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    if kind in ("chat_template", "sharegpt"):
        messages = fields.get("field_messages") or fields.get("conversation")
        usual = messages in (None, "messages", "conversations")
        return {} if usual else {"messages": messages}
    if kind == "fields":
        _note_formats(
            draft, key, fields, ("format", "no_input_format", "system_format", "system_prompt")
        )
        return {
            name: fields.get(f"field_{name}")
            for name in ("instruction", "input", "output", "system")
        }
    if kind not in CONVERSATION_COLUMNS and kind:
        draft.add_note("no counterpart", f"{key}.type", f"the type {fields['type']!r} is not known: "
                  "the columns of the rows decide; rename them if the check fails")  # fmt: skip
    return dict(CONVERSATION_COLUMNS.get(kind, {}))


def _note_ignored_keys(draft: StepDraft, key: str, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        path = f"{key}.{name}"
        if (
            is_empty(value)
            or name in _READ_KEYS
            or name.endswith(("_format", "_prompt"))
            or name == "format"
        ):
            continue
        if name in _IGNORED_KEYS:
            draft.add_note("not needed", path, _IGNORED_KEYS[name])
        else:
            draft.add_note("no counterpart", path, "data sets have no such option")
    if fields.get("train_on_eos") not in (None, "turn", "last"):
        draft.add_note(
            "no counterpart", f"{key}.train_on_eos", "the end of each trained turn is trained"
        )
    if fields.get("roles_to_train") not in (None, [], ["assistant"], ["gpt"], ["assistant", "gpt"]):
        draft.add_note("no counterpart", f"{key}.roles_to_train",
                  "assistant turns are trained, or everything: see train_on")  # fmt: skip


def set_template(draft: StepDraft) -> None:
    """Set the chat template: from the file, else from the first data set or its type."""
    if draft.stage == "pretrain":
        return
    key, value = "chat_template", draft.get("chat_template")
    sets = _data_sets(draft.config, "datasets")
    if value is None:
        for number, item in enumerate(sets):
            if item.get("chat_template"):
                key, value = f"datasets.{number}.chat_template", item["chat_template"]
                break
    if value == "jinja" or (value is None and draft.has("chat_template_jinja")):
        _set_jinja_template(draft)
    elif value is not None:
        name = str(value).removeprefix("tokenizer_default_fallback_")
        if name not in TEMPLATES:
            draft.chat["template"] = "own"
            draft.add_note(
                "other meaning", key, f"chat.template: the tokenizer's own instead of {value!r}"
            )
        else:
            draft.chat["template"] = TEMPLATES[name]
            if name != value:
                draft.add_note("other meaning", key, f"chat.template: {TEMPLATES[name]} even if the "
                          "tokenizer has its own; to use that, set it to own")  # fmt: skip
    else:
        _set_template_by_type(draft, sets)
    _set_special_tokens(draft)


def _set_template_by_type(draft: StepDraft, sets: list[Mapping[str, Any]]) -> None:
    kinds = [_split_type(item) for item in sets]
    named = next((name for name, _ in kinds if name), "")
    if named:
        draft.chat["template"] = named
    elif any(kind in ("alpaca", "alpaca_w_system", "context_qa", "fields") for _, kind in kinds):
        draft.chat["template"] = "alpaca"
        draft.add_note(
            "other meaning",
            "datasets.0.type",
            "chat.template: alpaca; the input of a row follows its instruction without a heading",
        )
    else:
        draft.chat["template"] = "own"
        draft.add_note("added", "chat_template", "chat.template: own, Axolotl's default")


def _set_jinja_template(draft: StepDraft) -> None:
    text = str(draft.get("chat_template_jinja", ""))
    if "{" in text or not text:
        draft.add_error("chat_template_jinja", "inline chat templates are not supported",
                     "save it in a .jinja file and give its path")  # fmt: skip
    else:
        path = draft.path(text)
        draft.chat["template"] = path if "/" in path else f"./{path}"


def _set_special_tokens(draft: StepDraft) -> None:
    for name, token in (draft.get("special_tokens") or {}).items():
        key = f"special_tokens.{name}"
        if is_empty(token):
            continue
        if name == "eos_token":
            draft.chat["end_of_turn"] = token
        elif name == "pad_token":
            draft.add_note("not needed", key, "a separate padding token is used")
        else:
            draft.add_note("no counterpart", key, "the tokenizer's own token is used")
    ends = draft.get("eot_tokens") or []
    if len(ends) > 1:
        draft.add_note(
            "no counterpart", "eot_tokens", f"only one end-of-turn token is supported: {ends[0]}"
        )
    if ends:
        draft.chat["end_of_turn"] = ends[0]
