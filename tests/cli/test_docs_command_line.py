"""docs/command-line.md names every command and every option of `run`, and no other command."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from aligner.cli.parser import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_the_page_lists_all_commands() -> None:
    table = PAGE.split("## Exit codes")[0]
    assert set(re.findall(r"^\| `aligner (\w+)", table, re.M)) == set(COMMANDS)


def test_the_page_lists_the_options_of_run() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    COMMANDS["run"].add_arguments(parser)
    options = {word for action in parser._actions for word in action.option_strings}
    table = PAGE.split("## Running")[1].split("On a terminal")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)", table, re.M)) == options
