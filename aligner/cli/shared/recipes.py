"""What `run` and `check` both take: a recipe, the plugins to use, and the folder of runs."""

from __future__ import annotations

import argparse
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aligner.chain import Chain
    from aligner.host import Host

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def add_plugin_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("plugins")
    group.add_argument(
        "--no-plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="leave this plugin out, without importing it; may be given again",
    )
    group.add_argument(
        "--only-plugins",
        type=_names,
        metavar="PLUGIN,…",
        help="use these plugins alone, and import no other",
    )


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """The recipe itself, and what is laid over it."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="STEP.OPTION=VALUE",
        help="another value for an option, or for `seed` or `model`; may be given again",
    )


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_argument(parser)
    group = parser.add_argument_group("what runs")
    group.add_argument(
        "--name", metavar="RUN", type=_run_name, help="the run's name (default: the recipe's)"
    )
    group.add_argument("--until", metavar="STEP", help="stop after this step")
    group.add_argument(
        "--from", metavar="STEP", dest="start_from", help="run this step and all after it again"
    )
    group.add_argument("--fresh", action="store_true", help="run every step again")
    add_runs_argument(group)
    add_plugin_arguments(parser)


def add_runs_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="the folder of runs, which share what they have in common (default: runs)",
    )


def quieten_libraries() -> None:
    """Set what libraries read from the environment when they load; what is set already stays."""
    # TRL reports every trainer it makes to its makers, unless told not to.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # Several processes that each use every core get in one another's way.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # On a CPU it asks, whenever it is loaded, for a package that nothing here needs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def host_for(arguments: argparse.Namespace) -> Host:
    """The host with the plugins that the command line asks for."""
    from aligner.host import Host  # loads pluggy and the plugins, which --help does without

    quieten_libraries()
    return Host.discover(block=arguments.no_plugin, only=arguments.only_plugins)


def linked(arguments: argparse.Namespace, host: Host) -> Chain:
    """The recipe, with its overrides, linked to the stages of `host`."""
    from aligner.chain import link  # loads pydantic and PyYAML, which --help does without
    from aligner.recipe import read_recipe

    recipe = read_recipe(arguments.recipe, overrides=arguments.overrides, keep_going=True)
    return link(recipe, host)


def _names(text: str) -> list[str]:
    return [name for name in text.replace(",", " ").split() if name]


def _run_name(text: str) -> str:
    if not _RUN_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    return text
