"""List the stages of the installed plugins, or describe one.

Also lists reward functions, data sources and data formats, and the plugins that are not used, with
the reason.
"""

from __future__ import annotations

import argparse

from aligner.cli.arguments import add_json_argument, add_plugin_arguments
from aligner.cli.completers import set_completer, stage_names
from aligner.cli.startup import load_host

NAME = "stages"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stage = parser.add_argument(
        "name", nargs="?", metavar="STAGE", help="Describe this stage with all its options."
    )
    set_completer(stage, stage_names)
    add_json_argument(parser)
    add_plugin_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads rich and pydantic, which --help does without.
    from aligner.terminal.console import make_console, print_to
    from aligner.terminal.json_output import print_json
    from aligner.terminal.plugin_list import (
        plugin_list_json,
        render_plugin_list,
        render_stage,
        stage_json,
    )

    host = load_host(arguments)
    console = make_console()
    if arguments.name is not None:
        stage = host.stage(arguments.name, where="aligner stages")
        if arguments.json:
            print_json(stage_json(stage, host))
        else:
            print_to(console, render_stage(stage, host, console))
    elif arguments.json:
        print_json(plugin_list_json(host))
    else:
        print_to(console, render_plugin_list(host, console))
    return 0
