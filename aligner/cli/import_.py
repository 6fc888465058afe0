"""Read another tool's recipe and write the one that does the same.

Says of each setting, with its line, what has no counterpart, what means something else here, what is
dropped because it is so anyway, and what is added because the other tool's default is not ours.

    aligner import config.yaml
    aligner import first.yaml second.yaml --out chain.yaml

Several files make one chain, in their order. Start it in the folder where the other tool is started,
so that relative paths are found.
"""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "import"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a YAML file")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write it (default: NAME-aligner.yaml)"
    )
    parser.add_argument("--from", dest="tool", metavar="TOOL", help="whose file it is, if in doubt")
    parser.add_argument(
        "--method", metavar="NAME", help="what it trains, where the file does not say (TRL)"
    )
    parser.add_argument("--json", action="store_true", help="write JSON, notes included")


def run(arguments: argparse.Namespace) -> int:
    # Loads pydantic, PyYAML and the plugins, which --help does without.
    from aligner.cli.shared.importing import import_recipe

    return import_recipe(arguments)
