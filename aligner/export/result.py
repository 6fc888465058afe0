"""Result of an export, and how the exported model compares with the run's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Comparison of the outputs of the exported model and the run's model on a few prompts."""

    prompts: int
    tokens: int
    """Tokens of all prompts."""
    reload_difference: float
    """Largest difference of an output after saving and loading; it must be 0."""
    merge_difference: float | None = None
    """Largest difference after merging the adapters in fp32; None without adapters."""
    rounding_difference: float | None = None
    """Largest difference between the run's model in fp32 and the merged weights in their data type;
    None if nothing was rounded."""
    unit: str = "log-probability"
    """Output that is compared: `log-probability` or `score`."""

    def lines(self) -> list[str]:
        """Return the comparison as sentences."""
        plural = "log-probabilities" if self.unit == "log-probability" else "scores"
        lines = [
            f"loaded back with plain libraries: {plural} identical bit for bit"
            f" ({self.prompts} prompts, {self.tokens} tokens)"
        ]
        if self.merge_difference is not None:
            lines.append(f"merging changed no {self.unit} by more than {self.merge_difference:.2g}")
        if self.rounding_difference is not None:
            lines.append(
                f"with rounding, no {self.unit} differs by more than {self.rounding_difference:.2g} "
                "from the run's model"
            )
        return lines


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """Files that an export wrote, with their verification."""

    folder: Path
    form: str
    dtype: str
    verification: Verification
    base: str | None = None
    """Base model of an exported adapter: a folder or a Hub id."""
    gguf: Path | None = None
    url: str | None = None
    """Address on the Hub, if the folder was uploaded."""
    num_bytes: int = 0
    notes: tuple[str, ...] = ()

    def as_dict(self) -> Mapping[str, object]:
        """Return the values for JSON."""
        return {
            "folder": str(self.folder),
            "form": self.form,
            "dtype": self.dtype,
            "base": self.base,
            "bytes": self.num_bytes,
            "verification": asdict(self.verification),
            "gguf": None if self.gguf is None else str(self.gguf),
            "url": self.url,
            "notes": list(self.notes),
        }
