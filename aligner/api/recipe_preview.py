"""A preview of a recipe's rows: to print, to show in a notebook, to write as a page, or to count."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from aligner import chain
from aligner.errors import AlignerError
from aligner.preview import PreviewSection
from aligner.terminal.console import render_text
from aligner.terminal.preview import render_preview
from aligner.terminal.preview_html import preview_html


@dataclass(frozen=True, repr=False)
class RecipePreview:
    """Result of `Recipe.preview`. It prints as the output of `aligner preview`."""

    inner: chain.ChainPreview

    @property
    def steps(self) -> Mapping[str, tuple[PreviewSection, ...]]:
        """The sections of each step, by name: one section per data set that it reads."""
        return {preview.step.name: preview.sections for preview in self.inner.steps}

    @property
    def errors(self) -> tuple[AlignerError, ...]:
        """Errors of the steps that could not be previewed."""
        return self.inner.errors

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a self-contained HTML page."""
        Path(path).write_text(preview_html(self.inner), encoding="utf-8")

    def __str__(self) -> str:
        return render_text(lambda console: render_preview(self.inner, console))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the page for notebooks, in a frame that isolates its styles."""
        style = "width:100%;height:44rem;border:0"
        page = escape(preview_html(self.inner))
        return f'<iframe sandbox="" style="{style}" srcdoc="{page}"></iframe>'
