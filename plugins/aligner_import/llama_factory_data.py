"""Data sets of LLaMA-Factory: names that dataset_info.json defines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aligner.data.reading.messages import ROLES
from aligner.errors import ChainError, did_you_mean
from aligner_import.common import columns_to_rename, put_data, put_mixture, spec, with_weight
from aligner_import.rules import names, number
from aligner_import.slices import rows_of
from aligner_import.step_draft import StepDraft

INFO = "dataset_info.json"
MEETS = {"interleave_under": "under", "interleave_over": "over"}
TURNS = (
    {"role_tag": "from", "content_tag": "value"},
    {"role_tag": "role", "content_tag": "content"},
)


def data(draft: StepDraft) -> None:
    """Set the training and evaluation data.

    Raises:
        ChainError: dataset_info.json is missing or has no such entry.
    """
    if not draft.has("dataset"):
        draft.add_error("dataset", "dataset is missing")
        return
    known = _known(draft)
    for key, option in (("dataset", "data"), ("eval_dataset", "eval_data")):
        if draft.has(key):
            asked = [_spec(draft, key, name, known) for name in names(draft.get(key))]
            specs = [item for item in asked if item is not None]
            if option == "data" and len(specs) == len(asked) > 1:
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
    if strategy not in MEETS:
        if value is not None:
            draft.add_error(
                "interleave_probs",
                "interleave_probs needs a mix_strategy that interleaves",
                "remove it or set mix_strategy",
            )
        if strategy != "concat":
            draft.add_error("mix_strategy", f"mix_strategy: {strategy!r} is not there",
                         f"there are concat, interleave_once, {', '.join(MEETS)}")  # fmt: skip
        elif draft.has("mix_strategy"):
            draft.add_note("default", "mix_strategy", "data sets are concatenated by default")
        return specs
    weights = [1.0] * len(specs) if value is None else [float(number(n)) for n in names(value)]
    if len(weights) != len(specs) or min(weights) <= 0:
        draft.add_error("interleave_probs", f"interleave_probs: {len(specs)} data sets need as many "
                     "probabilities, each above 0", "remove data sets with a share of 0")  # fmt: skip
        return specs
    text = "rows are sampled, not taken in order from each data set"
    put_mixture(draft, MEETS[strategy], "mix_strategy", text)
    if value is not None:
        text = "weight: the shares are met exactly, not sampled"
        draft.add_note("other meaning", "interleave_probs", text)
    if len(names(draft.get("eval_dataset", []))) > 1:
        draft.add_note(
            "other meaning", "eval_dataset", "evaluation data sets are evaluated whole, not mixed"
        )
    return [with_weight(item, weight) for item, weight in zip(specs, weights, strict=True)]


def _known(draft: StepDraft) -> Mapping[str, Any]:
    folder = str(draft.get("dataset_dir", "data"))
    if folder == "ONLINE":
        return {}
    path = draft.config.folder / Path(folder).expanduser() / INFO
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


def _spec(draft: StepDraft, key: str, name: str, known: Mapping[str, Any]) -> Any:
    if str(draft.get("dataset_dir", "data")) == "ONLINE":
        return spec({"hub": name}, {}, first=draft.get("max_samples"))
    value = known.get(name)
    if not isinstance(value, Mapping):
        draft.add_error(key, f"{INFO} has no data set {name!r}", did_you_mean(name, known))
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
    if any(item in value.get("columns", {}) for item in ("images", "videos", "audios")):
        draft.add_error(
            key, f"the data set {name!r} has images, audio or video, which are not supported"
        )
        return None
    _tags(draft, key, name, value.get("tags", {}))
    return spec(origin, _columns(draft, key, name, value), revision=value.get("revision"),
                subset=value.get("subset"), **_rows(draft, key, name, value))  # fmt: skip


def _rows(draft: StepDraft, key: str, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for the split, slice and number of rows of a data set."""
    read = rows_of(draft, key, value.get("split"))
    drawn, most = value.get("num_samples"), draft.get("max_samples")
    if drawn:  # `max_samples` cuts what was drawn before
        draft.add_note("other meaning", key, f"{name}: sample: none of its rows is taken twice where it has "
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
    given = value.get("columns", {})
    pairs = bool(value.get("ranking")) or draft.stage in ("dpo", "reward")
    if value.get("formatting", "alpaca") == "sharegpt":
        wanted = {"conversations": given.get("messages", "conversations")}
        if not pairs and wanted["conversations"] == "messages":
            wanted = {}
    elif draft.stage == "pretrain":
        wanted = {"text": given.get("prompt", "instruction")}
    elif pairs:
        wanted = {"prompt": given.get("prompt", "instruction")}
        if given.get("query"):
            draft.add_note(
                "no counterpart",
                key,
                f"{name}: the column {given['query']!r} is not appended to the prompt",
            )
    else:
        wanted = {
            "instruction": given.get("prompt", "instruction"),
            "output": given.get("response", "output"),
        }
        wanted |= {"input": given.get("query")} if given else {}
        wanted |= {"history": given.get("history")}
    if pairs:
        wanted |= {side: given.get(side) for side in ("chosen", "rejected")}
    return columns_to_rename(wanted | {item: given.get(item) for item in ("system", "tools")})


def _tags(draft: StepDraft, key: str, name: str, tags: Mapping[str, Any]) -> None:
    """Check that the keys and roles of turns are supported."""
    keys = {part: tags.get(part, usual) for part, usual in TURNS[0].items()}
    if keys not in TURNS:
        draft.add_error(key, f"the turns of {name!r} have the keys {' and '.join(map(str, keys.values()))}, "
                     "and are read as from and value, or role and content")  # fmt: skip
    for tag, role in tags.items():
        if tag not in keys and role not in ROLES:
            draft.add_error(
                key, f"the turns of {name!r} have a role {role!r}", did_you_mean(str(role), ROLES)
            )
