"""Chat with the model of a step, or compare two models.

Answers appear token by token. Ctrl-C stops an answer, Ctrl-D ends the chat, /help lists the chat
commands. If standard input is not a terminal, each line is a user turn, and the answers are printed.
"""

from __future__ import annotations

import argparse

from aligner.cli.arguments import add_sampling_arguments, add_step_arguments
from aligner.cli.completers import set_completer, step_names
from aligner.cli.startup import quiet_imports

NAME = "chat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_step_arguments(parser)
    compare = parser.add_argument(
        "--compare", metavar="STEP", help="Show the answers of this step's model too."
    )
    set_completer(compare, step_names)
    parser.add_argument(
        "--system", metavar="TEXT", default="", help="Start the chat with this system message."
    )
    add_sampling_arguments(parser, temperature=0.7)


def run(arguments: argparse.Namespace) -> int:
    with quiet_imports():
        from aligner.cli.actions.chat import chat  # loads torch

    return chat(arguments)
