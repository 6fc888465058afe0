"""The arguments of `aligner new recipe`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_recipe(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    recipe = below.add_parser(
        "recipe",
        help="a commented recipe for a method, a model and data",
        description="Look at the model and the data, choose lengths, batches, rates and a template "
        "that suit them, and write a commented recipe that passes `aligner check`. What is not "
        "given is asked for on a terminal.",
        allow_abbrev=False,
    )
    recipe.add_argument("--method", metavar="NAME", help="what to train; known: see --list")
    recipe.add_argument("--list", action="store_true", help="list the methods, and write nothing")
    recipe.add_argument("--model", metavar="MODEL", help="a folder, or an id on the hub")
    for option, what in (("data", "what to learn from"), ("preferences", "pairs of answers")):
        recipe.add_argument(
            f"--{option}",
            action="append",
            default=[],
            metavar="DATA",
            help=f"{what}: a file, folder, URL or id on the hub; may be given again",
        )
    recipe.add_argument(
        "--adapter",
        choices=("lora", "qlora", "none"),
        help="train an adapter, one on weights in 4 bits, or all weights",
    )
    recipe.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write it (default: NAME.yaml)"
    )
    recipe.set_defaults(act=_recipe)


def _recipe(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.late import carry_out  # not needed for --help, which must be quick

    return carry_out("aligner.scaffold.command:new_recipe", arguments)
