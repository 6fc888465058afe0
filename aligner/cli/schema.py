"""Write the JSON Schema of recipes, which editors complete and check by.

It is composed from the stages of the plugins that are installed here. Put

    # yaml-language-server: $schema=recipe.schema.json

on the first line of a recipe, or name the file in the editor's settings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aligner.cli.shared.recipes import add_plugin_arguments, host_for

NAME = "schema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it here, not to the screen")
    add_plugin_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads pydantic and the plugins, which --help does without.
    from aligner.options.recipe_schema import recipe_schema
    from aligner.run.durable import write_text

    text = json.dumps(recipe_schema(host_for(arguments).stages()), indent=2) + "\n"
    if arguments.out is None:
        print(text, end="")
    else:
        write_text(arguments.out, text)
    return 0
