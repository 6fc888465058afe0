"""One step of the chain while a file is being read, and all that is said about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from aligner.errors import AlignerError, ChainError
from aligner.options.fields import fields_at
from aligner.recipe.tree import show
from aligner.registry import ExternalConfig, ImportNote, ImportNoteKind
from aligner_import.rules import is_empty

_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")
_KEPT = frozenset({"data", "eval_data", "adapter.method"})


class StepDraft:
    """What is known of a step; filled by the rules of a table and by a tool's composers."""

    def __init__(
        self, foreign: ExternalConfig, tool: str, stage: str, config: type[BaseModel]
    ) -> None:
        self.foreign, self.tool, self.stage = foreign, tool, stage
        self.options: dict[str, Any] = {}
        self.chat: dict[str, Any] = {}
        self.head: dict[str, Any] = {}
        self.notes: list[ImportNote] = []
        self.errors: list[AlignerError] = []
        self._config = config
        self._read: set[str] = set()

    def get(self, key: str, otherwise: Any = None) -> Any:
        """The value of a setting, or `otherwise` where nothing is said."""
        self._read.add(key)
        value = self.foreign.settings.get(key)
        return otherwise if is_empty(value) else value

    def has(self, key: str) -> bool:
        self._read.add(key)
        return not is_empty(self.foreign.settings.get(key))

    def unread(self, key: str) -> bool:
        """Whether no composer has asked for a setting, as it has no part in what the file does."""
        return key not in self._read

    def say(self, kind: ImportNoteKind, key: str, text: str) -> None:
        self.notes.append(ImportNote(kind=kind, where=self.foreign.at(key), key=key, text=text))

    def refuse(self, key: str, what: str, hint: str = "") -> None:
        """Something that decides the result cannot be translated."""
        self.errors.append(ChainError(what, where=self.foreign.at(key), hint=hint))

    def put(self, option: str, value: Any, key: str, *, differs: str = "") -> None:
        """Set `option` to what the file says at `key`, unless it is so already."""
        area, _, rest = option.partition(".")
        if area in ("chat", "recipe"):
            (self.chat if area == "chat" else self.head)[rest] = value
        elif not self._known(option):
            self.say("no counterpart", key, f"the stage {self.stage!r} has no option {option!r}")
            return
        elif option not in _KEPT and self._default(option) == _plain(value):
            self.say("default", key, f"{option} is {_said(value)} anyway")
            return
        else:
            self.options[option] = value
        if differs:
            self.say("other meaning", key, _of(option, key, differs))

    def add(self, option: str, value: Any, key: str, why: str = "") -> None:
        """Set `option` to what the tool takes at `key`, which the file does not say."""
        if not self._known(option) or self._default(option) == _plain(value):
            return
        self.options[option] = value
        why = why or f"what {self.tool} takes where nothing is said"
        text = _of(option, key, f"{_said(value)}, {why}")
        self.notes.append(ImportNote(kind="added", where=self.foreign.where, key=key, text=text))

    @property
    def taken(self) -> int:
        """Settings about which nothing had to be said."""
        spoken = {remark.key.partition(".")[0] for remark in self.notes}
        return len(self.foreign.settings.keys() - spoken)

    def origin(self, name: str) -> dict[str, Any]:
        """`name` as a local path or URL, or as an id on the hub."""
        there = (self.foreign.folder / Path(name).expanduser()).exists()
        local = there or name.startswith((".", "/", "~")) or name.endswith(_FILES)
        if urlsplit(name).scheme in ("https", "s3", "gs", "gcs", "az", "abfs", "hf"):
            return {"path": name}
        return {"path": self.path(name)} if local else {"hub": name}

    def path(self, name: str) -> str:
        """A path of the file's, as the recipe that is being written must say it."""
        full = Path(os.path.normpath(self.foreign.folder / Path(name).expanduser()))
        if full.is_absolute() and os.path.isabs(os.path.expanduser(name)):
            return str(full)
        return os.path.relpath(full, self.foreign.recipe_folder)

    def model(self, name: str, key: str, revision: Any = None) -> None:
        """The model that the chain begins with."""
        there = (self.foreign.folder / Path(name).expanduser()).exists()
        local = there or name.startswith((".", "/", "~"))
        self.head["model"] = self.path(name) if local else name
        if revision not in (None, "main"):
            self.head["model"] = {"path": self.head["model"], "revision": str(revision)}

    def step(self) -> dict[str, Any]:
        """The step as a recipe has it."""
        order = list(_ORDER)
        ranked = sorted(
            self.options, key=lambda one: order.index(one) if one in order else len(order)
        )
        step: dict[str, Any] = {"stage": self.stage}
        for option in ranked:
            here = step
            *above, last = option.split(".")
            for one in above:
                here = here.setdefault(one, {})
            here[last] = self.options[option]
        return step

    def _known(self, option: str) -> bool:
        *above, last = option.split(".")
        return last in fields_at(self._config, tuple(above))

    def _default(self, option: str) -> Any:
        *above, last = option.split(".")
        return _plain(fields_at(self._config, tuple(above))[last].get_default())


_ORDER = (
    "data", "eval_data", "deduplicate", "hold_out", "mixture.meet", "shuffle", "max_length", "overflow",
    "limits", "train_on", "packing", "stream", "adapter.method", "adapter.r", "adapter.lora_alpha",
    "adapter.lora_dropout", "adapter.target_modules", "adapter.modules_to_save", "incoming", "quantize",
    "loss_type", "beta", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "optim", "learning_rate",
)  # fmt: skip


def _plain(value: Any) -> Any:
    """Lists and tuples alike, and one value as the list it stands for."""
    if isinstance(value, tuple | list):
        return value[0] if len(value) == 1 else list(value)
    return value


def _of(option: str, key: str, text: str) -> str:
    """`text` about an option, which is named where it is called otherwise than the setting."""
    return text if option.rpartition(".")[2] == key else f"{option}: {text}"


def _said(value: Any) -> str:
    """A value, with the entries of a list."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else show(value)
