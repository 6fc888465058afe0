"""Log of a step's results in files: a stopped step resumes, and processes read each other's part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


class GenerationLog:
    """Entries by the index of their prompt, in a file per process."""

    def __init__(self, folder: Path, name: str, *, rank: int) -> None:
        self._folder, self._name = folder, name
        self._path = folder / f"{name}-{rank}.jsonl"
        self._truncate_partial_line()

    def read(self) -> dict[int, Entry]:
        """Return the entries of all processes, including those of an interrupted run."""
        entries: dict[int, Entry] = {}
        for path in sorted(self._folder.glob(f"{self._name}-*.jsonl")):
            # Another process may be writing the text after the last newline.
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                entry = json.loads(line)
                entries[entry.pop("prompt")] = entry
        return entries

    def append(self, entries: Mapping[int, Entry]) -> None:
        """Append the entries of these prompts."""
        lines = [json.dumps({"prompt": index, **entry}) for index, entry in entries.items()]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def delete(self) -> None:
        """Delete the files of all processes."""
        for path in self._folder.glob(f"{self._name}-*.jsonl"):
            path.unlink()

    def _truncate_partial_line(self) -> None:
        """Remove the partial line that a kill leaves."""
        if not self._path.is_file():
            return
        content = self._path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            self._path.write_bytes(content[:complete])
