"""Options of an export and the check of their combination."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from aligner.errors import AlignerError, ErrorGroup

Dtype = Literal["float32", "bfloat16", "float16"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class ExportError(AlignerError):
    """An export that is impossible with these options."""


class ExportFailed(AlignerError):
    """An export that failed after it had started."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Output folder and form of an export."""

    to: Path
    """Output folder."""
    slot: Literal["policy", "reward"] = "policy"
    form: Literal["merged", "adapter"] = "merged"
    """Whole weights with adapters merged, or the adapter alone."""
    dtype: Dtype | None = None
    """Data type of whole weights; None keeps that of the run."""
    license: str | None = None
    """License id in the model card; None leaves it out."""
    license_name: str | None = None
    license_link: str | None = None
    gguf: str | None = None
    """Type of an additional GGUF file."""
    push_to: str | None = None
    """Hub id to upload to."""
    private: bool = False
    force: bool = False
    """Replace an existing model folder."""

    def check(self) -> None:
        """Check that the options can be combined.

        Raises:
            ErrorGroup: Some cannot; all of them are listed.
        """
        errors: list[AlignerError] = []
        if self.form == "adapter" and self.dtype is not None:
            what = "--dtype does not apply to --adapter, which copies the adapter unchanged"
            errors.append(ExportError(what, hint="leave one of them out"))
        if self.form == "adapter" and self.slot == "reward":
            what = "a reward model has a head besides its adapter, so --adapter cannot export it"
            errors.append(ExportError(what, hint="export it merged"))
        if self.gguf is not None and (self.form == "adapter" or self.slot == "reward"):
            what = "--gguf needs a merged policy"
            errors.append(ExportError(what, hint="leave out --gguf, or --adapter and --slot"))
        if self.push_to is not None and not _HUB_ID.fullmatch(self.push_to):
            what = f"{self.push_to!r} is not a valid Hub id"
            errors.append(ExportError(what, hint="write it as org/name"))
        if self.private and self.push_to is None:
            errors.append(
                ExportError(
                    "--private has no effect without --push-to", hint="add --push-to org/name"
                )
            )
        if (self.license_name or self.license_link) and self.license != "other":
            what = "--license-name and --license-link need `--license other`"
            errors.append(ExportError(what, hint="a license known to the Hub needs only its id"))
        ErrorGroup.raise_if_any(errors)
