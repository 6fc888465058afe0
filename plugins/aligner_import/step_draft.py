"""Draft of a step: its options and the notes about its settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from aligner import AlignerError, ExternalConfig, ImportNote, ImportNoteKind
from aligner.kit.declare import ChainError, fields_at, show
from aligner_import.rules import is_empty

_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")
_ALWAYS_WRITTEN = frozenset({"data", "eval_data", "adapter.method"})


class StepDraft:
    """Options and notes of a step, filled in by a tool's rules and composers."""

    def __init__(
        self, config: ExternalConfig, tool: str, stage: str, options_class: type[BaseModel]
    ) -> None:
        self.config, self.tool, self.stage = config, tool, stage
        self.options: dict[str, Any] = {}
        self.chat: dict[str, Any] = {}
        self.head: dict[str, Any] = {}
        self.notes: list[ImportNote] = []
        self.errors: list[AlignerError] = []
        self._options_class = options_class
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a setting, or `default` if it is not set."""
        self._read.add(key)
        value = self.config.settings.get(key)
        return default if is_empty(value) else value

    def has(self, key: str) -> bool:
        self._read.add(key)
        return not is_empty(self.config.settings.get(key))

    def unread(self, key: str) -> bool:
        """Return True if no composer has read the setting."""
        return key not in self._read

    def add_note(self, kind: ImportNoteKind, key: str, text: str) -> None:
        self.notes.append(ImportNote(kind=kind, where=self.config.at(key), key=key, text=text))

    def add_error(self, key: str, what: str, hint: str = "") -> None:
        """Add an error for a setting that determines the result and has no equivalent."""
        self.errors.append(ChainError(what, where=self.config.at(key), hint=hint))

    def put(self, option: str, value: Any, key: str, *, differs: str = "") -> None:
        """Set `option` to the value at `key`, unless it is the default."""
        area, _, name = option.partition(".")
        if area in ("chat", "recipe"):
            (self.chat if area == "chat" else self.head)[name] = value
        elif not self._known(option):
            self.add_note(
                "no counterpart", key, f"the stage {self.stage!r} has no option {option!r}"
            )
            return
        elif option not in _ALWAYS_WRITTEN and self._default(option) == _plain(value):
            self.add_note("default", key, f"{option} is {_format(value)} by default")
            return
        else:
            self.options[option] = value
        if differs:
            self.add_note("other meaning", key, _prefix(option, key, differs))

    def add(self, option: str, value: Any, key: str, why: str = "") -> None:
        """Set `option` to the tool's default for `key`, which the file does not set."""
        if not self._known(option) or self._default(option) == _plain(value):
            return
        self.options[option] = value
        why = why or f"{self.tool}'s default"
        text = _prefix(option, key, f"{_format(value)}, {why}")
        self.notes.append(ImportNote(kind="added", where=self.config.where, key=key, text=text))

    @property
    def taken(self) -> int:
        """Number of settings that were imported without a note."""
        noted = {note.key.partition(".")[0] for note in self.notes}
        return len(self.config.settings.keys() - noted)

    def origin(self, name: str) -> dict[str, Any]:
        """Return `name` as a path, URL or hub id."""
        exists = (self.config.folder / Path(name).expanduser()).exists()
        local = exists or name.startswith((".", "/", "~")) or name.endswith(_FILES)
        if urlsplit(name).scheme in ("https", "s3", "gs", "gcs", "az", "abfs", "hf"):
            return {"path": name}
        return {"path": self.path(name)} if local else {"hub": name}

    def path(self, name: str) -> str:
        """Return a path of the file relative to the new recipe."""
        full = Path(os.path.normpath(self.config.folder / Path(name).expanduser()))
        if full.is_absolute() and os.path.isabs(os.path.expanduser(name)):
            return str(full)
        return os.path.relpath(full, self.config.recipe_folder)

    def set_model(self, name: str, key: str, revision: Any = None) -> None:
        """Set the base model of the chain."""
        exists = (self.config.folder / Path(name).expanduser()).exists()
        local = exists or name.startswith((".", "/", "~"))
        self.head["model"] = self.path(name) if local else name
        if revision not in (None, "main"):
            self.head["model"] = {"path": self.head["model"], "revision": str(revision)}

    def step(self) -> dict[str, Any]:
        """Return the step as an entry of a recipe."""
        order = list(_ORDER)
        ranked = sorted(
            self.options, key=lambda name: order.index(name) if name in order else len(order)
        )
        step: dict[str, Any] = {"stage": self.stage}
        for option in ranked:
            here = step
            *above, last = option.split(".")
            for name in above:
                here = here.setdefault(name, {})
            here[last] = self.options[option]
        return step

    def _known(self, option: str) -> bool:
        *above, last = option.split(".")
        return last in fields_at(self._options_class, tuple(above))

    def _default(self, option: str) -> Any:
        *above, last = option.split(".")
        return _plain(fields_at(self._options_class, tuple(above))[last].get_default())


_ORDER = (
    "data", "eval_data", "deduplicate", "hold_out", "mixture.meet", "shuffle", "max_length", "overflow",
    "limits", "train_on", "packing", "stream", "adapter.method", "adapter.r", "adapter.lora_alpha",
    "adapter.lora_dropout", "adapter.target_modules", "adapter.modules_to_save", "incoming", "quantize",
    "loss_type", "beta", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "optim", "learning_rate",
)  # fmt: skip


def _plain(value: Any) -> Any:
    """Normalize tuples, lists and single values for a comparison."""
    if isinstance(value, tuple | list):
        return value[0] if len(value) == 1 else list(value)
    return value


def _prefix(option: str, key: str, text: str) -> str:
    """Prefix `text` with the name of the option if it differs from that of the setting."""
    return text if option.rpartition(".")[2] == key else f"{option}: {text}"


def _format(value: Any) -> str:
    """Format a value, or the entries of a list."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else show(value)
