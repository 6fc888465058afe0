"""Arguments that several commands share. Light: `--help` imports no library for them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from aligner.chat.sampling_options import SAMPLING_OPTIONS
from aligner.cli.completers import (
    plugin_names,
    recipe_files,
    run_names,
    set_completer,
    step_names,
)

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def add_json_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="Print JSON for programs.")


def add_plugin_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("plugins")
    no_plugin = group.add_argument(
        "--no-plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="Do not import this plugin. Repeat it for several plugins.",
    )
    only_plugins = group.add_argument(
        "--only-plugins",
        type=_names,
        metavar="PLUGIN,…",
        help="Import these plugins and no others.",
    )
    set_completer(no_plugin, plugin_names)
    set_completer(only_plugins, plugin_names)


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and the overrides of its options."""
    recipe = parser.add_argument("recipe", metavar="RECIPE", help="Recipe file (YAML).")
    set_completer(recipe, recipe_files)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="STEP.OPTION=VALUE",
        help="Override an option of a step, or `seed` or `model`. Repeat it for several options.",
    )


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and the selection of steps to run."""
    add_recipe_argument(parser)
    group = parser.add_argument_group("steps to run")
    group.add_argument(
        "--name", metavar="RUN", type=_run_name, help="Name the run (default: the recipe's name)."
    )
    until = group.add_argument("--until", metavar="STEP", help="Stop after this step.")
    start_from = group.add_argument(
        "--from", metavar="STEP", dest="start_from", help="Run this step and all later steps again."
    )
    set_completer(until, step_names)
    set_completer(start_from, step_names)
    group.add_argument("--fresh", action="store_true", help="Run every step again.")
    add_runs_argument(group)
    add_plugin_arguments(parser)


def add_runs_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="Folder of all runs; runs in one folder share finished steps (default: runs).",
    )


def add_step_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the finished step whose model is used."""
    run = parser.add_argument("name", metavar="RUN", help="Name or folder of a run.")
    step = parser.add_argument(
        "--step", metavar="STEP", help="Use the model of this step (default: the last one)."
    )
    set_completer(run, run_names)
    set_completer(step, step_names)
    add_runs_argument(parser)


def add_sampling_arguments(parser: argparse.ArgumentParser, *, temperature: float) -> None:
    """Add the options of sampling; `temperature` is the command's default."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--temperature",
        metavar="T",
        type=SAMPLING_OPTIONS["temperature"],
        default=temperature,
        help=f"Divide the logits by T; 0 decodes greedily (default: {temperature:g}).",
    )
    group.add_argument(
        "--top-p",
        metavar="P",
        type=SAMPLING_OPTIONS["top_p"],
        default=1.0,
        help="Sample from the most likely tokens with total probability P (default: 1).",
    )
    group.add_argument(
        "--top-k",
        metavar="K",
        type=SAMPLING_OPTIONS["top_k"],
        default=0,
        help="Sample from the K most likely tokens; 0 uses all (default: 0).",
    )
    group.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=SAMPLING_OPTIONS["max_new_tokens"],
        help="Generate at most N tokens per answer (default: 512, or half of the model's context "
        "length if that is less).",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=SAMPLING_OPTIONS["seed"],
        default=0,
        help="Seed of the random numbers (default: 0).",
    )


def positive_int(text: str) -> int:
    """Parse an integer of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def non_negative_int(text: str) -> int:
    """Parse an integer of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a non-negative integer")
    return int(text)


def _names(text: str) -> list[str]:
    return [name for name in text.replace(",", " ").split() if name]


def _run_name(text: str) -> str:
    if not _RUN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid run name: use letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    return text
