"""Write the beginning of something: a recipe, or a plugin that is a complete distribution.

aligner new recipe --model org/name --data talks.jsonl
aligner new plugin my_stage
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.shared.new_recipe import add_recipe

NAME = "new"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    below = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    plugin = below.add_parser(
        "plugin",
        help="a distribution that adds a stage, with a test",
        description="Write a distribution that adds a stage to aligner: packaging, declaration, "
        "work, a test that holds it to aligner's contract, and a README.",
        allow_abbrev=False,
    )
    plugin.add_argument("name", metavar="NAME", help="of the stage: lower-case words joined by _")
    plugin.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where to write it; must not exist yet (default: aligner-NAME)",
    )
    plugin.set_defaults(act=_plugin)
    add_recipe(below)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.act(arguments)
    return code


def _plugin(arguments: argparse.Namespace) -> int:
    # Loads pluggy, pydantic and the plugins, which --help does without.
    from aligner.cli.shared.new_plugin import write_plugin

    return write_plugin(arguments.name, arguments.dir)
