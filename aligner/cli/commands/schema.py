"""Print the JSON Schema of recipes for editors.

Editors complete and check recipes with it. It covers the stages of the installed plugins. Write

    # yaml-language-server: $schema=recipe.schema.json

in the first line of a recipe, or set the schema in the editor.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aligner.cli.arguments import add_plugin_arguments
from aligner.cli.startup import load_host

NAME = "schema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="Output file (default: standard output)."
    )
    add_plugin_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads pydantic and the plugins, which --help does without.
    from aligner.options.recipe_schema import recipe_schema
    from aligner.run.durable import write_text

    host = load_host(arguments)
    schema = recipe_schema(host.stages(), host.registry().row_operations)
    text = json.dumps(schema, indent=2) + "\n"
    if arguments.out is None:
        print(text, end="")
    else:
        write_text(arguments.out, text)
    return 0
