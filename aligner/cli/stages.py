"""List the stages that the installed plugins offer, or describe one.

Also lists what else the plugins offer to recipes, and the plugins that are not in use, and why.
"""

from __future__ import annotations

import argparse

from aligner.cli.shared.recipes import add_plugin_arguments, host_for
from aligner.terminal.listing import add_json_argument, print_json

NAME = "stages"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="STAGE", help="a stage, to be described in full")
    add_json_argument(parser)
    add_plugin_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Loads rich and pydantic, which --help does without.
    from aligner.terminal.console import console_on, show
    from aligner.terminal.plugin_list import listing, listing_json, page, page_json

    host = host_for(arguments)
    console = console_on()
    if arguments.name is not None:
        stage = host.stage(arguments.name, where="aligner stages")
        if arguments.json:
            print_json(page_json(stage, host))
        else:
            show(console, page(stage, host, console))
    elif arguments.json:
        print_json(listing_json(host))
    else:
        show(console, listing(host, console))
    return 0
