"""What the model will see, in Python: to print, to look at in a notebook, to write as a page, or to count."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from aligner import chain
from aligner.errors import AlignerError
from aligner.preview import PreviewSection
from aligner.terminal.console import console_on, show
from aligner.terminal.preview import previewed
from aligner.terminal.preview_page import page

_WIDTH = 100
"""Columns of the drawing, wherever it is read."""


@dataclass(frozen=True, repr=False)
class Preview:
    """What `Recipe.preview` shows. Printed, it is what `aligner preview` draws."""

    inner: chain.ChainPreview

    @property
    def steps(self) -> Mapping[str, tuple[PreviewSection, ...]]:
        """What each step shows, by its name: one section for each data set that it reads."""
        return {one.step.name: one.sections for one in self.inner.steps}

    @property
    def errors(self) -> tuple[AlignerError, ...]:
        """What is wrong with the steps that could not be looked at."""
        return self.inner.errors

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a page of HTML that can be passed on."""
        Path(path).write_text(page(self.inner), encoding="utf-8")

    def __str__(self) -> str:
        drawn = io.StringIO()
        console = console_on(drawn)
        console.width = _WIDTH
        show(console, previewed(self.inner, console))
        return drawn.getvalue().rstrip("\n")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What notebooks show: the page, in a frame that keeps its styles to itself."""
        style = "width:100%;height:44rem;border:0"
        return f'<iframe sandbox="" style="{style}" srcdoc="{escape(page(self.inner))}"></iframe>'
