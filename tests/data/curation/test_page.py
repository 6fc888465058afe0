"""docs/curation.md shows every option, and shows none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from aligner.data.curation.spec import (
    Augment,
    Clean,
    Deduplicate,
    EntryCuration,
    Mixture,
    Redact,
    StepCuration,
)
from aligner.data.options import DataOptions, Decontaminate
from aligner.data.writing import TARGETS
from aligner.host import Host
from aligner.options.validation import validate
from aligner.recipe import read_recipe

PAGE = (Path(__file__).parents[3] / "docs" / "curation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_every_block_holds_options_of_a_step(block: str) -> None:
    DataOptions(**yaml.safe_load(block))


def test_the_first_block_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(BLOCKS[0])
    (step,) = read_recipe(path).steps
    validate(step, Host.discover().stage(step.stage, where=step.where))


def test_every_option_is_in_an_example() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.S)
    quoted = [*BLOCKS, *re.findall(r"`([^`]+)`", prose)]
    shown = set(re.findall(r"[a-z_]+(?=:)", "\n".join(quoted)))
    models = (
        EntryCuration,
        StepCuration,
        Clean,
        Redact,
        Augment,
        Deduplicate,
        Decontaminate,
        Mixture,
    )
    options = {name for model in models for name in model.model_fields} | {"decontaminate"}
    assert options - shown == set()


def test_every_kind_of_redaction_and_every_target_is_named() -> None:
    kinds = re.findall(r"^\| `(\w+)` \| `\[(\w+)\]`", PAGE, re.M)
    assert [one for one, _ in kinds] == [other for _, other in kinds] == list(Redact().kinds)
    assert all(f"`{name}`" in PAGE for name in TARGETS)
