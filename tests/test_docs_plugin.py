"""`docs/writing-a-plugin.md` quotes the example plugin line for line, and its other blocks hold."""

from __future__ import annotations

import re
from pathlib import Path

import aligner_brevity
from page_code import blocks

import aligner
from aligner.testing import preferences, prompts, write_files, write_tiny

PAGE = (Path(__file__).parents[1] / "docs" / "writing-a-plugin.md").read_text("utf-8")
EXAMPLE = Path(__file__).parent / "example_plugin"
QUOTE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_quote_is_in_its_file() -> None:
    quotes = QUOTE.findall(PAGE)
    assert len(quotes) == 8
    for path, text in quotes:
        whole = f"\n{(EXAMPLE / path).read_text('utf-8')}"
        assert f"\n{text}" in whole, f"{path} does not say:\n{text}"


def test_every_file_is_quoted_whole() -> None:
    whole = {
        path for path, text in QUOTE.findall(PAGE) if text == (EXAMPLE / path).read_text("utf-8")
    }
    files = {
        str(path.relative_to(EXAMPLE))
        for path in EXAMPLE.rglob("*")
        if path.suffix in (".py", ".toml")
    }
    assert files == whole


def test_the_block_on_testing_runs() -> None:
    [code] = [code for code in blocks(PAGE) if "run_stage" in code]
    exec(compile(code, "writing-a-plugin.md", "exec"), {"__name__": "page"})


def test_the_recipe_passes_the_check(tmp_path: Path) -> None:
    [recipe] = blocks(PAGE, "yaml")
    write_tiny(tmp_path / "base")
    pairs = [
        {"ask": row["prompt"], "better": row["chosen"], "worse": row["rejected"]}
        for row in preferences()
    ]
    files = {"pairs.jsonl": pairs, "prompts.jsonl": prompts(), "r.yaml": recipe.lstrip("\n")}
    write_files(tmp_path, files)
    checked = aligner.Recipe.load(tmp_path / "r.yaml", plugins=[aligner_brevity]).check()
    assert list(checked.plans) == ["rdpo", "evaluate"]
