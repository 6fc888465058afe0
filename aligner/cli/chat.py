"""Talk to the model that a step of a run left, or to two of them at once.

Answers appear as they are written. Ctrl-C stops an answer, Ctrl-D leaves, /help lists what else
there is. Without a terminal each line of the input is a turn, and the answers are the output.
"""

from __future__ import annotations

import argparse

from aligner.cli.shared.sampling import add_sampling_arguments, add_step_arguments

NAME = "chat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_step_arguments(parser, having="that left a policy")
    parser.add_argument("--compare", metavar="STEP", help="another step, which answers as well")
    parser.add_argument("--system", metavar="TEXT", default="", help="begin with this system turn")
    add_sampling_arguments(parser, temperature=0.7)


def run(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.late import carry_out  # not needed for --help, which must be quick

    return carry_out("aligner.chat.command:chat", arguments)
