"""The commands, options and code of `docs/using-a-model.md`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aligner.chat.session import HELP
from aligner.cli.parser import COMMANDS, make_parser

PAGE = (Path(__file__).parents[2] / "docs" / "using-a-model.md").read_text(encoding="utf-8")
NAMES = ("chat", "generate", "export")


def test_the_page_lists_the_commands_of_a_chat() -> None:
    listed = re.findall(r"^\| `(/\w+)", PAGE, re.M)
    assert listed == re.findall(r"^(/\w+)", HELP, re.M)


def test_every_option_on_the_page_exists() -> None:
    parsers = {name: argparse.ArgumentParser() for name in NAMES}
    for name, parser in parsers.items():
        COMMANDS[name].add_arguments(parser)
    options = {
        option
        for parser in parsers.values()
        for action in parser._actions
        for option in action.option_strings
    }
    assert set(re.findall(r"--[a-z][a-z-]*", PAGE)) <= options


def test_every_command_line_on_the_page_can_be_read() -> None:
    lines = re.findall(r"^(?:.*\| )?aligner (.+)$", PAGE, re.M)
    parser = make_parser()
    assert len(lines) == 10
    for line in lines:
        parser.parse_args([word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)])


def test_the_python_on_the_page_runs(small_run: Path, tmp_path: Path) -> None:
    code = PAGE.split("```python\n")[1].split("```")[0].replace("my-run", "small")
    code = code.replace('Path("runs")', f"Path({str(small_run / 'runs')!r})")
    exec(code.replace('Path("my-model")', f"Path({str(tmp_path / 'my-model')!r})"), {})
    assert (tmp_path / "my-model" / "config.json").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_help_of_these_commands_loads_nothing_heavy(name: str) -> None:
    code = (
        f"import sys; from aligner.cli import main; main([{name!r}, '--help']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert f"aligner.cli.commands.{name}" in loaded
    assert loaded & {"torch", "transformers", "peft", "rich", "pydantic", "yaml", "numpy"} == set()
