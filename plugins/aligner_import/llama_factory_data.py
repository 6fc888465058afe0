"""Data sets of LLaMA-Factory: names that dataset_info.json defines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aligner.kit.declare import ChainError, did_you_mean
from aligner.kit.rows import ROLES
from aligner_import.common import columns_to_rename, data_entry, put_data, put_mixture, with_weight
from aligner_import.rules import parse_names, parse_number
from aligner_import.slices import split_options
from aligner_import.step_draft import StepDraft

DATASET_INFO = "dataset_info.json"
MIXTURE_RULES = {"interleave_under": "under", "interleave_over": "over"}
TURN_KEYS = (
    {"role_tag": "from", "content_tag": "value"},
    {"role_tag": "role", "content_tag": "content"},
)


def set_data(draft: StepDraft) -> None:
    """Set the training and evaluation data.

    Raises:
        ChainError: dataset_info.json is missing or has no such entry.
    """
    if not draft.has("dataset"):
        draft.add_error("dataset", "dataset is missing")
        return
    known = _read_dataset_info(draft)
    for key, option in (("dataset", "data"), ("eval_dataset", "eval_data")):
        if draft.has(key):
            entries = [_make_entry(draft, key, name, known) for name in parse_names(draft.get(key))]
            specs = [entry for entry in entries if entry is not None]
            if option == "data" and len(specs) == len(entries) > 1:
                specs = _mixture_entries(draft, specs)
            put_data(draft, option, specs, key)


def _mixture_entries(draft: StepDraft, specs: list[Any]) -> list[Any]:
    """Return the data entries, with weights if they are mixed."""
    strategy, value = draft.get("mix_strategy", "concat"), draft.get("interleave_probs")
    if strategy == "interleave_once":
        draft.add_note(
            "other meaning",
            "mix_strategy",
            "every row is used once and shuffled in every epoch",
        )
        if value is not None:
            draft.add_note(
                "not needed",
                "interleave_probs",
                "if every row is used once, it changes only their order",
            )
        return specs
    if strategy not in MIXTURE_RULES:
        if value is not None:
            draft.add_error(
                "interleave_probs",
                "interleave_probs needs a mix_strategy that interleaves",
                "remove it or set mix_strategy",
            )
        if strategy != "concat":
            draft.add_error("mix_strategy", f"mix_strategy: {strategy!r} is not supported",
                         f"there are concat, interleave_once, {', '.join(MIXTURE_RULES)}")  # fmt: skip
        elif draft.has("mix_strategy"):
            draft.add_note("default", "mix_strategy", "data sets are concatenated by default")
        return specs
    weights = (
        [1.0] * len(specs)
        if value is None
        else [float(parse_number(n)) for n in parse_names(value)]
    )
    if len(weights) != len(specs) or min(weights) <= 0:
        draft.add_error("interleave_probs", f"interleave_probs: {len(specs)} data sets need as many "
                     "probabilities, each above 0", "remove data sets with a share of 0")  # fmt: skip
        return specs
    text = "rows are sampled, not taken in order from each data set"
    put_mixture(draft, MIXTURE_RULES[strategy], "mix_strategy", text)
    if value is not None:
        text = "weight: the shares are met exactly, not sampled"
        draft.add_note("other meaning", "interleave_probs", text)
    if len(parse_names(draft.get("eval_dataset", []))) > 1:
        draft.add_note(
            "other meaning", "eval_dataset", "evaluation data sets are evaluated whole, not mixed"
        )
    return [with_weight(entry, weight) for entry, weight in zip(specs, weights, strict=True)]


def _read_dataset_info(draft: StepDraft) -> Mapping[str, Any]:
    folder = str(draft.get("dataset_dir", "data"))
    if folder == "ONLINE":
        return {}
    path = draft.config.folder / Path(folder).expanduser() / DATASET_INFO
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        value = error.strerror if isinstance(error, OSError) else str(error)
        raise ChainError(
            f"its data sets are defined in {path}, which cannot be read: {value}",
            where=draft.config.at("dataset_dir" if draft.has("dataset_dir") else "dataset"),
            hint="run this command in the folder where you run llamafactory-cli",
        ) from None
    return read if isinstance(read, dict) else {}


def _make_entry(draft: StepDraft, key: str, name: str, known: Mapping[str, Any]) -> Any:
    if str(draft.get("dataset_dir", "data")) == "ONLINE":
        return data_entry({"hub": name}, {}, first=draft.get("max_samples"))
    value = known.get(name)
    if not isinstance(value, Mapping):
        draft.add_error(key, f"{DATASET_INFO} has no data set {name!r}", did_you_mean(name, known))
        return None
    if "hf_hub_url" in value:
        origin = {"hub": str(value["hf_hub_url"])}
    elif "file_name" in value:
        folder = Path(str(draft.get("dataset_dir", "data")))
        origin = {"path": draft.path(str(folder / str(value["file_name"])))}
    else:
        what = f"the data set {name!r} comes from {', '.join(value) or 'nowhere'}, which is not supported"
        draft.add_error(key, what, "save it in a file or give a data set of the Hugging Face hub")
        return None
    if any(medium in value.get("columns", {}) for medium in ("images", "videos", "audios")):
        draft.add_error(
            key, f"the data set {name!r} has images, audio or video, which are not supported"
        )
        return None
    _check_tags(draft, key, name, value.get("tags", {}))
    return data_entry(origin, _columns(draft, key, name, value), revision=value.get("revision"),
                subset=value.get("subset"), **_rows(draft, key, name, value))  # fmt: skip


def _rows(draft: StepDraft, key: str, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for the split, slice and number of rows of a data set."""
    read = split_options(draft, key, value.get("split"))
    drawn, most = value.get("num_samples"), draft.get("max_samples")
    if drawn:  # `max_samples` applies after sampling
        draft.add_note("other meaning", key, f"{name}: sample: no row is used twice if there are "
                  f"fewer than {drawn}")  # fmt: skip
        return read | {"sample": min(drawn, most or drawn)}
    if most and "part" in read:
        draft.add_note(
            "other meaning", key, f"{name}: sample: rows are sampled, not the first ones"
        )
        return read | {"sample": most}
    first = [rows for rows in (read.get("first"), most) if rows]
    return read | {"first": min(first, default=None)}


def _columns(draft: StepDraft, key: str, name: str, value: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns to rename, from their names in the file to ours."""
    columns = value.get("columns", {})
    pairs = bool(value.get("ranking")) or draft.stage in ("dpo", "reward")
    if value.get("formatting", "alpaca") == "sharegpt":
        wanted = {"conversations": columns.get("messages", "conversations")}
        if not pairs and wanted["conversations"] == "messages":
            wanted = {}
    elif draft.stage == "pretrain":
        wanted = {"text": columns.get("prompt", "instruction")}
    elif pairs:
        wanted = {"prompt": columns.get("prompt", "instruction")}
        if columns.get("query"):
            draft.add_note(
                "no counterpart",
                key,
                f"{name}: the column {columns['query']!r} is not appended to the prompt",
            )
    else:
        wanted = {
            "instruction": columns.get("prompt", "instruction"),
            "output": columns.get("response", "output"),
        }
        wanted |= {"input": columns.get("query")} if columns else {}
        wanted |= {"history": columns.get("history")}
    if pairs:
        wanted |= {side: columns.get(side) for side in ("chosen", "rejected")}
    return columns_to_rename(wanted | {name: columns.get(name) for name in ("system", "tools")})


def _check_tags(draft: StepDraft, key: str, name: str, tags: Mapping[str, Any]) -> None:
    """Check that the keys and roles of turns are supported."""
    keys = {tag: tags.get(tag, usual) for tag, usual in TURN_KEYS[0].items()}
    if keys not in TURN_KEYS:
        draft.add_error(key, f"the turns of {name!r} have the keys {' and '.join(map(str, keys.values()))}, "
                     "and are read as from and value, or role and content")  # fmt: skip
    for tag, role in tags.items():
        if tag not in keys and role not in ROLES:
            draft.add_error(
                key, f"the turns of {name!r} have a role {role!r}", did_you_mean(str(role), ROLES)
            )
