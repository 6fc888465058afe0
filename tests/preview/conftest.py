"""A tiny model and data, and previews of recipes that train it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner import chain
from aligner.host import Host
from aligner.preview import PreviewRequest, PreviewRow, PreviewSection
from aligner.recipe import recipe_from
from aligner.testing import conversations, preferences, prompts, texts, write_files, write_tiny

TALKS = [
    {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]}
    for ask, say in (("a cat", "big"), ("the dog\nruns", "small cat"), ("red", "blue dog eats"))
]
LONGER = conversations(9, seed=11)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `base` and rows of every kind; tests only read it."""
    folder = tmp_path_factory.mktemp("preview")
    write_tiny(folder / "base")
    margins = [{**row, "margin": 0.5 * number} for number, row in enumerate(preferences(8))]
    files = {
        "talks.jsonl": TALKS,
        "longer.jsonl": LONGER,
        "pairs.jsonl": preferences(8),
        "margins.jsonl": margins,
        "prompts.jsonl": prompts(6),
        "texts.jsonl": texts(10),
    }
    write_files(folder, files)
    return folder


@pytest.fixture(scope="session")
def host() -> Host:
    return Host.discover()


@pytest.fixture
def preview_steps(desk: Path, host: Host) -> Callable[..., chain.ChainPreview]:
    """Preview the given steps on `base`: `preview_steps({"stage": …}, rows=(1, 2))`."""

    def preview(*steps: dict[str, Any], steps_shown: tuple[str, ...] = (), **asked: Any) -> Any:
        sheet = {"name": "tiny", "model": "base", "steps": list(steps)}
        linked = chain.link(recipe_from(sheet, folder=desk), host)
        return chain.preview(linked, host, PreviewRequest(**asked), steps=steps_shown)

    return preview


@pytest.fixture
def section(preview_steps: Callable[..., chain.ChainPreview]) -> Callable[..., PreviewSection]:
    """Return the only section of a preview of one step without errors."""

    def only(step: dict[str, Any], **asked: Any) -> PreviewSection:
        shown = preview_steps(step, **asked)
        assert shown.errors == ()
        ((section,),) = (step.sections for step in shown.steps)
        return section

    return only


def spelled(row: PreviewRow, sequence: int = 0) -> str:
    """Return a sequence as text: masked as it is, trained in [brackets], padding in {braces}."""
    marks = {"masked": "{}", "trained": "[{}]", "padding": "{{{}}}"}
    return "".join(marks[token.role].format(token.text) for token in row.sequences[sequence].tokens)
