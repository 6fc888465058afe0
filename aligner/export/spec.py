"""What an export is asked to be, and what it came to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from aligner.errors import AlignerError, ErrorGroup

Dtype = Literal["float32", "bfloat16", "float16"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class ExportError(AlignerError):
    """The export cannot be as asked."""


class ExportFailed(AlignerError):
    """The export was begun and did not come out right."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be written, and where."""

    to: Path
    """The folder."""
    slot: Literal["policy", "reward"] = "policy"
    form: Literal["merged", "adapter"] = "merged"
    """Whole weights with adapters folded in, or the adapter alone."""
    dtype: Dtype | None = None
    """How whole weights are written; None as they are stored."""
    license: str | None = None
    """Identifier for the card; None leaves the field out."""
    license_name: str | None = None
    license_link: str | None = None
    gguf: str | None = None
    """Type of the GGUF file to add."""
    push_to: str | None = None
    """Hub id to upload to."""
    private: bool = False
    force: bool = False
    """Replace a model folder that is there."""

    def check(self) -> None:
        """Raises ExportError for what does not go together, all of it at once."""
        errors: list[AlignerError] = []
        if self.form == "adapter" and self.dtype is not None:
            what = "--adapter writes the adapter as it was trained, and --dtype would change that"
            errors.append(ExportError(what, hint="leave one of them out"))
        if self.form == "adapter" and self.slot == "reward":
            what = "a reward model's head is no adapter"
            errors.append(ExportError(what, hint="export it merged"))
        if self.gguf is not None and (self.form == "adapter" or self.slot == "reward"):
            what = "a GGUF file is made of a merged policy"
            errors.append(ExportError(what, hint="leave out --gguf, or --adapter and --slot"))
        if self.push_to is not None and not _HUB_ID.fullmatch(self.push_to):
            what = f"{self.push_to!r} is no name on the hub"
            errors.append(ExportError(what, hint="write it as org/name"))
        if self.private and self.push_to is None:
            errors.append(ExportError("--private says how to push", hint="add --push-to org/name"))
        if (self.license_name or self.license_link) and self.license != "other":
            what = "a licence's name and link go with `--license other`"
            errors.append(ExportError(what, hint="known ones are named by their id alone"))
        ErrorGroup.raise_if_any(errors)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How the exported model compares with the run's, on a few prompts."""

    prompts: int
    tokens: int
    """In all prompts together."""
    loaded: float
    """Largest difference between the outputs of what was written and what was loaded back; 0, or
    the export is refused."""
    merged: float | None = None
    """Largest difference that folding the adapters in made, in 32 bits; None without adapters."""
    rounded: float | None = None
    """Largest difference between the run's adapters in 32 bits and the merged weights as they are
    written; None where nothing was rounded."""
    unit: str = "log-probability"
    """Of what the differences are: `log-probability`, or `score`."""

    def lines(self) -> list[str]:
        """All of it, for people."""
        said = [
            f"loaded back with plain libraries: the same {_plural(self.unit)} to the bit"
            f" ({self.prompts} prompts, {self.tokens} tokens)"
        ]
        if self.merged is not None:
            said.append(f"merging moved no {self.unit} by more than {self.merged:.2g}")
        if self.rounded is not None:
            said.append(f"with rounding, none is more than {self.rounded:.2g} off the run's model")
        return said


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    folder: Path
    form: str
    dtype: str
    proof: Proof
    base: str | None = None
    """What an adapter points to: a folder or a hub id."""
    gguf: Path | None = None
    url: str | None = None
    """Where it was pushed to."""
    octets: int = 0
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> Mapping[str, object]:
        """For JSON."""
        proof = {
            "prompts": self.proof.prompts,
            "tokens": self.proof.tokens,
            "loaded": self.proof.loaded,
            "merged": self.proof.merged,
            "rounded": self.proof.rounded,
            "unit": self.proof.unit,
        }
        return {
            "folder": str(self.folder),
            "form": self.form,
            "dtype": self.dtype,
            "base": self.base,
            "bytes": self.octets,
            "proof": proof,
            "gguf": None if self.gguf is None else str(self.gguf),
            "url": self.url,
            "notes": list(self.notes),
        }


def _plural(unit: str) -> str:
    return "log-probabilities" if unit == "log-probability" else "scores"
