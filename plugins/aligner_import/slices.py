"""Which rows of a data set are meant: a split, a slice of one, or a shard."""

from __future__ import annotations

import re
from typing import Any

from aligner_import.draft import StepDraft
from aligner_import.rules import is_empty

_SLICE = re.compile(r"(?P<split>[\w.-]+)(\[(?P<start>-?[\d_]+%?)?\s*:\s*(?P<end>-?[\d_]+%?)?\])?")


def rows_of(draft: StepDraft, key: str, split: Any) -> dict[str, Any]:
    """What a data entry says to read `split`, which may be a slice as `datasets` writes them.

    `train[:500]` is so many rows from the start. `train[10%:20%]` is a part, found by a hash: slices
    that have no row in common have none in common here either. Anything else is refused.
    """
    if is_empty(split):
        return {}
    found = _SLICE.fullmatch(str(split).strip())
    if found is None:
        draft.refuse(key, f"the split {split!r} is not one split or a slice of one",
                     "write each split as a data set of its own")  # fmt: skip
        return {}
    name, start, end = found["split"], found["start"], found["end"]
    if start is None and end is None:
        return {"split": name}
    if all(one is None or one.endswith("%") for one in (start, end)):
        begin, stop = _percent(start, 0), _percent(end, 100)
        if begin >= stop:
            draft.refuse(key, f"the split {split!r} has no rows")
        elif stop - begin < 100:
            draft.say("other meaning", key, f"parts: about {stop - begin} % of the rows, by a hash of "
                      "their prompt and not by their place")  # fmt: skip
        return {"split": name, **piece(begin / 100, stop / 100)}
    if start in (None, "0") and end is not None and end.replace("_", "").isdecimal() and int(end):
        return {"split": name, "first": int(end)}
    draft.refuse(key, f"the split {split!r} picks rows by their number",
                 "only the first ones are ([:500]), or shares ([10%:20%])")  # fmt: skip
    return {"split": name}


def shard(
    draft: StepDraft, key: str, number: Any, index: Any, read: dict[str, Any]
) -> dict[str, Any]:
    """What a data entry says to take one of `number` shards of the rows it reads.

    Args:
        draft: The step.
        key: Where the data set is said.
        number: How many shards there are.
        index: Which is taken, from 0; None where it is not said, which is the first.
        read: What the entry says to read its split.
    """
    if is_empty(number) or int(number) < 2:
        return {}
    if is_empty(index):
        draft.say("other meaning", f"{key}.shards",
                  f"sample: about one row of {number}, drawn by a hash")  # fmt: skip
        return {"sample": round(1 / int(number), 12)}
    if not 0 <= int(index) < int(number):
        draft.refuse(f"{key}.shards_idx", f"there is no shard {index} of {number}, counted from 0")
        return {}
    if "part" in read:
        draft.refuse(f"{key}.shards_idx", "one of several shards of a slice cannot be said",
                     "give the slice, or the shard")  # fmt: skip
        return {}
    draft.say("other meaning", f"{key}.shards",
              f"parts: about one row of {number}, by a hash of their prompt")  # fmt: skip
    return piece(int(index) / int(number), (int(index) + 1) / int(number))


def _percent(said: str | None, otherwise: int) -> int:
    """A boundary in percent; a negative one counts from the end."""
    if said is None:
        return otherwise
    value = int(said.removesuffix("%"))
    return max(0, min(100, value + 100 if value < 0 else value))


def piece(begin: float, end: float) -> dict[str, Any]:
    """The rows whose hash lies from `begin` to `end`, both in [0, 1].

    Parts lie in the order of their names, so these names must keep theirs.
    """
    shares = {"before": begin, "slice": end - begin, "tail": 1 - end}
    parts = {name: round(size, 12) for name, size in shares.items() if round(size, 12) > 0}
    return {"parts": parts, "part": "slice"} if len(parts) > 1 else {}
