"""Data sets as Axolotl names them: a path, and a type that says how rows are written and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aligner.registry import ExternalConfig
from aligner_import.common import put_data, renamed, spec
from aligner_import.draft import StepDraft
from aligner_import.rules import is_empty
from aligner_import.slices import rows_of, shard

TEMPLATES = {
    "llama3": "llama-3", "llama-3": "llama-3", "chatml": "chatml", "gemma": "gemma", "gemma3": "gemma",
    "phi_3": "phi-3", "phi_35": "phi-3", "alpaca": "alpaca", "mistral_v1": "mistral", "inst": "mistral",
    "qwen_25": "qwen", "deepseek_v2": "deepseek", "tokenizer_default": "own", "zephyr": "zephyr",
    "llama-2": "llama-2", "vicuna": "vicuna",
}  # fmt: skip
PAIRS: Mapping[str, Mapping[str, str]] = {
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
"""For each type of pairs, the columns that are called otherwise."""
ANSWERED: Mapping[str, Mapping[str, str]] = {
    "alpaca": {}, "alpaca_chat": {}, "completion": {}, "pretrain": {}, "chat_template": {},
    "sharegpt": {}, "alpaca_w_system": {"system": "system_prompt"},
    "context_qa": {"instruction": "question", "input": "context", "output": "answer"},
}  # fmt: skip
"""The same for types of conversations and texts."""
_READ = frozenset({
    "path", "type", "split", "name", "revision", "data_files", "field", "text_column", "field_messages",
    "field_chosen", "field_rejected", "field_prompt", "field_tools", "field_system", "field_instruction",
    "field_input", "field_output", "conversation", "chat_template", "train_on_eos", "roles_to_train",
    "shards", "shards_idx",
})  # fmt: skip
_SPELLED = "turns and roles are read in all usual spellings"
_NEEDLESS = {
    **dict.fromkeys(
        ("roles", "message_property_mappings", "message_field_role", "message_field_content",
         "field_thinking", "message_field_training"), _SPELLED,
    ),
    "ds_type": "a file itself says what it is",
    "preprocess_shards": "it changes neither data nor result",
    "trust_remote_code": "code that comes with data is never run",
}  # fmt: skip
"""What needs no counterpart in a data set, and why."""


def _sets(foreign: ExternalConfig, key: str) -> list[Mapping[str, Any]]:
    said = foreign.settings.get(key) or []
    said = said if isinstance(said, list) else [said]
    return [one if isinstance(one, Mapping) else {"path": str(one)} for one in said]


def _kind(one: Mapping[str, Any]) -> tuple[str, str]:
    """The template that a type names, and how it says rows are written."""
    said = one.get("type")
    if isinstance(said, Mapping):
        return "", "fields"
    words = str(said or "").split(":")[0].split(".")
    if len(words) > 1 and words[0] in TEMPLATES:
        return TEMPLATES[words[0]], words[1]
    return "", words[0]


def kind_of(foreign: ExternalConfig) -> str:
    """`text` where every data set is plain text, else `talk`."""
    kinds = {_kind(one)[1] for one in _sets(foreign, "datasets")}
    return "text" if kinds and kinds <= {"completion", "pretrain"} else "talk"


def data(draft: StepDraft) -> None:
    """What is trained and measured on."""
    main = "pretraining_dataset" if draft.has("pretraining_dataset") else "datasets"
    for key, option in ((main, "data"), ("test_datasets", "eval_data")):
        if draft.has(key) or option == "data":
            found = [
                _spec(draft, f"{key}.{number}", one)
                for number, one in enumerate(_sets(draft.foreign, key))
            ]
            put_data(draft, option, found, key)


def _spec(draft: StepDraft, key: str, one: Mapping[str, Any]) -> Any:
    kind = _kind(one)[1]
    type_ = one.get("type")
    fields = dict(one) | (dict(type_) if isinstance(type_, Mapping) else {})
    _unread(draft, key, fields)
    if draft.stage == "dpo" or draft.stage == "reward":
        wanted = _pair_columns(draft, key, kind, fields)
    elif draft.stage == "pretrain":
        wanted = {"text": fields.get("field") or fields.get("text_column")}
    else:
        wanted = _answer_columns(draft, key, kind, fields)
    wanted |= {"tools": fields.get("field_tools")}
    origin = _origin(draft, key, one)
    return spec(origin, renamed(wanted), subset=one.get("name"), revision=one.get("revision"),
                **_rows(draft, key, one, "hub" in origin))  # fmt: skip


def _rows(draft: StepDraft, key: str, one: Mapping[str, Any], on_hub: bool) -> dict[str, Any]:
    """Which rows of a data set: its split or a slice of that, and a shard."""
    usual = "test" if on_hub and key.startswith("test_datasets") else None
    read = rows_of(draft, f"{key}.split", one.get("split") or usual)
    if draft.stage == "dpo" or key.startswith("pretraining_dataset"):
        for name in ("shards", "shards_idx"):
            if not is_empty(one.get(name)):
                draft.say("not needed", f"{key}.{name}", "Axolotl reads such a data set whole")
        return read
    return read | shard(draft, key, one.get("shards"), one.get("shards_idx"), read)


def _origin(draft: StepDraft, key: str, one: Mapping[str, Any]) -> dict[str, Any]:
    path, files = str(one.get("path") or ""), one.get("data_files")
    if not path:
        draft.refuse(key, "a data set without a path")
    if is_empty(files):
        return draft.origin(path)
    named = files if isinstance(files, list) else [files]
    if path in ("json", "csv", "parquet", "text", "arrow"):
        if len(named) > 1:
            draft.refuse(f"{key}.data_files", "several files of one data set are not read",
                         "write each as a data set of its own")  # fmt: skip
        return {"path": draft.path(str(named[0]))}
    if len(named) == 1 and "hub" in draft.origin(path):
        return {"path": f"hf://datasets/{path}/{named[0]}"}
    draft.refuse(f"{key}.data_files", "files within a data set are read one by one",
                 "write each as a data set of its own")  # fmt: skip
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
        _by_the_template(draft, key, fields, ("prompt_format", "chosen_format", "rejected_format"))
        return {
            part: fields.get(f"field_{part}") for part in ("prompt", "chosen", "rejected", "system")
        }
    if kind not in PAIRS and kind:
        draft.say("no counterpart", f"{key}.type", f"the type {fields['type']!r} is not known: "
                  "the rows are looked at instead; rename columns if the check asks for it")  # fmt: skip
    return dict(PAIRS.get(kind, {}))


def _by_the_template(
    draft: StepDraft, key: str, fields: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Say of the ways to write turns that are given that they are not taken over."""
    for one in names:
        if fields.get(one):
            draft.say(
                "other meaning",
                f"{key}.type.{one}",
                "turns are written by the chat template alone",
            )


def _answer_columns(
    draft: StepDraft, key: str, kind: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    if kind in ("chat_template", "sharegpt"):
        messages = fields.get("field_messages") or fields.get("conversation")
        usual = messages in (None, "messages", "conversations")
        return {} if usual else {"messages": messages}
    if kind == "fields":
        _by_the_template(
            draft, key, fields, ("format", "no_input_format", "system_format", "system_prompt")
        )
        return {
            part: fields.get(f"field_{part}")
            for part in ("instruction", "input", "output", "system")
        }
    if kind not in ANSWERED and kind:
        draft.say("no counterpart", f"{key}.type", f"the type {fields['type']!r} is not known: "
                  "the rows are looked at instead; rename columns if the check asks for it")  # fmt: skip
    return dict(ANSWERED.get(kind, {}))


def _unread(draft: StepDraft, key: str, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        place = f"{key}.{name}"
        if (
            is_empty(value)
            or name in _READ
            or name.endswith(("_format", "_prompt"))
            or name == "format"
        ):
            continue
        if name in _NEEDLESS:
            draft.say("not needed", place, _NEEDLESS[name])
        else:
            draft.say("no counterpart", place, "a data set has nothing like it")
    if fields.get("train_on_eos") not in (None, "turn", "last"):
        draft.say("no counterpart", f"{key}.train_on_eos", "the end of each learnt turn is learnt")
    if fields.get("roles_to_train") not in (None, [], ["assistant"], ["gpt"], ["assistant", "gpt"]):
        draft.say("no counterpart", f"{key}.roles_to_train",
                  "the assistant's turns are learnt, or everything: see train_on")  # fmt: skip


def template(draft: StepDraft) -> None:
    """The template of the chain: as said above all, else as the first data set or its type says."""
    if draft.stage == "pretrain":
        return
    key, said = "chat_template", draft.get("chat_template")
    sets = _sets(draft.foreign, "datasets")
    if said is None:
        for number, one in enumerate(sets):
            if one.get("chat_template"):
                key, said = f"datasets.{number}.chat_template", one["chat_template"]
                break
    if said == "jinja" or (said is None and draft.has("chat_template_jinja")):
        _jinja(draft)
    elif said is not None:
        name = str(said).removeprefix("tokenizer_default_fallback_")
        if name not in TEMPLATES:
            draft.chat["template"] = "own"
            draft.say(
                "other meaning", key, f"chat.template: the tokenizer's own in place of {said!r}"
            )
        else:
            draft.chat["template"] = TEMPLATES[name]
            if name != said:
                draft.say("other meaning", key, f"chat.template: {TEMPLATES[name]} also where the "
                          "tokenizer has one of its own; write own for that")  # fmt: skip
    else:
        _by_type(draft, sets)
    _tokens(draft)


def _by_type(draft: StepDraft, sets: list[Mapping[str, Any]]) -> None:
    kinds = [_kind(one) for one in sets]
    named = next((name for name, _ in kinds if name), "")
    if named:
        draft.chat["template"] = named
    elif any(kind in ("alpaca", "alpaca_w_system", "context_qa", "fields") for _, kind in kinds):
        draft.chat["template"] = "alpaca"
        draft.say("other meaning", "datasets.0.type", "chat.template: alpaca; rows with an input have "
                  "it below the instruction, without a heading of its own")  # fmt: skip
    else:
        draft.chat["template"] = "own"
        draft.say(
            "added", "chat_template", "chat.template: own, as Axolotl takes where nothing is said"
        )


def _jinja(draft: StepDraft) -> None:
    written = str(draft.get("chat_template_jinja", ""))
    if "{" in written or not written:
        draft.refuse("chat_template_jinja", "a chat template written in the recipe is not read",
                     "save it as a .jinja file, and name that")  # fmt: skip
    else:
        path = draft.path(written)
        draft.chat["template"] = path if "/" in path else f"./{path}"


def _tokens(draft: StepDraft) -> None:
    for name, token in (draft.get("special_tokens") or {}).items():
        key = f"special_tokens.{name}"
        if is_empty(token):
            continue
        if name == "eos_token":
            draft.chat["end_of_turn"] = token
        elif name == "pad_token":
            draft.say("not needed", key, "padding takes a token of its own")
        else:
            draft.say("no counterpart", key, "the tokenizer keeps its own")
    ends = draft.get("eot_tokens") or []
    if len(ends) > 1:
        draft.say("no counterpart", "eot_tokens", f"answers end with one token: {ends[0]}")
    if ends:
        draft.chat["end_of_turn"] = ends[0]
