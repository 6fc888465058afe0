"""docs/curation.md shows every option, and shows none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from aligner.data.options import DataOptions, Mixture, RowOrder, RowSelection
from aligner.data.writing import TARGETS
from aligner.host import Host
from aligner.options.row_operations import with_operations
from aligner.options.validation import validate
from aligner.recipe import read_recipe
from aligner_curation.options import (
    Augment,
    Clean,
    Decontaminate,
    Deduplicate,
    Redact,
)

PAGE = (Path(__file__).parents[3] / "docs" / "curation.md").read_text(encoding="utf-8")
OPERATIONS = Host.discover().registry().row_operations
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_every_block_holds_options_of_a_step(block: str) -> None:
    with_operations(DataOptions, OPERATIONS)(**yaml.safe_load(block))


def test_the_first_block_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(BLOCKS[0])
    (step,) = read_recipe(path).steps
    host = Host.discover()
    validate(step, host.stage(step.stage, where=step.where), host.registry().row_operations)


def test_every_option_is_in_an_example() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.S)
    quoted = [*BLOCKS, *re.findall(r"`([^`]+)`", prose)]
    shown = set(re.findall(r"[a-z_]+(?=:)", "\n".join(quoted)))
    models = (
        RowSelection,
        RowOrder,
        Clean,
        Redact,
        Augment,
        Deduplicate,
        Decontaminate,
        Mixture,
    )
    options = {name for model in models for name in model.model_fields} | set(OPERATIONS)
    assert options - shown == set()


def test_every_kind_of_redaction_and_every_target_is_named() -> None:
    kinds = re.findall(r"^\| `(\w+)` \| `\[(\w+)\]`", PAGE, re.M)
    assert [item for item, _ in kinds] == [other for _, other in kinds] == list(Redact().kinds)
    assert all(f"`{name}`" in PAGE for name in TARGETS)
