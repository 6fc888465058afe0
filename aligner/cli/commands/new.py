"""Create a recipe for a model and data, or a plugin.

Examples:

    aligner new recipe --method sft --model org/name --data talks.jsonl
    aligner new plugin my_stage
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.startup import quiet_imports

NAME = "new"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_plugin(subparsers)
    _add_recipe(subparsers)


def _add_plugin(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plugin = subparsers.add_parser(
        "plugin",
        help="Create a Python package with a new stage and a test.",
        description="Create a Python package that adds a stage to aligner: packaging, options, "
        "stage, a contract test and a README.",
        allow_abbrev=False,
    )
    plugin.add_argument(
        "name", metavar="NAME", help="Name of the stage: lower-case words joined by _."
    )
    plugin.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="Output folder, which must not exist yet (default: aligner-NAME).",
    )
    plugin.set_defaults(new_action=_new_plugin)


def _add_recipe(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    recipe = subparsers.add_parser(
        "recipe",
        help="Create a commented recipe for a method, a model and data.",
        description="Read the tokenizer and the data, choose lengths, batch sizes, learning rates "
        "and a chat template for them, and write a commented recipe that passes `aligner check`. "
        "On a terminal, it asks for missing values.",
        allow_abbrev=False,
    )
    recipe.add_argument("--method", metavar="NAME", help="Training method; see --list.")
    recipe.add_argument("--list", action="store_true", help="List the methods and exit.")
    recipe.add_argument("--model", metavar="MODEL", help="Model folder or Hub id.")
    for option, text in (("data", "Training data"), ("preferences", "Preference pairs")):
        recipe.add_argument(
            f"--{option}",
            action="append",
            default=[],
            metavar="DATA",
            help=f"{text}: file, folder, URL or Hub id. Repeat it for several.",
        )
    recipe.add_argument(
        "--adapter",
        choices=("lora", "qlora", "none"),
        help="Train a LoRA adapter, a LoRA adapter on 4-bit weights, or all weights.",
    )
    recipe.add_argument(
        "--out", type=Path, metavar="FILE", help="Output file (default: NAME.yaml)."
    )
    recipe.set_defaults(new_action=_new_recipe)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.new_action(arguments)
    return code


def _new_plugin(arguments: argparse.Namespace) -> int:
    # Loads pluggy, pydantic and the plugins, which --help does without.
    from aligner.cli.actions.new_plugin import write_plugin

    return write_plugin(arguments.name, arguments.dir)


def _new_recipe(arguments: argparse.Namespace) -> int:
    with quiet_imports():
        from aligner.cli.actions.new_recipe import new_recipe  # loads transformers

    return new_recipe(arguments)
