"""The page on recipes is correct."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aligner.errors import ErrorGroup
from aligner.recipe import read_recipe
from aligner.recipe.names import KEYS as KEYS_OF_A_RECIPE

DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


def documented(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOCUMENTATION, re.MULTILINE | re.DOTALL)


def test_recipes_in_the_documentation_read_as_it_says(folder: Path) -> None:
    shown = documented("yaml")
    names = [text.split("\n")[0].removeprefix("# ") for text in shown]
    assert names == ["recipes/tiny.yaml", "recipes/three-betas.yaml", "broken.yaml"]
    (folder / "recipes").mkdir()
    for name, text in zip(names, shown, strict=True):
        Path(name).write_text(text, encoding="utf-8")
    assert [step.name for step in read_recipe(names[1]).steps] == ["chat", "sft", "baseline", "dpo"]
    with pytest.raises(ErrorGroup) as caught:
        read_recipe("broken.yaml")
    assert f"{caught.value}\n" == documented("text")[0]


def test_python_in_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = documented("python")
    exec(compile(code, "recipes.md", "exec"), {})
    assert capsys.readouterr().out == (
        "name: tiny\n"
        "seed: 0\n"
        "model: HuggingFaceTB/SmolLM2-135M\n"
        "steps:\n"
        "- stage: sft\n"
        "  data: instructions.jsonl\n"
        "\n"
    )


def test_every_key_is_in_the_documentation() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", DOCUMENTATION, re.MULTILINE)
    assert [row.strip("`") for row in rows[: len(KEYS_OF_A_RECIPE)]] == list(KEYS_OF_A_RECIPE)


def test_reading_a_recipe_loads_nothing_heavy() -> None:
    code = (
        "import sys, aligner.recipe, aligner.options.validation, aligner.options.recipe_schema;"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "[]\n"
