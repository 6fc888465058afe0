"""Data sets as LLaMA-Factory names them: by a word that dataset_info.json explains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aligner.data.reading.messages import ROLES
from aligner.errors import ChainError, did_you_mean
from aligner_import.common import put_data, put_mixture, renamed, spec, weighed
from aligner_import.draft import StepDraft
from aligner_import.rules import names, number
from aligner_import.slices import rows_of

INFO = "dataset_info.json"
MEETS = {"interleave_under": "under", "interleave_over": "over"}
TURNS = (
    {"role_tag": "from", "content_tag": "value"},
    {"role_tag": "role", "content_tag": "content"},
)


def data(draft: StepDraft) -> None:
    """What is trained and measured on.

    Raises:
        ChainError: dataset_info.json is not there, or does not say.
    """
    if not draft.has("dataset"):
        draft.refuse("dataset", "dataset is missing")
        return
    known = _known(draft)
    for key, option in (("dataset", "data"), ("eval_dataset", "eval_data")):
        if draft.has(key):
            asked = [_spec(draft, key, name, known) for name in names(draft.get(key))]
            specs = [one for one in asked if one is not None]
            if option == "data" and len(specs) == len(asked) > 1:
                specs = _mixed(draft, specs)
            put_data(draft, option, specs, key)


def _mixed(draft: StepDraft, specs: list[Any]) -> list[Any]:
    """Several data sets, with the weights by which they are mixed where they are."""
    strategy, said = draft.get("mix_strategy", "concat"), draft.get("interleave_probs")
    if strategy == "interleave_once":
        draft.say("other meaning", "mix_strategy", "every row is taken once, one data set after the "
                  "other; they are mixed anew for each epoch")  # fmt: skip
        if said is not None:
            draft.say("not needed", "interleave_probs", "where every row is taken once, it only "
                      "decides their order")  # fmt: skip
        return specs
    if strategy not in MEETS:
        if said is not None:
            draft.refuse("interleave_probs", "interleave_probs: there are only shares where "
                         "mix_strategy interleaves", "take it out, or set mix_strategy")  # fmt: skip
        if strategy != "concat":
            draft.refuse("mix_strategy", f"mix_strategy: {strategy!r} is not there",
                         f"there are concat, interleave_once, {', '.join(MEETS)}")  # fmt: skip
        elif draft.has("mix_strategy"):
            draft.say("default", "mix_strategy", "data sets are read one after the other anyway")
        return specs
    weights = [1.0] * len(specs) if said is None else [float(number(n)) for n in names(said)]
    if len(weights) != len(specs) or min(weights) <= 0:
        draft.refuse("interleave_probs", f"interleave_probs: {len(specs)} data sets need as many "
                     "shares, each above 0", "take out a data set that has none")  # fmt: skip
        return specs
    put_mixture(draft, MEETS[strategy], "mix_strategy", "rows are drawn, not taken from the start of "
                "each data set in turn")  # fmt: skip
    if said is not None:
        text = "weight: shares are met, not drawn by chance"
        draft.say("other meaning", "interleave_probs", text)
    if len(names(draft.get("eval_dataset", []))) > 1:
        draft.say("other meaning", "eval_dataset", "its data sets are measured on whole, not mixed")
    return [weighed(one, weight) for one, weight in zip(specs, weights, strict=True)]


def _known(draft: StepDraft) -> Mapping[str, Any]:
    folder = str(draft.get("dataset_dir", "data"))
    if folder == "ONLINE":
        return {}
    path = draft.foreign.folder / Path(folder).expanduser() / INFO
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise ChainError(
            f"what its data sets are is said in {path}, which cannot be read: {said}",
            where=draft.foreign.at("dataset_dir" if draft.has("dataset_dir") else "dataset"),
            hint="start this command in the folder where llamafactory-cli is started",
        ) from None
    return read if isinstance(read, dict) else {}


def _spec(draft: StepDraft, key: str, name: str, known: Mapping[str, Any]) -> Any:
    if str(draft.get("dataset_dir", "data")) == "ONLINE":
        return spec({"hub": name}, {}, first=draft.get("max_samples"))
    said = known.get(name)
    if not isinstance(said, Mapping):
        draft.refuse(key, f"{INFO} has no data set {name!r}", did_you_mean(name, known))
        return None
    if "hf_hub_url" in said:
        origin = {"hub": str(said["hf_hub_url"])}
    elif "file_name" in said:
        folder = Path(str(draft.get("dataset_dir", "data")))
        origin = {"path": draft.path(str(folder / str(said["file_name"])))}
    else:
        what = f"the data set {name!r} comes from {', '.join(said) or 'nowhere'}, which is not read"
        draft.refuse(key, what, "save it as a file, or name one on the Hugging Face hub")
        return None
    if any(one in said.get("columns", {}) for one in ("images", "videos", "audios")):
        draft.refuse(key, f"the data set {name!r} has pictures, sound or film, which are not read")
        return None
    _tags(draft, key, name, said.get("tags", {}))
    return spec(origin, _columns(draft, key, name, said), revision=said.get("revision"),
                subset=said.get("subset"), **_rows(draft, key, name, said))  # fmt: skip


def _rows(draft: StepDraft, key: str, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Which rows of a data set: its split or a slice of that, and how many."""
    read = rows_of(draft, key, said.get("split"))
    drawn, most = said.get("num_samples"), draft.get("max_samples")
    if drawn:  # `max_samples` cuts what was drawn before
        draft.say("other meaning", key, f"{name}: sample: none of its rows is taken twice where it has "
                  f"fewer than {drawn}")  # fmt: skip
        return read | {"sample": min(drawn, most or drawn)}
    if most and "part" in read:
        draft.say("other meaning", key, f"{name}: sample: rows are drawn, not taken from the start")
        return read | {"sample": most}
    first = [rows for rows in (read.get("first"), most) if rows]
    return read | {"first": min(first, default=None)}


def _columns(draft: StepDraft, key: str, name: str, said: Mapping[str, Any]) -> dict[str, str]:
    """From the columns the file has to those our formats know."""
    given = said.get("columns", {})
    pairs = bool(said.get("ranking")) or draft.stage in ("dpo", "reward")
    if said.get("formatting", "alpaca") == "sharegpt":
        wanted = {"conversations": given.get("messages", "conversations")}
        if not pairs and wanted["conversations"] == "messages":
            wanted = {}
    elif draft.stage == "pretrain":
        wanted = {"text": given.get("prompt", "instruction")}
    elif pairs:
        wanted = {"prompt": given.get("prompt", "instruction")}
        if given.get("query"):
            draft.say(
                "no counterpart",
                key,
                f"{name}: the column {given['query']!r} is not joined to the prompt",
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
    return renamed(wanted | {one: given.get(one) for one in ("system", "tools")})


def _tags(draft: StepDraft, key: str, name: str, tags: Mapping[str, Any]) -> None:
    """Turns are read in two spellings, and roles by the names that are in use."""
    spelled = {part: tags.get(part, usual) for part, usual in TURNS[0].items()}
    if spelled not in TURNS:
        draft.refuse(key, f"the turns of {name!r} are spelled {' and '.join(map(str, spelled.values()))}, "
                     "and are read as from and value, or role and content")  # fmt: skip
    for tag, role in tags.items():
        if tag not in spelled and role not in ROLES:
            draft.refuse(
                key, f"the turns of {name!r} have a role {role!r}", did_you_mean(str(role), ROLES)
            )
