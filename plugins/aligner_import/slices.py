"""Splits, slices and shards of data sets."""

from __future__ import annotations

import re
from typing import Any

from aligner_import.rules import is_empty
from aligner_import.step_draft import StepDraft

_SLICE = re.compile(r"(?P<split>[\w.-]+)(\[(?P<start>-?[\d_]+%?)?\s*:\s*(?P<end>-?[\d_]+%?)?\])?")


def split_options(draft: StepDraft, key: str, split: Any) -> dict[str, Any]:
    """Return the options that select a split, or a slice in the syntax of `datasets`.

    `train[:500]` becomes the first 500 rows. `train[10%:20%]` becomes a part, selected by a hash:
    disjoint slices stay disjoint. Anything else is an error.
    """
    if is_empty(split):
        return {}
    match = _SLICE.fullmatch(str(split).strip())
    if match is None:
        draft.add_error(key, f"the split {split!r} is not a split or a slice of a split",
                     "list each split as its own data set")  # fmt: skip
        return {}
    name, start, end = match["split"], match["start"], match["end"]
    if start is None and end is None:
        return {"split": name}
    if all(bound is None or bound.endswith("%") for bound in (start, end)):
        begin, stop = _percent(start, 0), _percent(end, 100)
        if begin >= stop:
            draft.add_error(key, f"the split {split!r} has no rows")
        elif stop - begin < 100:
            draft.add_note("other meaning", key, f"parts: about {stop - begin} % of the rows, by a hash of "
                      "their prompt, not by their index")  # fmt: skip
        return {"split": name, **part_options(begin / 100, stop / 100)}
    if start in (None, "0") and end is not None and end.replace("_", "").isdecimal() and int(end):
        return {"split": name, "first": int(end)}
    draft.add_error(key, f"the split {split!r} selects rows by index",
                 "use the first rows ([:500]) or percentages ([10%:20%])")  # fmt: skip
    return {"split": name}


def shard_options(
    draft: StepDraft, key: str, number: Any, index: Any, read: dict[str, Any]
) -> dict[str, Any]:
    """Return the options that select one of `number` shards.

    Args:
        draft: The step.
        key: Path of the data set in the file.
        number: Number of shards.
        index: Index of the shard, from 0; None if it is not set.
        read: Options that select the split.
    """
    if is_empty(number) or int(number) < 2:
        return {}
    if is_empty(index):
        draft.add_note("other meaning", f"{key}.shards",
                  f"sample: about one row in {number}, selected by a hash")  # fmt: skip
        return {"sample": round(1 / int(number), 12)}
    if not 0 <= int(index) < int(number):
        draft.add_error(
            f"{key}.shards_idx", f"there is no shard {index} of {number}, counted from 0"
        )
        return {}
    if "part" in read:
        draft.add_error(f"{key}.shards_idx", "a shard of a slice is not supported",
                     "use the slice or the shard")  # fmt: skip
        return {}
    draft.add_note("other meaning", f"{key}.shards",
              f"parts: about one row in {number}, by a hash of the prompt")  # fmt: skip
    return part_options(int(index) / int(number), (int(index) + 1) / int(number))


def _percent(text: str | None, default: int) -> int:
    """Parse a boundary in percent; a negative one counts from the end."""
    if text is None:
        return default
    value = int(text.removesuffix("%"))
    return max(0, min(100, value + 100 if value < 0 else value))


def part_options(begin: float, end: float) -> dict[str, Any]:
    """Return the options that select rows with a hash from `begin` to `end`, both in [0, 1].

    Parts are ordered by name, so these names must keep their order.
    """
    shares = {"before": begin, "slice": end - begin, "tail": 1 - end}
    parts = {name: round(size, 12) for name, size in shares.items() if round(size, 12) > 0}
    return {"parts": parts, "part": "slice"} if len(parts) > 1 else {}
