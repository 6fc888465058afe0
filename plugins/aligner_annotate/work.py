"""What is done of a step, kept as it goes: a stopped step goes on, and processes see each other's part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


class Work:
    """Entries by the number of their prompt, in a file for each process."""

    def __init__(self, folder: Path, name: str, *, rank: int) -> None:
        self._folder, self._name = folder, name
        self._path = folder / f"{name}-{rank}.jsonl"
        self._mend()

    def done(self) -> dict[int, Entry]:
        """All that is kept, by whichever process, now or before a stop."""
        entries: dict[int, Entry] = {}
        for path in sorted(self._folder.glob(f"{self._name}-*.jsonl")):
            # What follows the last line end, another process is in the middle of.
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                one = json.loads(line)
                entries[one.pop("prompt")] = one
        return entries

    def keep(self, entries: Mapping[int, Entry]) -> None:
        """Keep what has been done for these prompts."""
        lines = [json.dumps({"prompt": number, **one}) for number, one in entries.items()]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def forget(self) -> None:
        """Remove the files, when all has been made of them that should be."""
        for path in self._folder.glob(f"{self._name}-*.jsonl"):
            path.unlink()

    def _mend(self) -> None:
        """Take off a line that was cut short by a kill."""
        if not self._path.is_file():
            return
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._path.write_bytes(content[:whole])


def parts(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Numbers of things in groups of `size`, those of like length together; the same every time."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    return [order[start : start + size] for start in range(0, len(order), size)]
