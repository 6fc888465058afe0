"""Convert a configuration file of another tool to a recipe.

Reports, with its line, each setting that has no counterpart, that means something else here, or that
is left out because it is the default, and each option that is added because the defaults differ.

    aligner import config.yaml
    aligner import first.yaml second.yaml --out chain.yaml

Several files become one chain, in their order. Run it in the folder where the other tool is started,
so that relative paths resolve.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.arguments import add_json_argument

NAME = "import"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="Configuration file (YAML)."
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="Output recipe (default: NAME-aligner.yaml)."
    )
    parser.add_argument(
        "--from",
        dest="tool",
        metavar="TOOL",
        help="Tool that the file belongs to (default: detect it).",
    )
    parser.add_argument(
        "--method", metavar="NAME", help="Training method, if the file does not name it (TRL)."
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads pydantic, PyYAML and the plugins, which --help does without.
    from aligner.cli.actions.import_ import import_recipe

    return import_recipe(arguments)
