"""How a recipe names data: the options under `data:`, light enough for any declaration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aligner.stage import StageConfig


class DataSpec(StageConfig):
    """Where rows come from and how they are read. A bare string is a `path`."""

    path: str | None = None
    """File, folder, glob, or URL (s3://, gs://, https://); relative to the recipe's folder."""
    hub: str | None = None
    """Data set id on the Hugging Face hub."""
    revision: str | None = None
    """Commit, tag or branch of the hub data set."""
    subset: str | None = None
    """Configuration of the hub data set."""
    split: str = "train"
    """Split of the hub data set or saved `datasets` folder."""
    source: str | None = None
    """Name of a data source that an installed plugin offers."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the data source."""
    format: str = "auto"
    """How rows are written; `auto` looks at them and refuses when two formats fit."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Renames columns before the format is recognised: `{question: prompt}`."""
    first: int | None = Field(None, gt=0)
    """Read only this many rows, from the start."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """What a malformed row does: stop the check, or be left out, counted and saved."""

    @model_validator(mode="before")
    @classmethod
    def _a_string_is_a_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> DataSpec:
        given = [n for n in ("path", "hub", "source") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of path, hub and source, not {' and '.join(given) or 'none'}")
        return self


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


DataSpecs = Annotated[tuple[DataSpec, ...], BeforeValidator(_as_list), Field(min_length=1)]
"""One data set or several, read one after the other."""
